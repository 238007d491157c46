// The operators of domain `nextok`, as ONNX Runtime calls them: inputs, outputs, threads.
// What they compute is in kernels.h; docs/kernels.md lists inputs, outputs and attributes.
#include <algorithm>

#include "call.h"
#include "kernels.h"
#include "pages.h"

namespace nextok {

const runtime::Api* api = nullptr;

namespace {

// Rows of a product that are worth fetching a panel for, where another thread has it.
constexpr size_t kRowsOfTask = 16;
// Work that is not worth waking a thread for.
constexpr size_t kFewRows = 3;
constexpr size_t kFewScores = 2048;

struct Attributes {
  const runtime::Info* info;

  int64_t whole(const char* name) const { return read<int64_t>(name); }
  float real(const char* name) const { return read<float>(name); }

  // The data of an input that is part of the model; null where it is not.
  const void* constant(size_t input) const {
    int is_constant = 0;
    const runtime::Value* value = nullptr;
    check(api->constant(info, input, &is_constant, &value));
    void* data = nullptr;
    if (is_constant) check(api->data(const_cast<runtime::Value*>(value), &data));
    return data;
  }

 private:
  template <typename T>
  T read(const char* name) const {
    T value{};
    check(api->attribute(info, name, &value));
    return value;
  }
};

// Token and position embedding.
template <bool kBytes>
struct Embedding {
  // ids [T], positions [T], places [C, W], table, scales (int8 only)
  static constexpr runtime::Type kInputs[] = {runtime::kInt64, runtime::kInt64, runtime::kFloat,
                                              kBytes ? runtime::kInt8 : runtime::kFloat,
                                              runtime::kFloat};
  static constexpr size_t kRequired = kBytes ? 5 : 4, kAll = kRequired;
  static constexpr runtime::Type kOutputs[] = {runtime::kFloat};
  static constexpr size_t kOutputCount = 1;
  static constexpr const char* kName = kBytes ? "EmbeddingInt8" : "EmbeddingFloat32";

  size_t width, vocabulary;

  explicit Embedding(const Attributes& a)
      : width(a.whole("width")), vocabulary(a.whole("vocabulary")) {}

  void compute(Call& call) const {
    const size_t rows = call.sizes(0).of[0];
    const auto* ids = call.input<const int64_t>(0);
    const auto* positions = call.input<const int64_t>(1);
    const auto* places = call.input<const float>(2);
    const size_t context = call.sizes(2).of[0];
    float* out = call.output<float>(0, {static_cast<int64_t>(rows), static_cast<int64_t>(width)});
    for (size_t i = 0; i < rows; ++i) {
      if (static_cast<uint64_t>(ids[i]) >= vocabulary)
        fail("input_ids holds " + std::to_string(ids[i]) + "; allowed: 0 to " +
             std::to_string(vocabulary - 1));
      if (static_cast<uint64_t>(positions[i]) >= context)
        fail("position_ids holds " + std::to_string(positions[i]) + "; allowed: 0 to " +
             std::to_string(context - 1));
      float* row = out + i * width;
      if constexpr (kBytes) {
        kernels().row_bytes(call.input<const int8_t>(3), call.input<const float>(4), width, ids[i],
                            row);
      } else {
        kernels().row_float(call.input<const float>(3), width, ids[i], row);
      }
      for (size_t k = 0; k < width; ++k) row[k] += places[positions[i] * width + k];
    }
  }
};

enum class Weights { kFloat32, kInt8, kInt4 };

// A product with weights, after a layer norm if one is given.
template <Weights kWeights>
struct Linear {
  // x [T, K], weights, scales and sums of weights (int8 only), bias [N]; for a layer norm of
  // x + change + change_bias: its weight and bias [K], change [T, K], change_bias [K]
  static constexpr bool kBytes = kWeights == Weights::kInt8;
  static constexpr runtime::Type kWeightType =
      kWeights == Weights::kFloat32 ? runtime::kFloat : kBytes ? runtime::kInt8 : runtime::kUint8;
  static constexpr runtime::Type kInputs[] = {
      runtime::kFloat, kWeightType,     runtime::kFloat, runtime::kInt32, runtime::kFloat,
      runtime::kFloat, runtime::kFloat, runtime::kFloat, runtime::kFloat};
  static constexpr size_t kRequired = 2, kAll = 9;
  static constexpr runtime::Type kOutputs[] = {runtime::kFloat, runtime::kFloat};
  static constexpr size_t kOutputCount = 2;
  static constexpr const char* kName = kWeights == Weights::kFloat32 ? "LinearFloat32"
                                       : kBytes                      ? "LinearInt8"
                                                                     : "LinearInt4";

