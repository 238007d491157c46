// Rows that each give a token, step after step, until there is something else to do.
#pragma once

#include "sampling.h"

namespace nextok {

struct Course {
  const Outputs* outputs;
  Request* requests;      // [R], whose positions count up
  int64_t* input_ids;     // [R] get the chosen tokens, -1 where the head does not settle them
  int64_t* position_ids;  // [R], count up
  char* choices;          // [most, R], each `choice_bytes`, as short as its candidates are few
  double* seconds;        // [most], of a clock of its own, when they were chosen
  const int64_t* ends;    // [end_count], tokens behind which a row does not go on
  const uint8_t* stops;   // not 0 as soon as another thread wants something else
  double begun;           // by the same clock
  double most_seconds;    // no step begins later than that after it
  uint32_t rows, choice_bytes, end_count;
  uint32_t most;          // steps
  uint32_t done;          // steps, and
  uint32_t settled;       // how many rows are, of the last one
};
static_assert(sizeof(Course) == 104);

}  // namespace nextok

// Chooses a token of each row, and makes it what the next step computes. Returns whether that is to
// follow at once.
NEXTOK_EXPORT int nextok_advance(nextok::Course* course);
