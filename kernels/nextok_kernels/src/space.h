// Memory for what a step computes on its way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>
#include <vector>

namespace nextok {

// Hands out memory that is kept for the next time.
class Space {
 public:
  // From here on what was handed out may be handed out again. It stays memory until `clear`.
  void rewind() { block_ = used_ = 0; }

  // Takes back all that was handed out.
  void clear() {
    if (blocks_.size() > 1) {
      size_t all = 0;
      for (const std::vector<Line>& block : blocks_) all += block.size();
      blocks_.clear();
      blocks_.emplace_back(all);
    }
    rewind();
  }

  template <typename T>
  T* take(size_t count) {
    const size_t lines = (count * sizeof(T) + sizeof(Line) - 1) / sizeof(Line);
    while (block_ < blocks_.size() && blocks_[block_].size() - used_ < lines) {
      ++block_;
      used_ = 0;
    }
    if (block_ == blocks_.size()) blocks_.emplace_back(lines);
    T* taken = reinterpret_cast<T*>(blocks_[block_].data() + used_);
    used_ += lines;
    return taken;
  }

  template <typename T>
  T* make(T value) {
    return new (take<T>(1)) T(std::move(value));
  }

 private:
  struct alignas(64) Line {
    char bytes[64];
    // Not cleared: nobody reads what nobody wrote, and memory that is not used is not taken.
    Line() {}
  };
  std::vector<std::vector<Line>> blocks_;
  size_t block_ = 0, used_ = 0;  // the block that is handed out of, and lines of it that are
};

// Memory that a thread keeps from one task to the next; `Use` tells several such apart.
template <int Use, typename T>
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