  size_t inputs, outputs;
  bool twofold;
  Activation activation;
  float epsilon;

  explicit Linear(const Attributes& a)
      : inputs(a.whole("in_features")),
        outputs(a.whole("out_features")),
        twofold(kBytes && a.whole("activation_bits") == 16),
        activation(a.whole("gelu_tanh") ? Activation::kGeluTanh : Activation::kNone),
        epsilon(a.real("epsilon")) {
    if (const void* weights = a.constant(1)) into_large_pages(weights, stored_bytes());
  }

  // Of the weights.
  size_t stored_bytes() const {
    const size_t groups = (inputs + kGroup - 1) / kGroup;
    const size_t panel = kWeights == Weights::kFloat32 ? inputs * kPanel * sizeof(float)
                         : kBytes                      ? groups * kGroup * kPanel
                                                       : groups * kGroupBytes;
    return panels(outputs) * panel;
  }

  void compute(Call& call) const {
    const int64_t rows = call.sizes(0).of[0];
    const float* x = call.input<const float>(0);
    Norm norm{};
    norm.weight = call.input<const float>(5);
    if (norm.weight) {
      norm.bias = call.input<const float>(6);
      norm.residual = x;
      norm.change = call.input<const float>(7);
      norm.change_bias = call.input<const float>(8);
      norm.epsilon = epsilon;
      norm.width = inputs;
      norm.sum = call.output<float>(1, {rows, static_cast<int64_t>(inputs)});
      norm.out = scratch<0, float>(rows * inputs);
      if (!norm.sum) norm.sum = norm.out;
      x = norm.out;
    }
    ByteRows rounded{};
    if constexpr (kWeights != Weights::kFloat32) {
      rounded.stride = (inputs + 31) / 32 * 32;
      rounded.values = scratch<1, uint8_t>(rows * rounded.stride * (twofold ? 2 : 1));
      rounded.scales = scratch<2, float>(rows);
      if (kWeights == Weights::kInt4)
        rounded.group_sums = scratch<3, int32_t>(rows * (rounded.stride / kGroup));
    }
    const Kernels& k = kernels();
    const auto prepare = [&](size_t row) {
      if (norm.weight) k.norm(norm, row);
      if constexpr (kBytes)
        (twofold ? k.round_twofold : k.round_unsigned)(x + row * inputs, inputs, rounded, row);
      if constexpr (kWeights == Weights::kInt4)
        k.round_signed(x + row * inputs, inputs, rounded, row);
    };
    if (norm.weight || kWeights != Weights::kFloat32) {
      if (rows <= static_cast<int64_t>(kFewRows)) {
        for (int64_t row = 0; row < rows; ++row) prepare(row);
      } else {
        call.parallel(rows, prepare);
      }
    }
    const Epilogue epilogue{call.input<const float>(4), activation,
                            call.output<float>(0, {rows, static_cast<int64_t>(outputs)}), outputs};
    const auto* weights = call.input<const void>(1);
    const auto* scales = call.input<const float>(2);
    const auto* sums = call.input<const int32_t>(3);
    const auto product = [&](size_t panel, size_t first, size_t last) {
      if constexpr (kWeights == Weights::kFloat32) {
        k.product_float(x, inputs, static_cast<const float*>(weights), epilogue, panel, first,
                        last);
      } else if constexpr (kBytes) {
        (twofold ? k.product_twofold : k.product_bytes)(rounded, static_cast<const int8_t*>(weights),
                                                        scales, sums, epilogue, panel, first, last);
      } else {
        k.product_nibbles(rounded, static_cast<const uint8_t*>(weights), epilogue, panel, first,
                          last);
      }
    };
    // Rows in blocks that stay in the cache beside a panel, blocks in parts that a thread may take
    // over from another one. A block's parts for one panel follow each other.
    const size_t all = panels(outputs), blocks = (rows + kMostRows - 1) / kMostRows;
    const size_t parts = (rows + blocks * kRowsOfTask - 1) / (blocks * kRowsOfTask);
    const auto border = [&](size_t part) { return part * rows / (blocks * parts); };
    call.parallel_runs(blocks * all * parts, parts, [&](size_t from, size_t to) {
      while (from < to) {
        const size_t run = from / parts, next = std::min(to, (run + 1) * parts);
        const size_t part = run / all * parts + from % parts;
        product(run % all, border(part), border(part + next - from));
        from = next;
      }
    });
  }
};

// Causal attention; writes keys and values of the tokens into the cache first.
template <bool kBytes>
struct CachedAttention {
  // packed [T, 3 * H * D], keys and values [S, H, C, D], slots [T], positions [T],
  // key and value scales [H * D] (int8 only)
  static constexpr runtime::Type kCache = kBytes ? runtime::kInt8 : runtime::kFloat;
  static constexpr runtime::Type kInputs[] = {runtime::kFloat, kCache,          kCache,
                                              runtime::kInt32, runtime::kInt64, runtime::kFloat,
                                              runtime::kFloat};
  static constexpr size_t kRequired = kBytes ? 7 : 5, kAll = kRequired;
  static constexpr runtime::Type kOutputs[] = {runtime::kFloat, kCache, kCache};
  static constexpr size_t kOutputCount = 3;
  static constexpr const char* kName = kBytes ? "AttentionInt8" : "AttentionFloat32";

