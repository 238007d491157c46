// All layers of a model as one operator, so that its threads go through them without waiting for
// ONNX Runtime, or for one of them that has lost its processor.
#include <algorithm>
#include <cstring>
#include <vector>

#include "operator.h"
#include "repeats.h"

namespace nextok {

namespace {

// Rows up to which a thread may be some layers ahead of another one: what each layer computes on
// its way is kept so much longer, 50 kB a row where the width is 768.
constexpr size_t kRowsKept = 64;
constexpr size_t kLayersKept = 3;

struct NormWeights {
  const float* weight;  // [W]
  const float* bias;    // [W]
};

// The weights of one layer.
struct Layer {
  NormWeights before_attention, before_mlp;
  Matrix packed, attended, inner, outer;
  const float* packed_bias;    // [3 W]
  const float* attended_bias;  // [W]
  const float* inner_bias;     // [inner]
  const float* outer_bias;     // [W]
  const float* key_scale;      // [W], of an int8 cache
  const float* value_scale;
  size_t keys, values;         // which inputs they are
};

// The residual stream and what is to be added to it.
struct Stream {
  const float* residual;     // [T, W]
  const float* change;       // [T, W], or null
  const float* change_bias;  // [W], or null
};

// Which rows somebody wants to know about.
struct Wanted {
  const int64_t* rows;  // [R]
  size_t count;         // R
  bool are_all;         // each row once, in order
};

// Rows that are copied to where they stand side by side.
struct Copy {
  const int64_t* rows;
  struct {
    const float* from;
    float* to;
    size_t stride, size;  // of a row, and what is copied of it
  } tables[2];

  void row(size_t index) const {
    for (const auto& table : tables)
      std::memcpy(table.to + index * table.stride, table.from + rows[index] * table.stride,
                  table.size * sizeof(float));
  }
};

template <bool kBytes>
struct Layers {
  // x [T, W], slots [T], positions [T], wanted rows [R], scales of attention [layers]; then of each
  // layer: weight and bias of its first norm; weights and bias of the product that gives query, key
  // and value, and of the one with what is attended; weight and bias of the second norm; weights and
  // bias of the MLP's two products; keys and values [S, H, C, D]; of an int8 cache, their scales
  // [W]. Weights are one input; three at int8: weights, scales, sums.
  static constexpr runtime::Type kCache = kBytes ? runtime::kInt8 : runtime::kFloat;
  static constexpr runtime::Type kInputs[] = {runtime::kFloat, runtime::kInt32, runtime::kInt64,
                                              runtime::kInt64, runtime::kFloat};
  static constexpr size_t kRequired = 5, kAll = 5;
  // The residual stream of the wanted rows, and its last change without its bias [R, W]; caches.
  static constexpr runtime::Type kOutputs[] = {runtime::kFloat, runtime::kFloat, kCache};
  static constexpr size_t kOutputCount = 3;
  static constexpr bool kRest = true;
  static constexpr const char* kName = kBytes ? "LayersInt8" : "LayersFloat32";

  explicit Layers(const Attributes& a)
      : team_(a.threads->team()),
        width_(a.whole("width")),
        inner_(a.whole("inner")),
        epsilon_(a.real("epsilon")),
        layers_(a.whole("layers")) {
    const int64_t bits = a.whole("weight_bits");
    if (bits != 32 && bits != 8 && bits != 4)
      fail("weight_bits is " + std::to_string(bits) + "; allowed: 4, 8, 32");
    const Weights kind = bits == 32  ? Weights::kFloat32
                         : bits == 8 ? Weights::kInt8
                                     : Weights::kInt4;
    size_t next = 4;
    const auto constant = [&] {
      const void* data = a.constant(next++);
      if (!data) fail("input " + std::to_string(next - 1) + " has to be a part of the model");
      return data;
    };
    const auto floats = [&] { return static_cast<const float*>(constant()); };
    const auto matrix = [&](size_t inputs, size_t outputs) {
      Matrix m{kind, inputs, outputs, false, nullptr, nullptr, nullptr};
      a.enlarge_pages(next, m);
      m.values = constant();
      if (kind == Weights::kInt8) {
        m.scales = floats();
        m.sums = static_cast<const int32_t*>(constant());
      }
      return m;
    };
    scales_ = floats();
    for (Layer& layer : layers_) {
      layer.before_attention.weight = floats();
      layer.before_attention.bias = floats();
      layer.packed = matrix(width_, 3 * width_);
      layer.packed_bias = floats();
      layer.attended = matrix(width_, width_);
      layer.attended_bias = floats();
      layer.before_mlp.weight = floats();
      layer.before_mlp.bias = floats();
      layer.inner = matrix(width_, inner_);
      layer.inner_bias = floats();
      layer.outer = matrix(inner_, width_);
      layer.outer_bias = floats();
      layer.keys = next++;
      layer.values = next++;
      layer.key_scale = kBytes ? floats() : nullptr;
      layer.value_scale = kBytes ? floats() : nullptr;
    }
  }

