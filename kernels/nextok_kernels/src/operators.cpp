// The operators of domain `nextok`, as ONNX Runtime calls them: inputs, outputs, threads.
// What they compute is in kernels.h; docs/kernels.md lists inputs, outputs and attributes.
#include <algorithm>

#include "operator.h"
#include "repeats.h"

namespace nextok {

namespace {

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
  static constexpr bool kRest = false;
  static constexpr const char* kName = kBytes ? "EmbeddingInt8" : "EmbeddingFloat32";

  size_t width, vocabulary;

  explicit Embedding(const Attributes& a)
      : width(a.whole("width")), vocabulary(a.whole("vocabulary")) {}

  void compute(Call& call) const {
    const size_t rows = call.sizes(0).of[0], context = call.sizes(2).of[0];
    float* out = call.output<float>(0, {static_cast<int64_t>(rows), static_cast<int64_t>(width)});
    Work work{rows,
              context,
              call.input<const int64_t>(0),
              call.input<const int64_t>(1),
              call.input<const float>(2),
              call.input<const void>(3),
              kBytes ? call.input<const float>(4) : nullptr,
              out};
    act(work);
    if (Repeats* repeats = Repeats::wanted()) {
      work.out = repeats->made(out, rows * width);
      repeats->add([this, work] { act(work); });
    }
  }

 private:
  struct Work {
    size_t rows, context;
    const int64_t* ids;
    const int64_t* positions;
    const float* places;
    const void* table;
    const float* scales;
    float* out;
  };

  void act(const Work& work) const {
    for (size_t i = 0; i < work.rows; ++i) {
      const int64_t id = work.ids[i], position = work.positions[i];
      if (static_cast<uint64_t>(id) >= vocabulary)
        fail("input_ids holds " + std::to_string(id) + "; allowed: 0 to " +
             std::to_string(vocabulary - 1));
      if (static_cast<uint64_t>(position) >= work.context)
        fail("position_ids holds " + std::to_string(position) + "; allowed: 0 to " +
             std::to_string(work.context - 1));
      float* row = work.out + i * width;
      if constexpr (kBytes) {
        kernels().row_bytes(static_cast<const int8_t*>(work.table), work.scales, width, id, row);
      } else {
        kernels().row_float(static_cast<const float*>(work.table), width, id, row);
      }
      for (size_t k = 0; k < width; ++k) row[k] += work.places[position * width + k];
    }
  }
};

// What one operator does by itself. Of each thread that calls one, and kept for its next call.
struct Errand {
  Plan plan;
  Space space;

  static Errand& started() {
    static thread_local Errand errand;
    errand.plan.clear();
    errand.space.clear();
    return errand;
  }
};

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
  static constexpr bool kRest = false;
  static constexpr const char* kName = kWeights == Weights::kFloat32 ? "LinearFloat32"
                                       : kBytes                      ? "LinearInt8"
                                                                     : "LinearInt4";

  std::shared_ptr<Team> team;
  Matrix matrix;
  Activation activation;
  float epsilon;

  explicit Linear(const Attributes& a)
      : team(a.threads->team()),
        matrix{kWeights,
               static_cast<size_t>(a.whole("in_features")),
               static_cast<size_t>(a.whole("out_features")),
               kBytes && a.whole("activation_bits") == 16,
               nullptr,
               nullptr,
               nullptr},
        activation(a.whole("gelu_tanh") ? Activation::kGeluTanh : Activation::kNone),
        epsilon(a.real("epsilon")) {
    a.enlarge_pages(1, matrix);
  }

  void compute(Call& call) const {
    const int64_t rows = call.sizes(0).of[0];
    Matrix weights = matrix;
    weights.values = call.input<const void>(1);
    weights.scales = call.input<const float>(2);
    weights.sums = call.input<const int32_t>(3);
    Source source{call.input<const float>(0)};
    source.norm_weight = call.input<const float>(5);
    if (source.norm_weight) {
      source.norm_bias = call.input<const float>(6);
      source.change = call.input<const float>(7);
      source.change_bias = call.input<const float>(8);
      source.epsilon = epsilon;
      source.sum = call.output<float>(1, {rows, static_cast<int64_t>(matrix.inputs)});
    }
    const auto outputs = static_cast<int64_t>(matrix.outputs);
    Epilogue epilogue{call.input<const float>(4), activation,
                      call.output<float>(0, {rows, outputs}), matrix.outputs};
    act(weights, source, rows, epilogue);
    if (Repeats* repeats = Repeats::wanted()) {
      source.x = repeats->given(source.x);
      if (source.change) source.change = repeats->given(source.change);
      if (source.sum) source.sum = repeats->made(source.sum, rows * matrix.inputs);
      epilogue.out = repeats->made(epilogue.out, rows * matrix.outputs);
      repeats->add([this, weights, source, rows, epilogue] {
        act(weights, source, rows, epilogue);
      });
    }
  }