  float scale;

  explicit CachedAttention(const Attributes& a) : scale(a.real("scale")) {}

  void compute(Call& call) const {
    const size_t rows = call.sizes(0).of[0];
    const Sizes cache = call.sizes(1);
    Attention a{};
    a.packed = call.input<const float>(0);
    a.keys = call.input<void>(1);
    a.values = call.input<void>(2);
    a.slots = call.input<const int32_t>(3);
    a.positions = call.input<const int64_t>(4);
    if constexpr (kBytes) {
      a.key_scale = call.input<const float>(5);
      a.value_scale = call.input<const float>(6);
    }
    a.heads = cache.of[1];
    a.capacity = cache.of[2];
    a.head_size = cache.of[3];
    a.scale = scale;
    if (a.capacity % 16) fail("the cache's capacity has to be a multiple of 16");
    if (a.head_size > 256) fail("heads are larger than 256");
    const int64_t width = a.heads * a.head_size;
    a.out = call.output<float>(0, {static_cast<int64_t>(rows), width});
    const auto same = [&](size_t output, void* memory) {
      const auto& s = cache.of;
      if (call.output<void>(output, {s[0], s[1], s[2], s[3]}) != memory)
        fail("past and present have to be bound to the same memory");
    };
    same(1, a.keys);
    same(2, a.values);
    size_t longest = 0, scores = 0;
    for (size_t i = 0; i < rows; ++i) {
      if (a.slots[i] < 0 || a.slots[i] >= cache.of[0])
        fail("slots holds " + std::to_string(a.slots[i]) + "; allowed: 0 to " +
             std::to_string(cache.of[0] - 1));
      if (static_cast<uint64_t>(a.positions[i]) >= a.capacity)
        fail("position_ids holds " + std::to_string(a.positions[i]) + "; allowed: 0 to " +
             std::to_string(a.capacity - 1));
      longest = std::max<size_t>(longest, a.positions[i] + 1);
      scores += a.positions[i] + 1;
    }
    const Kernels& k = kernels();
    const auto remember = [&](size_t i) { (kBytes ? k.remember_bytes : k.remember_float)(a, i); };
    if (rows <= kFewRows) {
      for (size_t i = 0; i < rows; ++i) remember(i);
    } else {
      call.parallel(rows, remember);
    }
    const size_t stride = (longest + 15) / 16 * 16;
    const auto attend = [&](size_t first, size_t last, size_t head) {
      float* memory = scratch<4, float>(kTokensTogether * stride);
      (kBytes ? k.attend_bytes : k.attend_float)(a, first, last, head, memory, stride);
    };
    if (scores * a.heads <= kFewScores) {
      for (size_t head = 0; head < a.heads; ++head) attend(0, rows, head);
      return;
    }
    // The tokens of a text follow each other, so one head of them shares what it reads.
    constexpr size_t kTokens = 2 * kTokensTogether;
    const size_t parts = (rows + kTokens - 1) / kTokens;
    call.parallel(parts * a.heads, [&](size_t task) {
      const size_t first = task / a.heads * kTokens, head = task % a.heads;
      attend(first, std::min(first + kTokens, rows), head);
    });
  }
};

// What is told of each wanted position.
struct Probabilities {
  // logits [R, V], inverse temperature [R, 1]
  static constexpr runtime::Type kInputs[] = {runtime::kFloat, runtime::kFloat};
  static constexpr size_t kRequired = 2, kAll = 2;
  static constexpr runtime::Type kOutputs[] = {runtime::kFloat, runtime::kFloat, runtime::kInt64,
                                               runtime::kFloat, runtime::kFloat, runtime::kFloat};
  static constexpr size_t kOutputCount = 6;
  static constexpr const char* kName = "Probabilities";

  size_t candidates;

  explicit Probabilities(const Attributes& a) : candidates(a.whole("candidates")) {}

