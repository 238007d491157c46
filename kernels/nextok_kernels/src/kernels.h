// The computations behind the operators, as one build for a family of processors provides them.
//
// Knows shapes and packed weights. Does not know ONNX Runtime or threads: each function does one
// piece of an operator, and pieces may run at once. What a piece computes for one row is the same,
// bit for bit, whatever other rows there are.
//
// Letters: T rows (tokens), K inputs of a product, N outputs, panels of 64 outputs, D size of a
// head, C capacity of the cache, V vocabulary.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nextok {

constexpr int kPanel = 64;       // outputs that are stored side by side
constexpr int kGroup = 32;       // 4-bit weights of one output that share a scale
constexpr int kGroupBytes = kPanel * kGroup / 2 + kPanel * 2;  // values, then scales

constexpr size_t kRowsOfPart = 6;  // of a product that are computed together
constexpr size_t kMostRows = 96;   // of one call of a product, so that they stay in the cache
constexpr int kTokensTogether = 4;  // of a text whose attention is computed together

inline size_t panels(size_t outputs) { return (outputs + kPanel - 1) / kPanel; }

enum class Activation { kNone, kGeluTanh };

// What becomes of a product's sums.
struct Epilogue {
  const float* bias;  // [N], or null
  Activation activation;
  float* out;         // [T, N]
  size_t outputs;     // N
};

// A residual stream, a change to it, and the layer norm that follows.
struct Norm {
  const float* residual;     // [T, W]
  const float* change;       // [T, W], or null
  const float* change_bias;  // [W], or null
  const float* weight;       // [W]
  const float* bias;         // [W]
  float epsilon;
  size_t width;              // W
  float* sum;                // [T, W]: residual + change + change_bias
  float* out;                // [T, W]: the normalized sum
};

// Rows rounded to bytes; their scale is the largest magnitude / 127. Or to 16 bits, as two rows each:
// upper bytes, then lower ones; their scale is the largest magnitude / 32512.
struct ByteRows {
  uint8_t* values;  // [T, stride], each 128 more than the rounded value; signed for 4-bit weights;
                    // of 16 bits only the upper byte is 128 more
  float* scales;    // [T]
  size_t stride;    // K, rounded up to a multiple of 32; the rest holds zeros
  int32_t* group_sums;  // [T, stride / 32], for 4-bit weights only
};

// One token's place in the cache, and all that its attention needs.
struct Attention {
  const float* packed;     // [T, 3 * H * D]: query, key, value side by side
  void* keys;              // [slots, H, C, D], float or int8
  void* values;
  const float* key_scale;    // [H * D] for int8, else null
  const float* value_scale;
  const int32_t* slots;      // [T]
  const int64_t* positions;  // [T]
  size_t heads, head_size, capacity;
  float scale;
  float* out;                // [T, H * D]
};

// A row of logits and what is told of it.
struct Distribution {
  const float* logits;     // [V]
  size_t vocabulary;       // V
  size_t candidates;       // how many of the most likely tokens
  float inverse_temperature;
  float* logprobs;         // [V]
  float* top_logprobs;     // [candidates], descending, ties by lower id
  int64_t* top_ids;
  float* entropy;          // nats
  float* logit_max;
  float* temperature_mass; // sum of exp((logprob - largest) * inverse_temperature)
};

struct Kernels {
  const char* name;

  void (*norm)(const Norm&, size_t row);

  void (*round_unsigned)(const float* row, size_t inputs, const ByteRows&, size_t index);
  void (*round_signed)(const float* row, size_t inputs, const ByteRows&, size_t index);
  void (*round_twofold)(const float* row, size_t inputs, const ByteRows&, size_t index);

  // One panel of outputs for rows [first, last).
  // float weights [panels, K, 64]
  void (*product_float)(const float* x, size_t inputs, const float* weights, const Epilogue&,
                        size_t panel, size_t first, size_t last);
  // int8 weights [panels, stride / 4, 64, 4], scales [panels * 64], sums of weights [panels * 64]
  void (*product_bytes)(const ByteRows& x, const int8_t* weights, const float* scales,
                        const int32_t* sums, const Epilogue&, size_t panel, size_t first,
                        size_t last);
  // The same for rows of 16 bits.
  void (*product_twofold)(const ByteRows& x, const int8_t* weights, const float* scales,
                          const int32_t* sums, const Epilogue&, size_t panel, size_t first,
                          size_t last);
  // 4-bit weights [panels, stride / 32, kGroupBytes]
  void (*product_nibbles)(const ByteRows& x, const uint8_t* weights, const Epilogue&, size_t panel,
                          size_t first, size_t last);

  // One head's keys and values of one token to the cache; then its attention for tokens
  // [first, last).
  // scratch [kTokensTogether, stride], stride a multiple of 16 that no text is longer than
  void (*remember_float)(const Attention&, size_t token, size_t head);
  void (*remember_bytes)(const Attention&, size_t token, size_t head);
  void (*attend_float)(const Attention&, size_t first, size_t last, size_t head, float* scratch,
                       size_t stride);
  void (*attend_bytes)(const Attention&, size_t first, size_t last, size_t head, float* scratch,
                       size_t stride);

  void (*distribution)(const Distribution&, float* scratch);

  // One token's row of a table, out of weights packed as above: [K].
  void (*row_float)(const float* weights, size_t inputs, size_t row, float* out);
  void (*row_bytes)(const int8_t* weights, const float* scales, size_t inputs, size_t row,
                    float* out);
};

// The fastest build that this processor runs, or the one that the environment variable
// NEXTOK_KERNELS names; null where the processor does not run that one.
const Kernels* chosen();

inline const Kernels& kernels() { return *chosen(); }

}  // namespace nextok