  void compute(Call& call) {
    const size_t rows = call.sizes(0).of[0], wanted = call.sizes(3).of[0];
    const Sizes cache = call.sizes(layers_.at(0).keys);
    if (static_cast<size_t>(cache.of[1] * cache.of[3]) != width_)
      fail("the cache's heads have to be as wide together as the model");
    const auto width = static_cast<int64_t>(width_), count = static_cast<int64_t>(wanted);
    Work work{rows,
              wanted,
              call.input<const float>(0),
              call.input<const int32_t>(1),
              call.input<const int64_t>(2),
              call.input<const int64_t>(3),
              cache,
              {},
              call.output<float>(0, {count, width}),
              call.output<float>(1, {count, width})};
    for (size_t i = 0; i < layers_.size(); ++i) {
      work.caches.push_back(call.input<void>(layers_[i].keys));
      work.caches.push_back(call.input<void>(layers_[i].values));
      check_present(call, 2 + 2 * i, work.caches[2 * i], cache);
      check_present(call, 3 + 2 * i, work.caches[2 * i + 1], cache);
    }
    act(work);
    if (Repeats* repeats = Repeats::wanted()) {
      work.x = repeats->given(work.x);
      work.residual = repeats->made(work.residual, wanted * width_);
      work.change = repeats->made(work.change, wanted * width_);
      repeats->add([this, work] { act(work); });
    }
  }

 private:
  struct Work {
    size_t rows, wanted_count;
    const float* x;
    const int32_t* slots;
    const int64_t* positions;
    const int64_t* wanted;
    Sizes cache;
    std::vector<void*> caches;  // keys and values of each layer
    float* residual;
    float* change;
  };

  void act(const Work& work) {
    const std::lock_guard<std::mutex> lock(one_step_);
    plan_.clear();
    for (Space& space : kept_) space.clear();
    for (Space& space : streams_) space.clear();
    const size_t rows = work.rows;
    const Wanted wanted = checked(work.wanted, work.wanted_count, rows);
    Attention attention = checked_attention(work.cache, work.slots, work.positions, rows);

    // A thread may be in a layer while another one is less than `ahead` layers further. What a layer
    // writes is read in it, or for the stream in it and the next one.
    const size_t ahead = rows <= kRowsKept ? kLayersKept : 1;
    std::vector<size_t> starts;
    Stream stream{work.x, nullptr, nullptr};
    for (size_t i = 0; i < layers_.size(); ++i) {
      const Layer& layer = layers_[i];
      const bool is_last = i + 1 == layers_.size();
      starts.push_back(plan_.phases.size());
      Space& space = kept_[i % ahead];
      Space& passed = streams_[i % (ahead + 1)];
      space.rewind();
      passed.rewind();
      attention.keys = work.caches[2 * i];
      attention.values = work.caches[2 * i + 1];
      attention.key_scale = layer.key_scale;
      attention.value_scale = layer.value_scale;
      attention.scale = scales_[i];

      const bool selects = is_last && !wanted.are_all;
      const size_t left = is_last ? wanted.count : rows;
      stream = add_attention_part(layer, space, stream, attention, rows,
                                  selects ? &wanted : nullptr);
      auto* residual = is_last ? work.residual : passed.take<float>(left * width_);
      auto* change = is_last ? work.change : passed.take<float>(left * width_);
      add_mlp(layer, space, stream, left, residual, change);
      stream = {residual, change, layer.outer_bias};
      if (i >= ahead) plan_.phases[starts[i]].behind = starts[i + 1 - ahead];
    }
    team_->run(plan_.phases);
  }

