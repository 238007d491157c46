// The part of ONNX Runtime's C interface that custom operators need.
//
// The interface is a table of functions that only ever grows at its end, so the places of those
// used here hold for every later release. See onnxruntime_c_api.h in github.com/microsoft/onnxruntime.
#pragma once

#include <cstddef>
#include <cstdint>

namespace runtime {

struct Status;
struct Context;   // of one call of an operator
struct Info;      // of a node, while its kernel is made
struct Value;
struct Shape;
struct Domain;
struct SessionOptions;

constexpr uint32_t kVersion = 17;  // ONNX Runtime 1.17 was the first to have all of this.

enum Type { kAny = 0, kFloat = 1, kUint8 = 2, kInt8 = 3, kInt32 = 6, kInt64 = 7 };
enum Presence { kRequired = 0, kOptional = 1, kVariadic = 2 };
enum Error { kFail = 1, kInvalidArgument = 2 };

// Where the functions stand in the table, under their names there.
enum Place {
  kCreateStatus = 0,
  kCreateCustomOpDomain = 26,
  kCustomOpDomainAdd = 27,
  kAddCustomOpDomain = 28,
  kGetTensorMutableData = 51,
  kGetDimensionsCount = 61,
  kGetDimensions = 62,
  kGetTensorTypeAndShape = 65,
  kKernelInfoGetAttributeFloat = 85,
  kKernelInfoGetAttributeInt64 = 86,
  kKernelContextGetInput = 90,
  kKernelContextGetOutput = 91,
  kReleaseStatus = 93,
  kReleaseTensorTypeAndShapeInfo = 99,
  kHasSessionConfigEntry = 237,
  kGetSessionConfigEntry = 238,
  kKernelInfoGetConstantInputTensor = 249,
};

struct Api {
  const void* functions[512];

  template <typename Function>
  Function* at(size_t place) const {
    return reinterpret_cast<Function*>(const_cast<void*>(functions[place]));
  }

  Status* create_status(Error code, const char* message) const {
    return at<Status*(Error, const char*)>(kCreateStatus)(code, message);
  }
  void release_status(Status* status) const {
    at<void(Status*)>(kReleaseStatus)(status);
  }
  Status* create_domain(const char* name, Domain** out) const {
    return at<Status*(const char*, Domain**)>(kCreateCustomOpDomain)(name, out);
  }
  Status* add_operator(Domain* domain, const struct Operator* op) const {
    return at<Status*(Domain*, const Operator*)>(kCustomOpDomainAdd)(domain, op);
  }
  Status* add_domain(SessionOptions* options, Domain* domain) const {
    return at<Status*(SessionOptions*, Domain*)>(kAddCustomOpDomain)(options, domain);
  }
  Status* attribute(const Info* info, const char* name, int64_t* out) const {
    return at<Status*(const Info*, const char*, int64_t*)>(kKernelInfoGetAttributeInt64)(
        info, name, out);
  }
  Status* attribute(const Info* info, const char* name, float* out) const {
    return at<Status*(const Info*, const char*, float*)>(kKernelInfoGetAttributeFloat)(
        info, name, out);
  }
  // `is_constant` is 0 where the input's value is not known before a call.
  Status* constant(const Info* info, size_t index, int* is_constant, const Value** out) const {
    return at<Status*(const Info*, size_t, int*, const Value**)>(
        kKernelInfoGetConstantInputTensor)(info, index, is_constant, out);
  }
  Status* input(const Context* context, size_t index, const Value** out) const {
    return at<Status*(const Context*, size_t, const Value**)>(kKernelContextGetInput)(
        context, index, out);
  }
  Status* output(Context* context, size_t index, const int64_t* sizes, size_t count,
                 Value** out) const {
    return at<Status*(Context*, size_t, const int64_t*, size_t, Value**)>(
        kKernelContextGetOutput)(context, index, sizes, count, out);
  }
  Status* data(Value* value, void** out) const {
    return at<Status*(Value*, void**)>(kGetTensorMutableData)(value, out);
  }
  Status* shape(const Value* value, Shape** out) const {
    return at<Status*(const Value*, Shape**)>(kGetTensorTypeAndShape)(value, out);
  }
  Status* rank(const Shape* shape, size_t* out) const {
    return at<Status*(const Shape*, size_t*)>(kGetDimensionsCount)(shape, out);
  }
  Status* sizes(const Shape* shape, int64_t* out, size_t count) const {
    return at<Status*(const Shape*, int64_t*, size_t)>(kGetDimensions)(shape, out, count);
  }
  void release_shape(Shape* shape) const {
    at<void(Shape*)>(kReleaseTensorTypeAndShapeInfo)(shape);
  }
  Status* has_entry(const SessionOptions* options, const char* key, int* out) const {
    return at<Status*(const SessionOptions*, const char*, int*)>(kHasSessionConfigEntry)(
        options, key, out);
  }
  // `size` with the zero at the end.
  Status* entry(const SessionOptions* options, const char* key, char* out, size_t* size) const {
    return at<Status*(const SessionOptions*, const char*, char*, size_t*)>(kGetSessionConfigEntry)(
        options, key, out, size);
  }
};

struct ApiBase {
  const Api* (*get)(uint32_t version);
  const char* (*version)();
};

// A custom operator, as ONNX Runtime wants it described.
struct Operator {
  uint32_t version;
  void* (*create)(const Operator*, const Api*, const Info*);
  const char* (*name)(const Operator*);
  const char* (*provider)(const Operator*);
  Type (*input_type)(const Operator*, size_t);
  size_t (*inputs)(const Operator*);
  Type (*output_type)(const Operator*, size_t);
  size_t (*outputs)(const Operator*);
  void (*compute)(void*, Context*);
  void (*destroy)(void*);
  Presence (*input_presence)(const Operator*, size_t);
  Presence (*output_presence)(const Operator*, size_t);
  int (*input_memory)(const Operator*, size_t);
  int (*variadic_input_least)(const Operator*);
  int (*variadic_input_alike)(const Operator*);
  int (*variadic_output_least)(const Operator*);
  int (*variadic_output_alike)(const Operator*);
  Status* (*create_checked)(const Operator*, const Api*, const Info*, void**);
  Status* (*compute_checked)(void*, Context*);
  Status* (*infer_shape)(const Operator*, void*);
  int (*first_version)(const Operator*);
  int (*last_version)(const Operator*);
};

}  // namespace runtime