 private:
  void act(const Matrix& weights, const Source& source, size_t rows,
           const Epilogue& epilogue) const {
    Errand& errand = Errand::started();
    add_product(errand.plan, errand.space, weights, source, rows, epilogue);
    team->run(errand.plan.phases);
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
  static constexpr bool kRest = false;
  static constexpr const char* kName = kBytes ? "AttentionInt8" : "AttentionFloat32";

  std::shared_ptr<Team> team;
  float scale;

  explicit CachedAttention(const Attributes& a) : team(a.threads->team()), scale(a.real("scale")) {}

  void compute(Call& call) const {
    const size_t rows = call.sizes(0).of[0];
    Attention a = checked_attention(call.sizes(1), call.input<const int32_t>(3),
                                    call.input<const int64_t>(4), rows);
    a.packed = call.input<const float>(0);
    a.keys = call.input<void>(1);
    a.values = call.input<void>(2);
    if constexpr (kBytes) {
      a.key_scale = call.input<const float>(5);
      a.value_scale = call.input<const float>(6);
    }
    a.scale = scale;
    check_present(call, 1, a.keys, call.sizes(1));
    check_present(call, 2, a.values, call.sizes(1));
    const auto width = static_cast<int64_t>(a.heads * a.head_size);
    a.out = call.output<float>(0, {static_cast<int64_t>(rows), width});
    Errand& errand = Errand::started();
    add_attention(errand.plan, a, kBytes, rows, true);
    team->run(errand.plan.phases);
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
  static constexpr bool kRest = false;
  static constexpr const char* kName = "Probabilities";

  std::shared_ptr<Team> team;
  size_t candidates;

  explicit Probabilities(const Attributes& a)
      : team(a.threads->team()), candidates(a.whole("candidates")) {}

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
    Work work{static_cast<size_t>(rows),
              inverse,
              {logits, static_cast<size_t>(vocabulary), static_cast<size_t>(wanted), 1, logprobs,
               top, ids, entropy, largest, mass}};
    act(work);
    if (Repeats* repeats = Repeats::wanted()) {
      work.first.logits = repeats->given(logits);
      repeats->add([this, work] { act(work); });
      repeats->go_on();
    }
  }

 private:
  struct Work {
    size_t rows;
    const float* inverse_temperature;  // [R]
    Distribution first;
  };

  void act(const Work& work) const {
    Errand& errand = Errand::started();
    const Distribution& first = work.first;
    const size_t v = first.vocabulary, k = first.candidates;
    auto* all = errand.plan.works.take<Distribution>(work.rows);
    for (size_t i = 0; i < work.rows; ++i)
      all[i] = {first.logits + i * v,
                v,
                k,
                work.inverse_temperature[i],
                first.logprobs + i * v,
                first.top_logprobs + i * k,
                first.top_ids + i * k,
                first.entropy + i,
                first.logit_max + i,
                first.temperature_mass + i};
    Phase phase{};
    phase.work = all;
    phase.count = work.rows;
    phase.task = [](const void* work, size_t first, size_t last) {
      for (size_t i = first; i < last; ++i) {
        const Distribution& d = static_cast<const Distribution*>(work)[i];
        const size_t blocks = (d.vocabulary + 63) / 64;
        kernels().distribution(d, scratch<0, float>(2 * blocks + 2 * d.vocabulary));
      }
    };
    errand.plan.phases.push_back(phase);
    team->run(errand.plan.phases);
  }
};

}  // namespace

Attention checked_attention(const Sizes& cache, const int32_t* slots, const int64_t* positions,
                            size_t rows) {
  Attention a{};
  a.slots = slots;
  a.positions = positions;
  a.heads = cache.of[1];
  a.capacity = cache.of[2];
  a.head_size = cache.of[3];
  if (a.capacity % 16) fail("the cache's capacity has to be a multiple of 16");
  if (a.head_size > 256) fail("heads are larger than 256");
  for (size_t i = 0; i < rows; ++i) {
    if (slots[i] < 0 || slots[i] >= cache.of[0])
      fail("slots holds " + std::to_string(slots[i]) + "; allowed: 0 to " +
           std::to_string(cache.of[0] - 1));
    if (static_cast<uint64_t>(positions[i]) >= a.capacity)
      fail("position_ids holds " + std::to_string(positions[i]) + "; allowed: 0 to " +
           std::to_string(a.capacity - 1));
  }
  return a;
}

void check_present(Call& call, size_t output, const void* past, const Sizes& sizes) {
  const auto& s = sizes.of;
  if (call.output<void>(output, {s[0], s[1], s[2], s[3]}) != past)
    fail("past and present have to be bound to the same memory");
}

void add_operators(runtime::Domain* domain, Threads* threads) {
  add_all<Embedding<false>, Embedding<true>, Linear<Weights::kFloat32>, Linear<Weights::kInt8>,
          Linear<Weights::kInt4>, CachedAttention<false>, CachedAttention<true>, Probabilities>(
      domain, threads);
}

}  // namespace nextok
