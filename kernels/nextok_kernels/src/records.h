// What is handed from sampling to encoding, and how it is called from Python.
#pragma once

#include <cstdint>

#define NEXTOK_EXPORT extern "C" __attribute__((visibility("default")))

namespace nextok {

// One token that could come next.
struct Candidate {
  int32_t id;
  float logprob;
  int32_t rank;
  float prob;
  int32_t kept;
};
static_assert(sizeof(Candidate) == 20);

constexpr uint32_t kMostCandidates = 256;  // of one row

}  // namespace nextok
