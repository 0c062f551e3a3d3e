// Convolutions by cuDNN's graph API, loaded when it is first asked for. NHWC activations, weights as {k, r, s, c}.
// Engines and the bytes they need can be had without a GPU, from a description of one.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "thimble/units.h"

namespace thimble {

enum class CudnnPass { forward, backward_data, backward_weights };

/// One pass of one convolution; fp32 tensors.
struct CudnnProblem {
  CudnnPass pass = CudnnPass::forward;
  std::int64_t n, h, w, c;  ///< x is {n, h, w, c}
  std::int64_t k, r, s;     ///< weights are {k, r, s, c}
  std::int64_t stride, pad;
  std::int64_t out_h, out_w;  ///< y is {n, out_h, out_w, k}
  bool tf32 = false;          ///< products on tensor cores
  bool operator==(const CudnnProblem&) const = default;
};

/// An engine and its settings as text ("38:2=1,6=0"), and what it needs.
struct CudnnEngine {
  std::string name;
  Bytes workspace;
};

class CudnnConvolution {
 public:
  virtual ~CudnnConvolution() = default;
  virtual Bytes workspace() const = 0;
  /// Enqueues on the stream; `result` is y, dx or the weights' gradient. Throws EnvironmentError.
  virtual void run(const void* x_or_dy, const void* w_or_x, void* result, void* workspace, void* stream) = 0;
};

class Cudnn {
 public:
  virtual ~Cudnn() = default;
  /// Engines whose results are the same every time, best first by cuDNN's own reckoning, at most `most`.
  virtual std::vector<CudnnEngine> engines(const CudnnProblem& problem, std::size_t most) = 0;
  /// Throws EnvironmentError where this cuDNN has no such engine.
  virtual std::unique_ptr<CudnnConvolution> prepare(const CudnnProblem& problem, const std::string& engine) = 0;
  virtual std::string version() const = 0;
  /// Of the device at hand, as JSON; what open_cudnn takes.
  virtual std::string device_properties() = 0;
};

/// For the device at hand, or for one that `device_properties` describes. Null, with a reason, where cuDNN is not
/// there.
std::unique_ptr<Cudnn> open_cudnn(const std::string& device_properties, std::string& reason);

}  // namespace thimble
