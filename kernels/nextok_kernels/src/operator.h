// How an operator is described to ONNX Runtime, and what its kernels have to work with.
#pragma once

#include <exception>
#include <memory>
#include <mutex>

#include "call.h"
#include "pages.h"
#include "pieces.h"

namespace nextok {

// The threads of the sessions that are opened with the same options, while there are any.
class Threads {
 public:
  Threads(size_t count, bool spin) : count_(count), spin_(spin) {}

  // Started by the thread that opens a session, so that they have its priority.
  std::shared_ptr<Team> team() {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::shared_ptr<Team> team = team_.lock();
    if (!team) team_ = team = std::make_shared<Team>(count_, spin_);
    return team;
  }

 private:
  const size_t count_;
  const bool spin_;
  std::mutex mutex_;
  std::weak_ptr<Team> team_;
};

// What a node of the graph says of its operator.
struct Attributes {
  const runtime::Info* info;
  Threads* threads;

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

  // Moves the weights of an input into large pages, if they are part of the model.
  void enlarge_pages(size_t input, const Matrix& matrix) const {
    if (const void* weights = constant(input)) into_large_pages(weights, matrix.stored_bytes());
  }

 private:
  template <typename T>
  T read(const char* name) const {
    T value{};
    check(api->attribute(info, name, &value));
    return value;
  }
};

// Where tokens stand in a cache [S, H, C, D]; fails where they do not.
Attention checked_attention(const Sizes& cache, const int32_t* slots, const int64_t* positions,
                            size_t rows);

// Fails where an output, of the cache's sizes, is not the memory that the cache is read from.
void check_present(Call& call, size_t output, const void* past, const Sizes& sizes);

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

// What ONNX Runtime is told of an operator, and what the kernels that it makes of it share.
struct Description : runtime::Operator {
  Threads* threads;
};

// `Kernel` names its inputs and outputs:
// - kInputs, kRequired, kAll: types, how many are required, how many there are
// - kOutputs, kOutputCount
// - kRest: whether any number of inputs, of any types, and of outputs, of the last one's type, follow.
template <typename Kernel>
Description* described(Threads* threads) {
  using runtime::Operator;
  auto* made = new Description{};
  made->threads = threads;
  Operator& o = *made;
  o.version = runtime::kVersion;
  o.name = [](const Operator*) { return Kernel::kName; };
  o.provider = [](const Operator*) -> const char* { return nullptr; };
  o.inputs = [](const Operator*) -> size_t { return Kernel::kAll + Kernel::kRest; };
  o.outputs = [](const Operator*) { return Kernel::kOutputCount; };
  o.input_type = [](const Operator*, size_t i) {
    return i < Kernel::kAll ? Kernel::kInputs[i] : runtime::kAny;
  };
  o.output_type = [](const Operator*, size_t i) { return Kernel::kOutputs[i]; };
  o.input_presence = [](const Operator*, size_t i) {
    return i < Kernel::kRequired ? runtime::kRequired
           : i < Kernel::kAll    ? runtime::kOptional
                                 : runtime::kVariadic;
  };
  o.output_presence = [](const Operator*, size_t i) {
    return Kernel::kRest && i + 1 == Kernel::kOutputCount ? runtime::kVariadic
           : i == 0                                       ? runtime::kRequired
                                                          : runtime::kOptional;
  };
  o.input_memory = [](const Operator*, size_t) { return 0; };
  o.variadic_input_least = o.variadic_output_least = [](const Operator*) { return 1; };
  o.variadic_input_alike = [](const Operator*) { return 0; };
  o.variadic_output_alike = [](const Operator*) { return 1; };
  o.create_checked = [](const Operator* op, const runtime::Api*, const runtime::Info* info,
                        void** kernel) {
    return guarded([&] {
      *kernel = new Kernel(Attributes{info, static_cast<const Description*>(op)->threads});
    });
  };
  o.compute_checked = [](void* kernel, runtime::Context* context) {
    return guarded([&] {
      Call call(context);
      static_cast<Kernel*>(kernel)->compute(call);
    });
  };
  o.destroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  o.first_version = [](const Operator*) { return 1; };
  o.last_version = [](const Operator*) { return 1; };
  return made;
}

template <typename... Kernels>
void add_all(runtime::Domain* domain, Threads* threads) {
  (check(api->add_operator(domain, described<Kernels>(threads))), ...);
}

void add_operators(runtime::Domain* domain, Threads* threads);
void add_layers(runtime::Domain* domain, Threads* threads);

}  // namespace nextok
