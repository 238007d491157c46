// Sixteen floats, or sixteen 32-bit integers, at a time.
//
// The algorithms are written once over these vectors; a build for one family of processors differs
// only in how a few operations are spelled. Every operation rounds alike in every build, so results
// do not depend on the processor. Code that includes this is compiled once a build, inside the
// namespace that NEXTOK_BUILD names.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace NEXTOK_BUILD {

constexpr int kLanes = 16;

typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef uint8_t Bytes __attribute__((vector_size(64)));
typedef int8_t SignedBytes __attribute__((vector_size(64)));

template <typename Vector>
inline Vector load(const void* from) {
  Vector v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

template <typename Vector>
inline void store(void* to, Vector v) {
  std::memcpy(to, &v, sizeof v);
}

// x - 0 is always x, which compilers know; x + 0 is not where x is -0.
inline Floats all(float x) { return x - Floats{}; }
inline Ints all(int32_t x) { return Ints{} + x; }

// The first `count` of sixteen; the rest are zeros.
inline Floats load_first(const float* from, int count) {
  if (count >= kLanes) return load<Floats>(from);
  Floats v{};
  std::memcpy(&v, from, sizeof(float) * count);
  return v;
}

inline void store_first(float* to, Floats v, int count) {
  if (count >= kLanes) {
    store(to, v);
  } else {
    std::memcpy(to, &v, sizeof(float) * count);
  }
}

// The lower or the upper half of a vector.
template <typename Half, typename Vector>
inline Half part(Vector v, int half) {
  Half h;
  static_assert(sizeof h == 32);
  std::memcpy(&h, reinterpret_cast<const char*>(&v) + half * 32, 32);
  return h;
}

// a * b + c, rounded once.
inline Floats fma(Floats a, Floats b, Floats c) {
#if defined(__AVX512F__)
  return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
  Floats r;
  for (int half = 0; half < 2; ++half) {
    const __m256 product = _mm256_fmadd_ps(part<__m256>(a, half), part<__m256>(b, half),
                                           part<__m256>(c, half));
    std::memcpy(reinterpret_cast<char*>(&r) + half * 32, &product, 32);
  }
  return r;
#else
  for (int i = 0; i < kLanes; ++i) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return c;
#endif
}

inline Floats max(Floats a, Floats b) { return a > b ? a : b; }

inline Floats to_floats(Ints v) { return __builtin_convertvector(v, Floats); }

// To the nearest whole number, halves to even. |v| < 2^31.
inline Ints round(Floats v) {
#if defined(__AVX512F__)
  return (Ints)_mm512_cvtps_epi32((__m512)v);
#elif defined(__AVX2__)
  Ints r;
  for (int half = 0; half < 2; ++half) {
    const __m256i whole = _mm256_cvtps_epi32(part<__m256>(v, half));
    std::memcpy(reinterpret_cast<char*>(&r) + half * 32, &whole, 32);
  }
  return r;
#else
  Ints r;
  for (int i = 0; i < kLanes; ++i) r[i] = static_cast<int32_t>(__builtin_rintf(v[i]));
  return r;
#endif
}

// Sixteen signed bytes.
inline Floats load_bytes(const int8_t* from) {
#if defined(__AVX512F__)
  return (Floats)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load<__m128i>(from)));
#else
  Floats v;
  for (int i = 0; i < kLanes; ++i) v[i] = from[i];
  return v;
#endif
}

// Sixteen numbers of 16-bit floating point.
inline Floats load_halves(const uint16_t* from) {
#if defined(__AVX512F__)
  return (Floats)_mm512_cvtph_ps(load<__m256i>(from));
#else
  Floats v;
  for (int i = 0; i < kLanes; ++i) {
    _Float16 half;
    std::memcpy(&half, from + i, sizeof half);
    v[i] = static_cast<float>(half);
  }
  return v;
#endif
}

