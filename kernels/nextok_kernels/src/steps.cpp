// Generated tokens and candidates in protobuf's wire format.
//
// Knows the fields of nextok.v1's Step and Candidate. Does not know ONNX Runtime, nor where the
// numbers come from: they are records, as nextok_server.step_bytes packs them. Encoding is done for
// every token on the cores that the model runs on, by when the weights have thrown everything else
// out of the caches: so one small piece of code, which touches little memory.
#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "records.h"

namespace {

using nextok::Candidate;

// One generated token. Behind it come `top` and `chosen` candidates, `delta` bytes of text and
// `full` floats.
struct Step {
  uint32_t index, choice, id, rank;
  float logprob, prob, entropy, top_mass, tail_mass, margin, allowed_mass;
  uint32_t flags;
  double elapsed_seconds;
  uint32_t top, chosen, delta, full;
};
static_assert(std::endian::native == std::endian::little, "as numbers are on the wire");
static_assert(sizeof(Step) == 72);
constexpr uint32_t kForced = 1, kHasAllowedMass = 2;

// What tokens say of themselves: the text and the bytes of token i lie from offset i to i + 1.
struct Tokens {
  const char* text;
  const uint32_t* text_offsets;
  const char* bytes;
  const uint32_t* byte_offsets;
  uint32_t count;  // those from here on say nothing
};

enum WireType : uint32_t { kVarint = 0, kFixed64 = 1, kLength = 2, kFixed32 = 5 };

constexpr uint32_t tag(uint32_t field, WireType type) { return field << 3 | type; }

// Counts what a Writer would write.
class Counter {
 public:
  void varint(uint64_t value) {
    do ++size;
    while (value >>= 7);
  }
  void raw(const void*, size_t count) { size += count; }

  size_t size = 0;
};

class Writer {
 public:
  explicit Writer(char* at) : at_(at) {}

  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) *at_++ = static_cast<char>(value | 0x80);
    *at_++ = static_cast<char>(value);
  }
  void raw(const void* data, size_t count) {
    std::memcpy(at_, data, count);
    at_ += count;
  }

 private:
  char* at_;
};

template <typename Out>
void whole(Out& out, uint32_t field, uint64_t value) {
  if (!value) return;
  out.varint(tag(field, kVarint));
  out.varint(value);
}

template <typename Out>
void real(Out& out, uint32_t field, float value) {
  out.varint(tag(field, kFixed32));
  out.raw(&value, sizeof value);
}

template <typename Out>
void text(Out& out, uint32_t field, const char* data, size_t size) {
  if (!size) return;
  out.varint(tag(field, kLength));
  out.varint(size);
  out.raw(data, size);
}

// The fields id, token and bytes, which have numbers that follow each other.
template <typename Out>
void token(Out& out, uint32_t field, uint32_t id, const Tokens& tokens) {
  whole(out, field, id);
  if (id >= tokens.count) return;
  const auto put = [&](uint32_t number, const char* data, const uint32_t* offsets) {
    text(out, number, data + offsets[id], offsets[id + 1] - offsets[id]);
  };
  put(field + 1, tokens.text, tokens.text_offsets);
  put(field + 2, tokens.bytes, tokens.byte_offsets);
}

template <typename Message>
Message read(const char*& from) {
  Message message;
  std::memcpy(&message, from, sizeof message);
  from += sizeof message;
  return message;
}

template <typename Out>
void content(Out& out, const Candidate& candidate, const Tokens& tokens) {
  token(out, 1, candidate.id, tokens);
  real(out, 4, candidate.logprob);
  whole(out, 5, candidate.rank);
  if (candidate.prob != 0) real(out, 6, candidate.prob);
  whole(out, 7, candidate.kept);
}

// An entry of a repeated field of messages: its size goes before it.
template <typename Out, typename Content>
void entry(Out& out, uint32_t field, const Content& fill) {
  Counter counter;
  fill(counter);
  out.varint(tag(field, kLength));
  out.varint(counter.size);
  if constexpr (std::is_same_v<Out, Counter>) {
    out.size += counter.size;
  } else {
    fill(out);
  }
}

template <typename Out>
void candidates(Out& out, uint32_t field, const char* from, size_t count, const Tokens& tokens) {
  for (size_t i = 0; i < count; ++i) {
    const Candidate candidate = read<Candidate>(from);
    entry(out, field, [&](auto& to) { content(to, candidate, tokens); });
  }
}

template <typename Out>
void content(Out& out, const Step& step, const char* from, const Tokens& tokens) {
  whole(out, 1, step.index);
  whole(out, 2, step.choice);
  token(out, 3, step.id, tokens);
  real(out, 6, step.logprob);
  whole(out, 7, step.rank);
  real(out, 8, step.prob);
  const char* chosen = from + step.top * sizeof(Candidate);
  const char* delta = chosen + step.chosen * sizeof(Candidate);
  text(out, 9, delta, step.delta);
  candidates(out, 10, from, step.top, tokens);
  candidates(out, 11, chosen, step.chosen, tokens);
  text(out, 12, delta + step.delta, step.full * sizeof(float));
  real(out, 13, step.entropy);
  real(out, 14, -step.logprob);  // the surprisal
  real(out, 15, step.top_mass);
  real(out, 16, step.tail_mass);
  real(out, 17, step.margin);
  whole(out, 18, (step.flags & kForced) != 0);
  if (step.flags & kHasAllowedMass) real(out, 19, step.allowed_mass);
  out.varint(tag(20, kFixed64));
  out.raw(&step.elapsed_seconds, sizeof step.elapsed_seconds);
}

// Where a step that begins here ends.
const char* end(const Step& step, const char* behind) {
  return behind + (size_t{step.top} + step.chosen) * sizeof(Candidate) + step.delta +
         step.full * sizeof(float);
}

template <typename Out>
void steps(Out& out, uint32_t field, const char* from, const char* last, const Tokens& tokens) {
  while (from < last) {
    const Step step = read<Step>(from);
    entry(out, field, [&](auto& to) { content(to, step, from, tokens); });
    from = end(step, from);
  }
}

// Writes what fits, all or nothing; returns what all takes.
template <typename Fill>
size_t into(char* out, size_t capacity, const Fill& fill) {
  Counter counter;
  fill(counter);
  if (counter.size <= capacity) {
    Writer writer(out);
    fill(writer);
  }
  return counter.size;
}

}  // namespace

// Encodes the steps of `size` bytes at `from` as entries of a repeated field. Returns the bytes that
// they take; they are written to `out` if that has room for them.
NEXTOK_EXPORT size_t nextok_encode_steps(uint32_t field, const char* from, size_t size,
                                         const Tokens* tokens, char* out, size_t capacity) {
  return into(out, capacity, [&](auto& to) { steps(to, field, from, from + size, *tokens); });
}

// The same for candidates.
NEXTOK_EXPORT size_t nextok_encode_candidates(uint32_t field, const char* from, size_t size,
                                              const Tokens* tokens, char* out, size_t capacity) {
  return into(out, capacity, [&](auto& to) {
    candidates(to, field, from, size / sizeof(Candidate), *tokens);
  });
}
