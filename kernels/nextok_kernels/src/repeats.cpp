#include "repeats.h"

#include "course.h"

namespace nextok {

namespace {

Repeats& of_this_thread() {
  static thread_local Repeats repeats;
  return repeats;
}

}  // namespace

Repeats* Repeats::wanted() {
  Repeats& own = of_this_thread();
  return own.course_ ? &own : nullptr;
}

void Repeats::begin(Course* course) {
  course_ = course;
  is_whole_ = true;
  acts_.clear();
  places_.clear();
  space_.clear();
}

const float* Repeats::given(const float* first) {
  // The latest: memory of one that is no longer needed may have become another one's.
  for (size_t i = places_.size(); i-- > 0;)
    if (places_[i].first == first) return places_[i].second;
  is_whole_ = false;
  return nullptr;
}

float* Repeats::made(const float* first, size_t count) {
  places_.emplace_back(first, space_.take<float>(count));
  return places_.back().second;
}

void Repeats::go_on() {
  Course* course = std::exchange(course_, nullptr);
  while (nextok_advance(course) && is_whole_)
    for (const auto& act : acts_) act();
}

}  // namespace nextok

// Has the next run of a graph on this thread go on as a course says, or not, if that is null. The
// course has to stay where it is until the run ends.
NEXTOK_EXPORT void nextok_go_on(nextok::Course* course) { nextok::of_this_thread().begin(course); }
