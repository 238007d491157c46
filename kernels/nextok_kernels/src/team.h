// Threads that work through a list of phases together.
//
// Knows nothing of what is computed. Nobody leads: each thread goes through all phases by itself,
// takes tasks of a phase until there are none, and goes on as soon as all of them are done. A thread
// that loses its processor holds up nobody: who has waited for its task for some time does it again.
// So a task may be done twice, at the same time or after others have left the phase. It has to write
// the same each time, and nothing else may be written there, nor to what it reads, by phases whose
// `behind` lets them begin before all threads have left this one.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace nextok {

constexpr size_t kMostThreads = 1024;

// What a phase's time is counted as.
enum class Part { kRest, kProducts, kAttention };
constexpr size_t kParts = 3;

struct Phase {
  // Does tasks [first, last).
  void (*task)(const void* work, size_t first, size_t last);
  // What each thread does by itself before its first task, maybe several at once; null for nothing.
  void (*before)(const void* work);
  const void* work;
  size_t count;        // tasks
  size_t most = 1;     // that are taken at once
  size_t behind = 0;   // all threads have to have left the phases before this one
  Part part = Part::kRest;
};

class Team {
 public:
  // `threads` with the one that calls `run`. While there is nothing to do the others sleep, at once
  // or after they have spun for a moment.
  Team(size_t threads, bool spins);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  // Does all phases. When it returns, no thread does any of them any more.
  void run(const std::vector<Phase>& phases);

 private:
  class Stretch;
  struct Progress;
  struct alignas(64) Place {
    std::atomic<size_t> phase;
  };

  void alone(const std::vector<Phase>& phases) const;
  void prepare(const std::vector<Phase>& phases);
  void go_through(size_t own);
  void take_part(size_t own, const Phase& phase, Progress& progress);
  void wait_for_others(size_t own, size_t behind) const;
  void help(size_t own);
  uint32_t next_run(uint32_t last) const;

  const size_t threads_;
  const bool spins_;
  std::mutex one_run_;
  // Of the run that is on; `memory_` is what `progress_` points into.
  const std::vector<Phase>* phases_ = nullptr;
  std::vector<Progress> progress_;
  std::vector<uint64_t> memory_;
  std::unique_ptr<Place[]> places_;  // which phase each thread is in; kNowhere
  alignas(64) std::atomic<uint32_t> runs_{0};   // that were begun
  // How many threads besides the caller are in the run; with kClosed, none may join it any more.
  alignas(64) std::atomic<uint32_t> helpers_;
  std::atomic<bool> ends_{false};
  std::vector<std::thread> workers_;
};

// Nanoseconds that the phases of a part have taken in this process, for the threads that called
// `run`.
uint64_t time_in(Part part);

}  // namespace nextok
