#include "pieces.h"

#include <algorithm>

namespace nextok {

namespace {

// Rows of a product that are worth fetching a panel for, where another thread has it.
constexpr size_t kRowsOfTask = 16;
// Rows that each thread normalizes, rounds or keeps for itself rather than wait for another one.
constexpr size_t kFewRows = 3;
// Of a step's, that are taken at once where they are normalized, rounded or kept.
constexpr size_t kRowsAtOnce = 4;

// A product and what comes before it.
struct Product {
  Matrix matrix;
  Epilogue epilogue;
  size_t rows;
  Norm norm;         // without a weight where there is none
  const float* x;    // what is rounded or multiplied: the source, or what the norm makes
  ByteRows rounded;  // of rounded products
  size_t parts;      // that a block of rows is cut into
  size_t blocks;     // of rows that stay in the cache beside a panel

  bool is_rounded() const { return matrix.kind != Weights::kFloat32; }
  size_t border(size_t part) const { return part * rows / (blocks * parts); }

  void prepare(size_t row) const {
    const Kernels& k = kernels();
    if (norm.weight) k.norm(norm, row);
    const float* from = x + row * matrix.inputs;
    if (matrix.kind == Weights::kInt8)
      (matrix.twofold ? k.round_twofold : k.round_unsigned)(from, matrix.inputs, rounded, row);
    if (matrix.kind == Weights::kInt4) k.round_signed(from, matrix.inputs, rounded, row);
  }

  void multiply(size_t panel, size_t first, size_t last) const {
    const Kernels& k = kernels();
    switch (matrix.kind) {
      case Weights::kFloat32:
        return k.product_float(x, matrix.inputs, static_cast<const float*>(matrix.values),
                               epilogue, panel, first, last);
      case Weights::kInt8:
        return (matrix.twofold ? k.product_twofold : k.product_bytes)(
            rounded, static_cast<const int8_t*>(matrix.values), matrix.scales, matrix.sums,
            epilogue, panel, first, last);
      case Weights::kInt4:
        return k.product_nibbles(rounded, static_cast<const uint8_t*>(matrix.values), epilogue,
                                 panel, first, last);
    }
  }

  // Tasks are the parts of the first block of rows for the first panel, those for the next one, and
  // so on; then the next block's.
  void multiply_all(size_t from, size_t to) const {
    const size_t all = panels(matrix.outputs);
    while (from < to) {
      const size_t run = from / parts, next = std::min(to, (run + 1) * parts);
      const size_t part = run / all * parts + from % parts;
      multiply(run % all, border(part), border(part + next - from));
      from = next;
    }
  }

  // Gets memory for what the rows become before they are multiplied.
  template <typename Take>
  void place(const Take& take) {
    if (norm.weight) {
      norm.out = take.template operator()<0, float>(rows * matrix.inputs);
      if (!norm.sum) norm.sum = take.template operator()<1, float>(rows * matrix.inputs);
      x = norm.out;
    }
    if (!is_rounded()) return;
    rounded.stride = (matrix.inputs + 31) / 32 * 32;
    const size_t bytes = rows * rounded.stride * (matrix.twofold ? 2 : 1);
    rounded.values = take.template operator()<2, uint8_t>(bytes);
    rounded.scales = take.template operator()<3, float>(rows);
    if (matrix.kind == Weights::kInt4)
      rounded.group_sums = take.template operator()<4, int32_t>(rows * (rounded.stride / kGroup));
  }
};

const Product& product(const void* work) { return *static_cast<const Product*>(work); }

// The product whose rows a thread prepares for itself, with memory of its own.
Product& own_product() { return *scratch<6, Product>(1); }

// The attention of some tokens.
struct Tokens {
  Attention attention;
  bool bytes;
  size_t rows, stride;

  // The tokens of a text follow each other, so one head of them shares what it reads.
  static constexpr size_t kTogether = 2 * kTokensTogether;

  void remember(size_t row, size_t head) const {
    (bytes ? kernels().remember_bytes : kernels().remember_float)(attention, row, head);
  }

  void attend(size_t first, size_t last, bool remembers) const {
    const auto act = bytes ? kernels().attend_bytes : kernels().attend_float;
    float* scores = scratch<5, float>(kTokensTogether * stride);
    for (size_t task = first; task < last; ++task) {
      const size_t start = task / attention.heads * kTogether, head = task % attention.heads;
      const size_t end = std::min(start + kTogether, rows);
      if (remembers)
        for (size_t row = start; row < end; ++row) remember(row, head);
      act(attention, start, end, head, scores, stride);
    }
  }