  void compute(Call& call) const {
    const Sizes sizes = call.sizes(0);
    const int64_t rows = sizes.of[0], vocabulary = sizes.of[1];
    const auto* logits = call.input<const float>(0);
    const auto* inverse = call.input<const float>(1);
    const auto wanted = static_cast<int64_t>(std::min<size_t>(candidates, vocabulary));
    auto* logprobs = call.output<float>(0, {rows, vocabulary});
    auto* top = call.output<float>(1, {rows, wanted});
    auto* ids = call.output<int64_t>(2, {rows, wanted});
    auto* entropy = call.output<float>(3, {rows});
    auto* largest = call.output<float>(4, {rows});
    auto* mass = call.output<float>(5, {rows});
    const size_t blocks = (vocabulary + 63) / 64;
    call.parallel(rows, [&](size_t i) {
      const Distribution d{logits + i * vocabulary,   static_cast<size_t>(vocabulary),
                           static_cast<size_t>(wanted), inverse[i],
                           logprobs + i * vocabulary, top + i * wanted,
                           ids + i * wanted,          entropy + i,
                           largest + i,               mass + i};
      kernels().distribution(d, scratch<5, float>(2 * blocks + 2 * vocabulary));
    });
  }
};

// Runs what may fail, and hands ONNX Runtime the message.
template <typename Body>
runtime::Status* guarded(const Body& body) {
  try {
    body();
    return nullptr;
  } catch (const Failure& failure) {
    return failure.status;
  } catch (const std::exception& error) {
    return api->create_status(runtime::kFail, error.what());
  }
}

// Describes an operator to ONNX Runtime.
template <typename Kernel>
const runtime::Operator* described() {
  using runtime::Operator;
  static const Operator op = [] {
    Operator o{};
    o.version = runtime::kVersion;
    o.name = [](const Operator*) { return Kernel::kName; };
    o.provider = [](const Operator*) -> const char* { return nullptr; };
    o.inputs = [](const Operator*) { return Kernel::kAll; };
    o.outputs = [](const Operator*) { return Kernel::kOutputCount; };
    o.input_type = [](const Operator*, size_t i) { return Kernel::kInputs[i]; };
    o.output_type = [](const Operator*, size_t i) { return Kernel::kOutputs[i]; };
    o.input_presence = [](const Operator*, size_t i) {
      return i < Kernel::kRequired ? runtime::kRequired : runtime::kOptional;
    };
    o.output_presence = [](const Operator*, size_t i) {
      return i == 0 ? runtime::kRequired : runtime::kOptional;
    };
    o.input_memory = [](const Operator*, size_t) { return 0; };
    o.variadic_input_least = o.variadic_input_alike = [](const Operator*) { return 1; };
    o.variadic_output_least = o.variadic_output_alike = [](const Operator*) { return 1; };
    o.create_checked = [](const Operator*, const runtime::Api*, const runtime::Info* info,
                          void** made) {
      return guarded([&] { *made = new Kernel(Attributes{info}); });
    };
    o.compute_checked = [](void* kernel, runtime::Context* context) {
      return guarded([&] {
        Call call(context);
        static_cast<const Kernel*>(kernel)->compute(call);
      });
    };
    o.destroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
    o.first_version = [](const Operator*) { return 1; };
    o.last_version = [](const Operator*) { return 1; };
    return o;
  }();
  return &op;
}

template <typename... Kernels>
void add_all(runtime::Domain* domain) {
  (check(api->add_operator(domain, described<Kernels>())), ...);
}

}  // namespace
}  // namespace nextok

// What ONNX Runtime looks for in a library of custom operators.
extern "C" __attribute__((visibility("default"))) runtime::Status* RegisterCustomOps(
    runtime::SessionOptions* options, const runtime::ApiBase* base) {
  using namespace nextok;
  api = base->get(runtime::kVersion);
  return guarded([&] {
    if (!chosen()) fail("NEXTOK_KERNELS names a build that this processor does not run");
    // Lives as long as the process: sessions keep no count of who uses it.
    static runtime::Domain* domain = [] {
      runtime::Domain* made;
      check(api->create_domain("nextok", &made));
      add_all<Embedding<false>, Embedding<true>, Linear<Weights::kFloat32>, Linear<Weights::kInt8>,
              Linear<Weights::kInt4>, CachedAttention<false>, CachedAttention<true>,
              Probabilities>(made);
      return made;
    }();
    check(api->add_domain(options, domain));
  });
}

// The name of the build that is used; null where NEXTOK_KERNELS names one that does not run here.
extern "C" __attribute__((visibility("default"))) const char* nextok_kernels_build() {
  return nextok::chosen() ? nextok::chosen()->name : nullptr;
}
