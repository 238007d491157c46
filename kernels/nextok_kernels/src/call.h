// One call of an operator: its inputs, outputs and threads.
#pragma once

#include <atomic>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

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

constexpr size_t kMostThreads = 64;

struct Sizes {
  int64_t of[8];
  size_t count;
};

// What is left to do of a stretch of tasks: its first one, and the one behind its last.
class alignas(64) Stretch {
 public:
  void set(uint64_t first, uint64_t end) { left_.store(first << 32 | end); }

  bool take_first(size_t* task) {
    uint64_t left = left_.load(std::memory_order_relaxed);
    do {
      *task = left >> 32;
      if (*task >= (left & kEnd)) return false;
    } while (!left_.compare_exchange_weak(left, left + (uint64_t{1} << 32),
                                          std::memory_order_relaxed));
    return true;
  }

  bool take_last(size_t* task) {
    uint64_t left = left_.load(std::memory_order_relaxed);
    do {
      if (left >> 32 >= (left & kEnd)) return false;
      *task = (left & kEnd) - 1;
    } while (!left_.compare_exchange_weak(left, left - 1, std::memory_order_relaxed));
    return true;
  }

 private:
  static constexpr uint64_t kEnd = 0xffffffff;
  std::atomic<uint64_t> left_{0};
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

  // Calls task(i) for all i < count, on the session's threads. Each thread has a stretch of its
  // own, which it goes through in order; who is done takes from the ends of others' stretches, so
  // that a thread that loses its processor holds up no more than what it has in hand.
  template <typename Task>
  void parallel(size_t count, const Task& task) {
    static const size_t processors =
        std::min<size_t>(kMostThreads, std::max(1u, std::thread::hardware_concurrency()));
    const size_t threads = std::min(count, processors);
    if (threads <= 1) {
      for (size_t i = 0; i < count; ++i) task(i);
      return;
    }
    struct Shared {
      const Task& task;
      size_t threads;
      Stretch stretches[kMostThreads];
    } shared{task, threads, {}};
    for (size_t t = 0; t < threads; ++t)
      shared.stretches[t].set(count * t / threads, count * (t + 1) / threads);
    const auto work = [](void* data, size_t own) {
      Shared& all = *static_cast<Shared*>(data);
      size_t i;
      while (all.stretches[own].take_first(&i)) all.task(i);
      for (size_t other = own + 1; other < own + all.threads; ++other)
        while (all.stretches[other % all.threads].take_last(&i)) all.task(i);
    };
    check(api->parallel_for(context_, work, threads, &shared));
  }

 private:
  const runtime::Value* value(size_t index) const {
    const runtime::Value* found;
    check(api->input(context_, index, &found));
    return found;
  }

  runtime::Context* context_;
};

// Memory that a thread keeps from one call to the next; `Place` tells several such apart.
template <int Place, typename T>
T* scratch(size_t count) {
  struct Aligned {
    alignas(64) char bytes[64];
  };
  static thread_local std::vector<Aligned> memory;
  const size_t blocks = (count * sizeof(T) + 63) / 64;
  if (memory.size() < blocks) memory.resize(blocks);
  return reinterpret_cast<T*>(memory.data());
}

}  // namespace nextok
