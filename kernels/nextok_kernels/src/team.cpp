#include "team.h"

#include <algorithm>
#include <chrono>

namespace nextok {

namespace {

using Clock = std::chrono::steady_clock;

constexpr uint32_t kClosed = 1u << 31;
constexpr size_t kNowhere = SIZE_MAX;  // the place of a thread that is in no run
// How long a thread spins for the next run: between two operators lies less, between two steps
// more. So whoever wants its processor gets it sooner, and an idle processor takes over a thread
// that waits for another one.
constexpr auto kPatience = std::chrono::microseconds(50);
// Before another thread's task is done again, at least.
constexpr auto kShortest = std::chrono::microseconds(5);

std::atomic<uint64_t> spent[kParts];

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Whether `happened` came true within some time.
template <typename Condition>
bool spin(Clock::duration time, const Condition& happened) {
  const auto end = Clock::now() + time;
  do {
    for (int i = 0; i < 16; ++i) {
      if (happened()) return true;
      pause();
    }
  } while (Clock::now() < end);
  return happened();
}

// Waits for as long as it takes, for threads that may have lost their processor.
template <typename Condition>
void wait(const Condition& happened) {
  while (!spin(kShortest, happened)) std::this_thread::yield();
}

}  // namespace

uint64_t time_in(Part part) { return spent[static_cast<size_t>(part)].load(); }

// What is left to do of a stretch of tasks: its first one, and the one behind its last. Each thread
// goes through a stretch of its own in order, and then takes from the ends of others'.
class alignas(64) Team::Stretch {
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

// Of one phase: who may take what, and a byte for each task that is done.
struct Team::Progress {
  Stretch* stretches;
  std::atomic<uint8_t>* done;
  size_t count;

  bool finished() const {
    for (size_t i = 0; i < count; ++i)
      if (!done[i].load(std::memory_order_acquire)) return false;
    return true;
  }
};

Team::Team(size_t threads, bool spins)
    : threads_(std::clamp<size_t>(threads, 1, kMostThreads)),
      spins_(spins),
      places_(std::make_unique<Place[]>(threads_)),
      helpers_(kClosed) {
  for (size_t own = 0; own < threads_; ++own) places_[own].phase.store(kNowhere);
  for (size_t own = 1; own < threads_; ++own) workers_.emplace_back([this, own] { help(own); });
}

Team::~Team() {
  ends_.store(true);
  runs_.fetch_add(1);
  runs_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void Team::run(const std::vector<Phase>& phases) {
  size_t tasks = 0;
  for (const Phase& phase : phases) tasks = std::max(tasks, phase.count);
  if (threads_ == 1 || tasks <= 1) return alone(phases);
  const std::lock_guard<std::mutex> lock(one_run_);
  prepare(phases);
  places_[0].phase.store(0);
  helpers_.store(0);
  runs_.fetch_add(1);
  runs_.notify_all();
  go_through(0);
  helpers_.fetch_or(kClosed);
  wait([this] { return helpers_.load() == kClosed; });
}

void Team::alone(const std::vector<Phase>& phases) const {
  for (const Phase& phase : phases) {
    const auto start = Clock::now();
    if (phase.before) phase.before(phase.work);
    for (size_t i = 0; i < phase.count; i += phase.most)
      phase.task(phase.work, i, std::min(i + phase.most, phase.count));
    spent[static_cast<size_t>(phase.part)] += (Clock::now() - start).count();
  }
}

void Team::prepare(const std::vector<Phase>& phases) {
  const auto words = [](size_t bytes) { return (bytes + 63) / 64 * 8; };
  const size_t own = words(threads_ * sizeof(Stretch));
  size_t needed = 8;  // to begin at a line's start
  for (const Phase& phase : phases) needed += own + words(phase.count);
  memory_.assign(std::max(needed, memory_.size()), 0);
  const auto start = (reinterpret_cast<uintptr_t>(memory_.data()) + 63) / 64 * 64;
  auto* at = reinterpret_cast<uint64_t*>(start);
  progress_.clear();
  for (const Phase& phase : phases) {
    auto* stretches = reinterpret_cast<Stretch*>(at);
    for (size_t t = 0; t < threads_; ++t)
      (new (stretches + t) Stretch)
          ->set(phase.count * t / threads_, phase.count * (t + 1) / threads_);
    at += own;
    progress_.push_back({stretches, reinterpret_cast<std::atomic<uint8_t>*>(at), phase.count});
    at += words(phase.count);
  }
  phases_ = &phases;
}

void Team::go_through(size_t own) {
  const std::vector<Phase>& phases = *phases_;
  auto start = Clock::now();
  for (size_t i = 0; i < phases.size(); ++i) {
    places_[own].phase.store(i, std::memory_order_release);
    // Who has not seen this thread here has seen the phase finished, and so does this thread: see
    // wait_for_others.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (!progress_[i].finished()) take_part(own, phases[i], progress_[i]);
    if (own == 0) {
      const auto now = Clock::now();
      spent[static_cast<size_t>(phases[i].part)] += (now - start).count();
      start = now;
    }
  }
  places_[own].phase.store(kNowhere);
}

void Team::take_part(size_t own, const Phase& phase, Progress& progress) {
  if (phase.behind) wait_for_others(own, phase.behind);
  const auto start = Clock::now();
  if (phase.before) phase.before(phase.work);
  size_t turns = 1;
  const auto act = [&](size_t first, size_t last) {
    phase.task(phase.work, first, last);
    for (size_t i = first; i < last; ++i) progress.done[i].store(1, std::memory_order_release);
    ++turns;
  };
  size_t first, last;
  while (progress.stretches[own].take_first(phase.most, &first, &last)) act(first, last);
  for (size_t other = own + 1; other < own + threads_; ++other)
    while (progress.stretches[other % threads_].take_last(phase.most, &first, &last))
      act(first, last);
  // What others have in hand should not take them longer than it took this thread.
  const auto turn = (Clock::now() - start) / turns;
  const auto finished = [&] { return progress.finished(); };
  if (spin(std::max<Clock::duration>(2 * turn, kShortest), finished)) return;
  for (size_t i = 0; i < phase.count; ++i)
    if (!progress.done[i].load(std::memory_order_acquire)) act(i, i + 1);
}

void Team::wait_for_others(size_t own, size_t behind) const {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  for (size_t other = 0; other < threads_; ++other)
    if (other != own)
      wait([&] { return places_[other].phase.load() >= behind; });
}

void Team::help(size_t own) {
  uint32_t run = 0;
  while (true) {
    run = next_run(run);
    if (ends_.load()) return;
    uint32_t helpers = helpers_.load();
    while (!(helpers & kClosed) && !helpers_.compare_exchange_weak(helpers, helpers + 1)) {
    }
    if (helpers & kClosed) continue;  // the run is over
    go_through(own);
    helpers_.fetch_sub(1);
  }
}

// Waits for a run after the `last` one, and returns its number.
uint32_t Team::next_run(uint32_t last) const {
  const auto begun = [&] { return runs_.load() != last; };
  if (!spins_ || !spin(kPatience, begun)) runs_.wait(last);
  return runs_.load();
}

}  // namespace nextok