// Adds to each of sixteen sums the products of four unsigned with four signed bytes.
inline Ints add_products(Ints sums, Bytes a, SignedBytes b) {
#if defined(__AVX512VNNI__)
  return (Ints)_mm512_dpbusd_epi32((__m512i)sums, (__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  // In 16 bits, the even bytes apart from the odd ones: no sum of two products overflows.
  Ints products;
  for (int half = 0; half < 2; ++half) {
    const __m256i x = part<__m256i>(a, half), y = part<__m256i>(b, half);
    const __m256i even = _mm256_madd_epi16(_mm256_and_si256(x, _mm256_set1_epi16(255)),
                                           _mm256_srai_epi16(_mm256_slli_epi16(y, 8), 8));
    const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(x, 8), _mm256_srai_epi16(y, 8));
    const __m256i both = _mm256_add_epi32(even, odd);
    std::memcpy(reinterpret_cast<char*>(&products) + half * 32, &both, 32);
  }
  return sums + products;
#else
  for (int i = 0; i < kLanes; ++i) {
    int32_t sum = 0;
    for (int j = 0; j < 4; ++j) sum += int32_t{a[4 * i + j]} * b[4 * i + j];
    sums[i] += sum;
  }
  return sums;
#endif
}

// Four bytes, sixteen times.
template <typename Vector>
inline Vector all_four(const void* from) {
  int32_t four;
  std::memcpy(&four, from, sizeof four);
  return (Vector)all(four);
}

// Sum and maximum over the lanes, always in the same order: halves are folded onto each other.
template <typename Fold>
inline float folded(Floats v, Fold fold) {
  v = fold(v, __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
  v = fold(v, __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11));
  v = fold(v, __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13));
  v = fold(v, __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14));
  return v[0];
}

inline float sum(Floats v) {
  return folded(v, [](Floats a, Floats b) { return a + b; });
}

inline float maximum(Floats v) {
  return folded(v, [](Floats a, Floats b) { return max(a, b); });
}

// The sums over the lanes of sixteen vectors, each as `sum` makes it. Overwrites them.
inline Floats sums(Floats (&rows)[kLanes]) {
  // Each round adds the upper half of what is left of a row to its lower half, and packs two
  // vectors' rows into one.
  for (int i = 0; i < 8; ++i) {
    const Floats a = rows[2 * i], b = rows[2 * i + 1];
    rows[i] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
              __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  }
  for (int i = 0; i < 4; ++i) {
    const Floats a = rows[2 * i], b = rows[2 * i + 1];
    rows[i] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
              __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  }
  for (int i = 0; i < 2; ++i) {
    const Floats a = rows[2 * i], b = rows[2 * i + 1];
    rows[i] = __builtin_shufflevector(a, b, 0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29) +
              __builtin_shufflevector(a, b, 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31);
  }
  const Floats a = rows[0], b = rows[1];
  return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30) +
         __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
}

// e to the power of x, to about two units in the last place; x is taken as within -87 and 88.
// By argument reduction to [-ln 2 / 2, ln 2 / 2] and a Taylor polynomial of degree 7.
inline Floats exp(Floats x) {
  x = max(x, all(-87.0f));
  x = x < 88.0f ? x : all(88.0f);
  const Ints n = round(x * 1.44269504f);
  const Floats count = to_floats(n);
  // ln 2 in two parts, the first with few digits, so that count times it is exact.
  Floats r = fma(count, all(-0.693359375f), x);
  r = fma(count, all(2.12194440e-4f), r);
  Floats p = all(1.0f / 5040);
  p = fma(p, r, all(1.0f / 720));
  p = fma(p, r, all(1.0f / 120));
  p = fma(p, r, all(1.0f / 24));
  p = fma(p, r, all(1.0f / 6));
  p = fma(p, r, all(0.5f));
  p = fma(p, r, all(1.0f));
  p = fma(p, r, all(1.0f));
  return p * (Floats)((n + 127) << 23);
}

}  // namespace NEXTOK_BUILD