  static Wanted checked(const int64_t* wanted, size_t count, size_t rows) {
    bool are_all = count == rows;
    for (size_t i = 0; i < count; ++i) {
      if (static_cast<uint64_t>(wanted[i]) >= rows)
        fail("logits_index holds " + std::to_string(wanted[i]) + "; allowed: 0 to " +
             std::to_string(rows - 1));
      are_all = are_all && wanted[i] == static_cast<int64_t>(i);
    }
    return {wanted, count, are_all};
  }

  // Adds the attention of a layer; returns the stream behind it. If only some rows are wanted, of
  // the others there are only keys and values from here on.
  Stream add_attention_part(const Layer& layer, Space& space, const Stream& before,
                            Attention attention, size_t rows, const Wanted* wanted) {
    auto* sum = space.take<float>(rows * width_);
    auto* packed = space.take<float>(rows * 3 * width_);
    const Source source{before.residual, layer.before_attention.weight,
                        layer.before_attention.bias, before.change,
                        before.change_bias, epsilon_, sum};
    add_product(plan_, space, layer.packed, source, rows,
                {layer.packed_bias, Activation::kNone, packed, 3 * width_});
    attention.packed = packed;
    if (wanted) {
      add_memory(plan_, attention, kBytes, rows);
      rows = wanted->count;
      auto* slots = plan_.works.take<int32_t>(rows);
      auto* positions = plan_.works.take<int64_t>(rows);
      for (size_t i = 0; i < rows; ++i) {
        slots[i] = attention.slots[wanted->rows[i]];
        positions[i] = attention.positions[wanted->rows[i]];
      }
      attention.slots = slots;
      attention.positions = positions;
      auto* queries = space.take<float>(rows * 3 * width_);
      auto* sums = space.take<float>(rows * width_);
      add_copy({wanted->rows,
                {{packed, queries, 3 * width_, width_}, {sum, sums, width_, width_}}},
               rows);
      attention.packed = queries;
      sum = sums;
    }
    attention.out = space.take<float>(rows * width_);
    add_attention(plan_, attention, kBytes, rows, !wanted);
    auto* change = space.take<float>(rows * width_);
    add_product(plan_, space, layer.attended, {attention.out}, rows,
                {nullptr, Activation::kNone, change, width_});
    return {sum, change, layer.attended_bias};
  }

  void add_copy(const Copy& copy, size_t rows) {
    Phase phase{};
    phase.work = plan_.works.make(copy);
    phase.count = rows;
    phase.task = [](const void* work, size_t first, size_t last) {
      for (size_t i = first; i < last; ++i) static_cast<const Copy*>(work)->row(i);
    };
    plan_.phases.push_back(phase);
  }

  // Adds the MLP of a layer.
  void add_mlp(const Layer& layer, Space& space, const Stream& before, size_t rows,
               float* residual, float* change) {
    auto* active = space.take<float>(rows * inner_);
    const Source source{before.residual, layer.before_mlp.weight, layer.before_mlp.bias,
                        before.change, before.change_bias, epsilon_, residual};
    add_product(plan_, space, layer.inner, source, rows,
                {layer.inner_bias, Activation::kGeluTanh, active, inner_});
    add_product(plan_, space, layer.outer, {active}, rows,
                {nullptr, Activation::kNone, change, width_});
  }

  const std::shared_ptr<Team> team_;
  const size_t width_, inner_;
  const float epsilon_;
  const float* scales_;  // of attention, a layer each
  std::vector<Layer> layers_;

  // Of the step that is computed.
  std::mutex one_step_;
  Plan plan_;
  Space kept_[kLayersKept];         // what a layer computes on its way
  Space streams_[kLayersKept + 1];  // and what the next one goes on from
};

}  // namespace

void add_layers(runtime::Domain* domain, Threads* threads) {
  add_all<Layers<false>, Layers<true>>(domain, threads);
}

}  // namespace nextok
