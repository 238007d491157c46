// Weights in large pages.
//
// A step reads all weights once, at the speed of memory. In pages of 4 kB, a tenth to a third of
// that time goes into finding out where the pages are; a virtual machine looks them up twice.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace nextok {

// Moves what is stored at [from, from + bytes) into pages of 2 MB, with what is beside it in them.
// Where the system has none, or no room for them, everything stays as it is.
inline void into_large_pages(const void* from, size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr uintptr_t kLarge = uintptr_t{2} << 20;
  constexpr int kCollapse = 25;  // MADV_COLLAPSE, from Linux 6.1 on; older headers lack it
  const auto start = reinterpret_cast<uintptr_t>(from) / kLarge * kLarge;
  const auto end = (reinterpret_cast<uintptr_t>(from) + bytes + kLarge - 1) / kLarge * kLarge;
  // Where parts of it are no memory of this process, the rest is moved all the same.
  madvise(reinterpret_cast<void*>(start), end - start, MADV_HUGEPAGE);
  // One by one: a page that something else holds for a moment would keep all that follow from it.
  for (uintptr_t page = start; page < end; page += kLarge) {
    constexpr int kTries = 3;
    for (int i = 0; i < kTries; ++i)
      if (!madvise(reinterpret_cast<void*>(page), kLarge, kCollapse) || errno != EAGAIN) break;
  }
#else
  (void)from;
  (void)bytes;
#endif
}

}  // namespace nextok
