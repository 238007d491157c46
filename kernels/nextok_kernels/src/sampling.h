// What a token is chosen from, and what is told of it, as Python packs and reads it; see
// nextok_kernels.sampling.
#pragma once

#include "records.h"

namespace nextok {

// The model's outputs: R rows of K candidates.
struct Outputs {
  const float* top_logprobs;  // [R, K], descending, ties by lower id
  const int64_t* top_ids;     // [R, K]
  const float* entropy;       // [R]
  const float* temperature_mass;  // [R]: sum of exp((logprob - largest) * inverse temperature)
  uint32_t k, vocabulary;
};

struct Request {
  uint32_t row;
  uint32_t told;  // candidates
  uint32_t greedy, top_k;  // 0: keeps all
  double inverse_temperature;
  double top_p, min_p;
  uint64_t seed, position;  // of the draw
};

struct Choice {
  int32_t id;
  float logprob;
  int32_t rank;
  float prob;
  double entropy, top_mass, margin;
  Candidate candidates[kMostCandidates];
};
static_assert(sizeof(Outputs) == 40 && sizeof(Request) == 56);

}  // namespace nextok

// Returns 0 where the row's most likely tokens do not settle it; `choice` then holds nothing.
NEXTOK_EXPORT int nextok_choose(const nextok::Outputs* outputs, const nextok::Request* request,
                                nextok::Choice* choice);
