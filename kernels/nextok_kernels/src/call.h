// One call of an operator: its inputs and outputs.
#pragma once

#include <initializer_list>
#include <string>

#include "runtime.h"

namespace nextok {

extern const runtime::Api* api;

// Leaves an operator with a message; see `guarded`.
struct Failure {
  runtime::Status* status;
};

inline void check(runtime::Status* status) {
  if (status) throw Failure{status};
}

[[noreturn]] inline void fail(const std::string& message) {
  throw Failure{api->create_status(runtime::kInvalidArgument, message.c_str())};
}

struct Sizes {
  int64_t of[8];
  size_t count;
};

class Call {
 public:
  explicit Call(runtime::Context* context) : context_(context) {}

  bool has(size_t input) const { return value(input) != nullptr; }

  // Null where an optional input is left out.
  template <typename T>
  T* input(size_t index) const {
    const runtime::Value* found = value(index);
    if (!found) return nullptr;
    void* data;
    check(api->data(const_cast<runtime::Value*>(found), &data));
    return static_cast<T*>(data);
  }

  Sizes sizes(size_t index) const {
    runtime::Shape* shape;
    check(api->shape(value(index), &shape));
    Sizes sizes{};
    runtime::Status* status = api->rank(shape, &sizes.count);
    if (!status && sizes.count <= 8) status = api->sizes(shape, sizes.of, sizes.count);
    api->release_shape(shape);
    check(status);
    if (sizes.count > 8) fail("input " + std::to_string(index) + " has more than 8 axes");
    return sizes;
  }

  template <typename T>
  T* output(size_t index, std::initializer_list<int64_t> sizes) {
    runtime::Value* made;
    check(api->output(context_, index, sizes.begin(), sizes.size(), &made));
    if (!made) return nullptr;
    void* data;
    check(api->data(made, &data));
    return static_cast<T*>(data);
  }

 private:
  const runtime::Value* value(size_t index) const {
    const runtime::Value* found;
    check(api->input(context_, index, &found));
    return found;
  }

  runtime::Context* context_;
};

}  // namespace nextok
