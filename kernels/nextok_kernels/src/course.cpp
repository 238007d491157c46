#include "course.h"

#include <chrono>

namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

// Begins a course anew, from what the inputs hold.
NEXTOK_EXPORT void nextok_begin(nextok::Course* course, uint32_t most, double most_seconds) {
  course->most = most;
  course->most_seconds = most_seconds;
  course->done = course->settled = 0;
  course->begun = now();
}

NEXTOK_EXPORT int nextok_advance(nextok::Course* course) {
  const nextok::Course& c = *course;
  char* choices = c.choices + size_t{c.done} * c.rows * c.choice_bytes;
  uint32_t settled = 0;
  bool ends = false;
  for (uint32_t row = 0; row < c.rows; ++row) {
    nextok::Request& request = c.requests[row];
    auto* choice = reinterpret_cast<nextok::Choice*>(choices + size_t{row} * c.choice_bytes);
    const bool is_settled = nextok_choose(c.outputs, &request, choice);
    c.input_ids[row] = choice->id = is_settled ? choice->id : -1;
    ++c.position_ids[row];
    ++request.position;
    settled += is_settled;
    for (uint32_t i = 0; i < c.end_count; ++i) ends = ends || c.ends[i] == choice->id;
  }
  const double passed = now() - c.begun;
  c.seconds[c.done] = passed;
  course->settled = settled;
  ++course->done;
  return settled == c.rows && !ends && c.done < c.most && passed < c.most_seconds &&
         !__atomic_load_n(c.stops, __ATOMIC_RELAXED);
}
