// Runs of the graph that go on from the tokens that they gave.
//
// Between two runs the processors wait for ONNX Runtime and for Python, of which the weights have
// left nothing in the caches. So the operators of a run note what they did, and the last one has it
// done again, with what the inputs hold by then, for as long as somebody wants it.
#pragma once

#include <cstddef>
#include <functional>
#include <utility>
#include <vector>

#include "space.h"

namespace nextok {

struct Course;

// What the operators of one run did, for the thread that runs the graph.
class Repeats {
 public:
  // Those of this thread; null where its run is not to go on.
  static Repeats* wanted();

  // Has this thread's next run go on as the course says; null for a run that does not.
  void begin(Course* course);

  // Where an operator finds what another one has made of `first`, when both are repeated. Null
  // where none that takes part has made it; then nothing is repeated.
  const float* given(const float* first);

  // Where it leaves what it has made, `count` floats: the memory that the first time was done with
  // is ONNX Runtime's, which gives it to others.
  float* made(const float* first, size_t count);

  // Notes what an operator did.
  void add(std::function<void()> act) { acts_.push_back(std::move(act)); }

  // All operators are done: chooses tokens, and repeats everything as long as the course goes on.
  void go_on();

 private:
  Course* course_ = nullptr;
  bool is_whole_ = true;
  std::vector<std::function<void()>> acts_;
  std::vector<std::pair<const float*, float*>> places_;
  Space space_;
};

}  // namespace nextok
