// What ONNX Runtime looks for in a library of custom operators.
#include <algorithm>
#include <cstdlib>
#include <string>
#include <thread>

#include "operator.h"

namespace nextok {

const runtime::Api* api = nullptr;

namespace {

// An entry of a session's options; `otherwise` where it is not set.
std::string entry(const runtime::SessionOptions* options, const char* key, std::string otherwise) {
  int is_set = 0;
  check(api->has_entry(options, key, &is_set));
  if (!is_set) return otherwise;
  size_t size = 0;
  check(api->entry(options, key, nullptr, &size));
  std::string value(size, '\0');
  check(api->entry(options, key, value.data(), &size));
  value.resize(size - 1);
  return value;
}

// Those that the options ask for: `nextok.threads`, and whether they spin.
Threads* threads(const runtime::SessionOptions* options) {
  const size_t processors = std::clamp<size_t>(std::thread::hardware_concurrency(), 1, kMostThreads);
  const std::string wanted = entry(options, "nextok.threads", std::to_string(processors));
  char* end = nullptr;
  const long count = std::strtol(wanted.c_str(), &end, 10);
  if (*end || count < 1 || count > static_cast<long>(kMostThreads))
    fail("nextok.threads is " + wanted + "; allowed: 1 to " + std::to_string(kMostThreads));
  return new Threads(count, entry(options, "session.intra_op.allow_spinning", "1") != "0");
}

}  // namespace
}  // namespace nextok

extern "C" __attribute__((visibility("default"))) runtime::Status* RegisterCustomOps(
    runtime::SessionOptions* options, const runtime::ApiBase* base) {
  using namespace nextok;
  api = base->get(runtime::kVersion);
  return guarded([&] {
    if (!chosen()) fail("NEXTOK_KERNELS names a build that this processor does not run");
    // All this lives as long as the process, some kilobytes for each session that is opened: ONNX
    // Runtime does not tell when it reads them for the last time.
    Threads* found = threads(options);
    runtime::Domain* domain;
    check(api->create_domain("nextok", &domain));
    add_operators(domain, found);
    add_layers(domain, found);
    check(api->add_domain(options, domain));
  });
}

// The name of the build that is used; null where NEXTOK_KERNELS names one that does not run here.
extern "C" __attribute__((visibility("default"))) const char* nextok_kernels_build() {
  return nextok::chosen() ? nextok::chosen()->name : nullptr;
}

// Nanoseconds that products and attention have taken in this process; see time_in.
extern "C" __attribute__((visibility("default"))) void nextok_kernels_spent(uint64_t* products,
                                                                          uint64_t* attention) {
  *products = nextok::time_in(nextok::Part::kProducts);
  *attention = nextok::time_in(nextok::Part::kAttention);
}