  // Whether no tokens of one text are in two tasks, so that none needs what another one keeps.
  bool are_apart() const {
    if (rows <= kTogether) return true;
    static thread_local std::vector<size_t> tasks;  // by slot, 1 more; 0 for none
    tasks.assign(*std::max_element(attention.slots, attention.slots + rows) + 1, 0);
    for (size_t row = 0; row < rows; ++row) {
      size_t& task = tasks[attention.slots[row]];
      if (task && task != row / kTogether + 1) return false;
      task = row / kTogether + 1;
    }
    return true;
  }
};

const Tokens& tokens(const void* work) { return *static_cast<const Tokens*>(work); }

}  // namespace

size_t Matrix::stored_bytes() const {
  const size_t groups = (inputs + kGroup - 1) / kGroup;
  switch (kind) {
    case Weights::kFloat32: return panels(outputs) * inputs * kPanel * sizeof(float);
    case Weights::kInt8: return panels(outputs) * groups * kGroup * kPanel;
    case Weights::kInt4: return panels(outputs) * groups * kGroupBytes;
  }
  return 0;
}

void add_product(Plan& plan, Space& space, const Matrix& matrix, const Source& source,
                 size_t rows, const Epilogue& epilogue) {
  Product made{};
  made.matrix = matrix;
  made.epilogue = epilogue;
  made.rows = rows;
  made.x = source.x;
  made.norm = {source.x,           source.change,  source.change_bias, source.norm_weight,
               source.norm_bias,   source.epsilon, matrix.inputs,      source.sum,
               nullptr};
  made.blocks = std::max<size_t>(1, (rows + kMostRows - 1) / kMostRows);
  made.parts = std::max<size_t>(
      1, (rows + made.blocks * kRowsOfTask - 1) / (made.blocks * kRowsOfTask));
  const bool prepares = source.norm_weight || made.is_rounded();
  const bool by_each = prepares && rows <= kFewRows;
  if (prepares && !by_each)
    made.place([&]<int, typename T>(size_t count) { return space.take<T>(count); });
  const Product* work = plan.works.make(made);

  Phase multiply{};
  multiply.work = work;
  multiply.count = made.blocks * panels(matrix.outputs) * made.parts;
  multiply.most = made.parts;
  multiply.part = Part::kProducts;
  if (by_each) {
    multiply.before = [](const void* of) {
      Product& own = own_product();
      own = product(of);
      own.place([]<int Use, typename T>(size_t count) { return scratch<Use, T>(count); });
      for (size_t row = 0; row < own.rows; ++row) own.prepare(row);
    };
    multiply.task = [](const void*, size_t first, size_t last) {
      own_product().multiply_all(first, last);
    };
  } else {
    multiply.task = [](const void* of, size_t first, size_t last) {
      product(of).multiply_all(first, last);
    };
    if (prepares) {
      Phase prepare{};
      prepare.work = work;
      prepare.count = rows;
      prepare.most = kRowsAtOnce;
      prepare.task = [](const void* of, size_t first, size_t last) {
        for (size_t row = first; row < last; ++row) product(of).prepare(row);
      };
      plan.phases.push_back(prepare);
    }
  }
  plan.phases.push_back(multiply);
}

void add_memory(Plan& plan, const Attention& attention, bool bytes, size_t rows) {
  Phase remember{};
  remember.work = plan.works.make(Tokens{attention, bytes, rows, 0});
  remember.count = rows;
  remember.most = kRowsAtOnce;
  remember.task = [](const void* of, size_t first, size_t last) {
    for (size_t row = first; row < last; ++row)
      for (size_t head = 0; head < tokens(of).attention.heads; ++head)
        tokens(of).remember(row, head);
  };
  plan.phases.push_back(remember);
}

void add_attention(Plan& plan, const Attention& attention, bool bytes, size_t rows,
                   bool remember) {
  int64_t longest = 0;
  for (size_t row = 0; row < rows; ++row)
    longest = std::max(longest, attention.positions[row] + 1);
  const size_t stride = (longest + 15) / 16 * 16;
  const Tokens* work = plan.works.make(Tokens{attention, bytes, rows, stride});
  Phase attend{};
  attend.work = work;
  attend.count = (rows + Tokens::kTogether - 1) / Tokens::kTogether * attention.heads;
  attend.part = Part::kAttention;
  attend.task = [](const void* of, size_t first, size_t last) {
    tokens(of).attend(first, last, false);
  };
  if (remember && work->are_apart()) {
    attend.task = [](const void* of, size_t first, size_t last) {
      tokens(of).attend(first, last, true);
    };
  } else if (remember) {
    add_memory(plan, attention, bytes, rows);
  }
  plan.phases.push_back(attend);
}

}  // namespace nextok
