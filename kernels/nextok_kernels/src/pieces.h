// The computations of kernels.h as phases of a team's work.
#pragma once

#include <vector>

#include "kernels.h"
#include "space.h"
#include "team.h"

namespace nextok {

enum class Weights { kFloat32, kInt8, kInt4 };

// A matrix of the model as it is stored; see docs/kernels.md.
struct Matrix {
  Weights kind;
  size_t inputs, outputs;  // K, N
  bool twofold;            // int8 for rows of 16 bits
  const void* values;
  const float* scales;     // int8 only
  const int32_t* sums;     // int8 only

  size_t stored_bytes() const;
};

// What a product is taken of: rows as they are, or a layer norm of what they and a change add up to.
struct Source {
  const float* x;                      // [T, K]
  const float* norm_weight = nullptr;  // [K], or null for no layer norm, and then for all of these
  const float* norm_bias = nullptr;    // [K]
  const float* change = nullptr;       // [T, K], or null
  const float* change_bias = nullptr;  // [K], or null
  float epsilon = 0;
  float* sum = nullptr;                // [T, K] gets x + change + change_bias, or null
};

// What a team is to do.
struct Plan {
  std::vector<Phase> phases;
  Space works;  // what the phases are about

  void clear() {
    phases.clear();
    works.clear();
  }
};

// Adds a product of `rows` rows with a matrix. What it needs on its way is taken from `space`.
void add_product(Plan& plan, Space& space, const Matrix& matrix, const Source& source,
                 size_t rows, const Epilogue& epilogue);

// Adds what keeps the keys and values of `rows` tokens in the cache.
void add_memory(Plan& plan, const Attention& attention, bool bytes, size_t rows);

// Adds the attention of `rows` tokens; if `remember`, after what keeps their keys and values.
void add_attention(Plan& plan, const Attention& attention, bool bytes, size_t rows, bool remember);

}  // namespace nextok
