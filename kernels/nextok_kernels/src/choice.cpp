// Chooses a build by what the processor can do.
#include <cstdlib>
#include <cstring>

#include "kernels.h"
#include "tiles.h"

namespace nextok {

#define NEXTOK_DECLARE(BUILD) \
  }                           \
  namespace BUILD {           \
  extern const nextok::Kernels table; \
  }                           \
  namespace nextok {

#if defined(__x86_64__)
NEXTOK_DECLARE(nextok_avx512)
NEXTOK_DECLARE(nextok_avx2)
#endif
NEXTOK_DECLARE(nextok_portable)

namespace {

// What this processor runs, the fastest first; ends with null.
const Kernels* const* runnable() {
  static const Kernels* found[5] = {};
  size_t count = 0;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    if (tiles_run_here()) found[count++] = &with_tiles();
    found[count++] = &nextok_avx512::table;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("f16c"))
    found[count++] = &nextok_avx2::table;
#endif
  found[count] = &nextok_portable::table;
  return found;
}

const Kernels* choose() {
  const Kernels* const* found = runnable();
  const char* wanted = std::getenv("NEXTOK_KERNELS");
  if (!wanted || !*wanted) return *found;
  for (; *found; ++found)
    if (!std::strcmp((*found)->name, wanted)) return *found;
  return nullptr;
}

}  // namespace

const Kernels* chosen() {
  static const Kernels* const kernels = choose();
  return kernels;
}

}  // namespace nextok
