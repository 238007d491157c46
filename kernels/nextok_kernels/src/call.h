// One call of an operator: its inputs, outputs and threads.
#pragma once

#include <algorithm>
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

  // At most `most` tasks, and at most half of what is left: the last ones are taken one by one, so
  // that all threads are done at the same time.
  bool take_first(size_t most, size_t* first, size_t* last) {
    uint64_t left = left_.load(std::memory_order_relaxed);
    do {
      *first = left >> 32;
      const size_t end = left & kEnd;
      if (*first >= end) return false;
      *last = *first + share(most, end - *first);
    } while (!left_.compare_exchange_weak(left, uint64_t{*last} << 32 | (left & kEnd),
                                          std::memory_order_relaxed));
    return true;
  }

  bool take_last(size_t most, size_t* first, size_t* last) {
    uint64_t left = left_.load(std::memory_order_relaxed);
    do {
      *last = left & kEnd;
      const size_t start = left >> 32;
      if (start >= *last) return false;
      *first = *last - share(most, *last - start);
    } while (!left_.compare_exchange_weak(left, (left & ~kEnd) | *first,
                                          std::memory_order_relaxed));
    return true;
  }

 private:
  static constexpr uint64_t kEnd = 0xffffffff;

  static size_t share(size_t most, size_t left) { return std::min(most, (left + 1) / 2); }

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

  // Calls task(i) for all i < count, on the session's threads.
  template <typename Task>
  void parallel(size_t count, const Task& task) {
    parallel_runs(count, 1, [&](size_t first, size_t last) {
      for (size_t i = first; i < last; ++i) task(i);
    });
  }

  // Calls task(first, last) for runs of at most `most` that together are all of [0, count). Each
  // thread has a stretch of its own, which it goes through in order; who is done takes from the
  // ends of others' stretches, so that a thread that loses its processor holds up no more than what
  // it has in hand.
  template <typename Task>
  void parallel_runs(size_t count, size_t most, const Task& task) {
    static const size_t processors =
        std::min<size_t>(kMostThreads, std::max(1u, std::thread::hardware_concurrency()));
    const size_t threads = std::min(count, processors);
    if (threads <= 1) {
      for (size_t i = 0; i < count; i += most) task(i, std::min(i + most, count));
      return;
    }
    struct Shared {
      const Task& task;
      size_t threads, most;
      Stretch stretches[kMostThreads];
    } shared{task, threads, most, {}};
    for (size_t t = 0; t < threads; ++t)
      shared.stretches[t].set(count * t / threads, count * (t + 1) / threads);
    const auto work = [](void* data, size_t own) {
      Shared& all = *static_cast<Shared*>(data);
      size_t first, last;
      while (all.stretches[own].take_first(all.most, &first, &last)) all.task(first, last);
      for (size_t other = own + 1; other < own + all.threads; ++other)
        while (all.stretches[other % all.threads].take_last(all.most, &first, &last))
          all.task(first, last);
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
