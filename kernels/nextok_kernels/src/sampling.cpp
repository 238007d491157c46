// Chooses a row's next token from its most likely ones, and says what is told of those.
//
// For rows that a request changes nothing of but by temperature, top-k, top-p and min-p, which are
// nearly all: as nextok_server.sampling does it for every row, in the same steps. Those that the
// head does not settle are left to that. It is done between two steps while the other processors
// wait, so it touches little memory and calls nothing but exp.
#include <cmath>
#include <cstdint>
#include <limits>

#include "sampling.h"

namespace {

using nextok::Choice;
using nextok::Outputs;
using nextok::Request;

// How far the graph's float32 sum may be off, relative.
constexpr double kMassSlack = 1e-5;

// Philox4x64-10, as nextok_server.philox has it, for the first completion of a seed.
double uniform(uint64_t seed, uint64_t position) {
  constexpr uint64_t kMultiplier0 = 0xD2E7470EE14C6C93, kMultiplier1 = 0xCA5A826395121157;
  constexpr uint64_t kWeyl0 = 0x9E3779B97F4A7C15, kWeyl1 = 0xBB67AE8584CAA73B;
  __extension__ using Wide = unsigned __int128;
  uint64_t key0 = seed, key1 = 0;
  uint64_t c0 = position + 1, c1 = c0 == 0, c2 = 0, c3 = 0;
  for (int round = 0; round < 10; ++round) {
    const Wide product0 = Wide{kMultiplier0} * c0, product1 = Wide{kMultiplier1} * c2;
    const uint64_t upper0 = product0 >> 64, upper1 = product1 >> 64;
    c0 = upper1 ^ c1 ^ key0;
    c2 = upper0 ^ c3 ^ key1;
    c1 = static_cast<uint64_t>(product1);
    c3 = static_cast<uint64_t>(product0);
    key0 += kWeyl0;
    key1 += kWeyl1;
  }
  return static_cast<double>(c0 >> 11) * 0x1p-53;
}

// First place of an ascending [count] whose value is at least the target, or greater than it.
template <bool kGreater>
uint32_t place_of(const double* ascending, uint32_t count, double target) {
  uint32_t place = 0;
  while (place < count && (kGreater ? ascending[place] <= target : ascending[place] < target))
    ++place;
  return place;
}

// The most likely tokens of a row, weighed, and how many of them are kept.
class Head {
 public:
  Head(const float* logprobs, uint32_t k, uint32_t vocabulary, const Request& request,
       double temperature_mass)
      : k_(k) {
    uint32_t length = k;
    bool whole = k == vocabulary;
    if (request.top_k && request.top_k <= k) length = request.top_k, whole = true;
    double sum = 0;
    for (uint32_t i = 0; i < k; ++i) {
      weights_[i] = std::exp((static_cast<double>(logprobs[i]) - static_cast<double>(logprobs[0])) *
                             request.inverse_temperature);
      sums_[i] = sum += weights_[i];
    }
    const bool keeps_all = request.top_p >= 1 && request.min_p <= 0;
    const bool knows_mass = whole || !request.top_k || request.top_k >= vocabulary;
    double all = std::numeric_limits<double>::quiet_NaN();
    if (knows_mass) all = whole ? sums_[length - 1] : temperature_mass;
    if (!whole && knows_mass && keeps_all) {
      kept_ = k;
      mass = std::fmax(all, sums_[k - 1]);
      return;
    }
    const uint32_t beyond = whole ? length : length + 1;
    uint32_t least = beyond;
    if (request.min_p > 0) {
      uint32_t count = 0;
      while (count < length && weights_[count] >= request.min_p) ++count;
      if (count < length && count < least) least = count;
    }
    if (request.top_p < 1) {
      if (!knows_mass) return;
      const double slack = whole ? 0 : kMassSlack, target = request.top_p * all;
      const uint32_t count = place_of<false>(sums_, length, target * (1 - slack));
      if (count != place_of<false>(sums_, length, target * (1 + slack))) return;
      if (count + 1 < least) least = count + 1;
    }
    if (least > length) return;
    kept_ = least;
    mass = sums_[least - 1];
  }

  // Whether these tokens tell what is kept.
  bool settled() const { return kept_ > 0; }

  bool keeps(uint32_t place) const { return place < kept_; }
  double prob(uint32_t place) const { return keeps(place) ? weights_[place] / mass : 0; }

  // The place that belongs to a number of [0, 1), or k where it is none of these.
  uint32_t draw(double u) const {
    const double target = u * mass, head = sums_[kept_ - 1];
    if (target < head) return place_of<true>(sums_, kept_, target);
    // Only rounding leads past the end of all that is kept.
    return mass > head ? k_ : place_of<false>(sums_, kept_, head);
  }

  double mass = 0;  // of all kept tokens together

 private:
  uint32_t k_, kept_ = 0;
  double weights_[nextok::kMostCandidates], sums_[nextok::kMostCandidates];
};

}  // namespace

NEXTOK_EXPORT int nextok_choose(const Outputs* outputs, const Request* request, Choice* choice) {
  const uint32_t k = outputs->k, told = request->told < k ? request->told : k;
  const float* logprobs = outputs->top_logprobs + size_t{request->row} * k;
  const int64_t* ids = outputs->top_ids + size_t{request->row} * k;
  uint32_t place = 0;
  if (request->greedy) {
    choice->prob = 1;
    for (uint32_t i = 0; i < told; ++i)
      choice->candidates[i] = {static_cast<int32_t>(ids[i]), logprobs[i],
                               static_cast<int32_t>(i + 1), i ? 0.0f : 1.0f, i ? 0 : 1};
  } else {
    // At temperature 1 the sum over the vocabulary is known: the probabilities add up to 1.
    const double mass = request->inverse_temperature == 1
                            ? std::exp(-static_cast<double>(logprobs[0]))
                            : outputs->temperature_mass[request->row];
    const Head head(logprobs, k, outputs->vocabulary, *request, mass);
    if (!head.settled()) return 0;
    place = head.draw(uniform(request->seed, request->position));
    if (place == k) return 0;
    choice->prob = static_cast<float>(head.prob(place));
    for (uint32_t i = 0; i < told; ++i)
      choice->candidates[i] = {static_cast<int32_t>(ids[i]), logprobs[i],
                               static_cast<int32_t>(i + 1), static_cast<float>(head.prob(i)),
                               head.keeps(i)};
  }
  choice->id = static_cast<int32_t>(ids[place]);
  choice->logprob = logprobs[place];
  choice->rank = static_cast<int32_t>(place + 1);
  choice->entropy = outputs->entropy[request->row];
  double top_mass = 0;
  for (uint32_t i = 0; i < told; ++i) top_mass += std::exp(static_cast<double>(logprobs[i]));
  choice->top_mass = std::fmin(1.0, top_mass);
  choice->margin = k > 1 ? static_cast<double>(logprobs[0] - logprobs[1])
                         : std::numeric_limits<double>::infinity();
  return 1;
}
