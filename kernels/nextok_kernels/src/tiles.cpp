// Products of bytes by tiles (Intel's AMX), for many rows at once. All else is as for AVX-512.
//
// A tile has 16 rows of 64 bytes. One instruction multiplies 16 rows of 64 inputs with 64 inputs of
// 16 outputs, which lie in the packed weights as it wants them. Whole numbers add up to the same in
// any order, so the bits are those of every other build.
#include "tiles.h"

#include <cpuid.h>

#include <algorithm>

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "simd.h"

namespace nextok_avx512 {
extern const nextok::Kernels table;
}

namespace NEXTOK_BUILD {

using namespace nextok;

#include "epilogue.inc"

namespace {

constexpr size_t kTileRows = 16;
constexpr size_t kTileBytes = 64;
constexpr size_t kMostTogether = 2 * kTileRows;
// Fewer wait for memory in any case.
constexpr size_t kFewRows = 4;

// Of all eight tiles, as LDTILECFG reads it.
struct alignas(64) Configuration {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  void set(int tile, size_t count) {
    rows[tile] = static_cast<uint8_t>(count);
    row_bytes[tile] = kTileBytes;
  }
};

// Tiles 0 and 1 get the sums of the first rows, 2 and 3 those of the others. 4 and 5 hold their
// inputs, 6 and 7 the weights of twice 16 outputs.
void configure(size_t upper, size_t lower) {
  Configuration c;
  for (const int tile : {0, 1, 4}) c.set(tile, upper);
  if (lower)
    for (const int tile : {2, 3, 5}) c.set(tile, lower);
  for (const int tile : {6, 7}) c.set(tile, kTileRows);
  _tile_loadconfig(&c);
}

// Sums [rows, 64] of a panel, for one tile's rows or two tiles' rows.
template <bool Both, int Lines>
void add_up(const uint8_t* x, size_t stride, const int8_t* weights, int32_t* sums,
            const char* ahead) {
  const uint8_t* lower = x + kTileRows * stride;
  for (int v = 0; v < kVectors; v += 2) {
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (Both) {
      _tile_zero(2);
      _tile_zero(3);
    }
    for (size_t k = 0; k < stride; k += kTileBytes) {
      const int8_t* w = weights + k * kPanel + v * kTileBytes;
      expect<Lines>(ahead);
      _tile_loadd(6, w, kPanel * 4);
      _tile_loadd(7, w + kTileBytes, kPanel * 4);
      _tile_loadd(4, x + k, stride);
      _tile_dpbusd(0, 4, 6);
      _tile_dpbusd(1, 4, 7);
      if constexpr (Both) {
        _tile_loadd(5, lower + k, stride);
        _tile_dpbusd(2, 5, 6);
        _tile_dpbusd(3, 5, 7);
      }
    }
    int32_t* out = sums + v * kLanes;
    constexpr size_t kRow = kPanel * sizeof(int32_t);
    _tile_stored(0, out, kRow);
    _tile_stored(1, out + kLanes, kRow);
    if constexpr (Both) {
      _tile_stored(2, out + kTileRows * kPanel, kRow);
      _tile_stored(3, out + kTileRows * kPanel + kLanes, kRow);
    }
  }
}

void product_bytes(const ByteRows& x, const int8_t* weights, const float* scales,
                   const int32_t* weight_sums, const Epilogue& e, size_t panel, size_t first,
                   size_t last) {
  if (last - first <= kFewRows || x.stride % kTileBytes) {
    nextok_avx512::table.product_bytes(x, weights, scales, weight_sums, e, panel, first, last);
    return;
  }
  weights += panel * x.stride * kPanel;
  const size_t bytes = x.stride * kPanel;
  const char* ahead = reinterpret_cast<const char*>(weights) + bytes;
  alignas(64) int32_t sums[kMostTogether * kPanel];
  const size_t parts = (last - first + kMostTogether - 1) / kMostTogether;
  for (size_t part = 0; part < parts; ++part) {
    const size_t rows = (last - first) / (parts - part);
    const size_t upper = std::min(rows, kTileRows), lower = rows - upper;
    const uint8_t* values = x.values + first * x.stride;
    configure(upper, lower);
    // The first rows ask for the panel that follows, 32 lines a turn, as many as a turn reads.
    if (part == 0) {
      (lower ? add_up<true, 32> : add_up<false, 32>)(values, x.stride, weights, sums, ahead);
    } else {
      (lower ? add_up<true, 0> : add_up<false, 0>)(values, x.stride, weights, sums, ahead);
    }
    for (int v = 0; v < kVectors; ++v) {
      const size_t output = panel * kPanel + v * kLanes;
      const Floats scale = load<Floats>(scales + output);
      const Ints offset = load<Ints>(weight_sums + output) * 128;
      for (size_t r = 0; r < rows; ++r) {
        const Ints total = load<Ints>(sums + r * kPanel + v * kLanes);
        finish(e, first + r, output, to_floats(total - offset) * (scale * x.scales[first + r]));
      }
    }
    first += rows;
  }
  // Tiles that hold nothing need not be kept when the thread loses its core.
  _tile_release();
}

// Whether the system lets this process use tiles; asks it to.
bool are_granted() {
#if defined(__linux__)
  constexpr long kRequest = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
#else
  return false;
#endif
}

}  // namespace
}  // namespace NEXTOK_BUILD

namespace nextok {

bool tiles_run_here() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kTiles = 1u << 24, kBytes = 1u << 25;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & kTiles) && (d & kBytes) &&
         NEXTOK_BUILD::are_granted();
}

const Kernels& with_tiles() {
  static const Kernels kernels = [] {
    Kernels changed = nextok_avx512::table;
    changed.name = "AMX";
    changed.product_bytes = NEXTOK_BUILD::product_bytes;
    return changed;
  }();
  return kernels;
}

}  // namespace nextok
