#include "conv2d_cudnn.h"

#include <map>
#include <mutex>

namespace thimble {
namespace {

// What engines that do not split may ask for: 131 bytes have been seen.
constexpr Bytes kEngineBytes{1024};
constexpr std::size_t kLooked = 16;  // engines of the list that are looked at
// The setting CUDNN_KNOB_TYPE_WORKSPACE at 0: such engines have needed megabytes on a device and nothing without one.
constexpr const char* kMayCutDepth = ",25=0";
constexpr char kVersionEnds = '/';  // in the attribute: an engine is one of a version, and part of the arithmetic

CudnnProblem problem_of(CudnnPass pass, const ConvolutionGeometry& g) {
  return {pass, g.n, g.h, g.w, g.c, g.k, g.r, g.s, g.stride, g.pad, g.out_h, g.out_w, true};
}

Bytes packed_bytes(const ConvolutionGeometry& g) {
  return align_up(Bytes{std::int64_t{4} * g.k * g.c * g.r * g.s}, kAlignment);
}

// cuDNN's first engine that needs next to nothing, for a device that may be absent. A list takes milliseconds, and a
// plan asks for the same passes again and again.
std::string first_engine(const CudnnProblem& problem, const std::string& device) {
  static std::mutex mutex;
  static std::map<std::string, std::unique_ptr<Cudnn>> opened;
  static std::map<std::string, std::string> known;
  std::string key = device;
  for (std::int64_t value : {static_cast<std::int64_t>(problem.pass), problem.n, problem.h, problem.c, problem.k,
                             problem.r, problem.stride, problem.pad, problem.w, problem.s})
    key += "," + std::to_string(value);
  const std::lock_guard lock(mutex);
  if (const auto found = known.find(key); found != known.end()) return found->second;
  auto [cudnn, is_new] = opened.try_emplace(device);
  std::string reason;
  if (is_new) cudnn->second = open_cudnn(cudnn_properties(device), reason);
  std::string name;
  if (cudnn->second)
    for (const CudnnEngine& engine : cudnn->second->engines(problem, kLooked))
      if (engine.workspace <= kEngineBytes && engine.name.find(kMayCutDepth) == std::string::npos) {
        name = cudnn->second->version() + kVersionEnds + engine.name;
        break;
      }
  return known[key] = name;
}

// {k, c, r, s} as {k, r, s, c}.
__global__ void pack_weights_kernel(const float* w, float* packed, int c, int window, int count) {
  const int i = static_cast<int>(global_thread());
  if (i >= count) return;
  const int channel = i % c, at = i / c % window, k = i / c / window;
  packed[i] = w[(k * c + channel) * window + at];
}

}  // namespace

bool uses_cudnn(const OpShape& shape) { return shape.attributes.count(kCudnnEngine) != 0; }

std::vector<Attributes> cudnn_choices(CudnnPass pass, const ConvolutionGeometry& g, const OpShape& shape) {
  if (shape.device.math != "tf32" || g.c % 4 != 0 || g.k % 4 != 0) return {};
  if (cudnn_properties(shape.device.name).empty()) return {};
  std::string engine = first_engine(problem_of(pass, g), shape.device.name);
  if (engine.empty()) return {};
  Attributes attributes = shape.attributes;
  attributes[kCudnnEngine] = std::move(engine);
  return {std::move(attributes)};
}

Bytes cudnn_workspace(const ConvolutionGeometry& g) { return packed_bytes(g) + kEngineBytes; }

std::unique_ptr<Kernel> cudnn_kernel(CudnnPass pass, const ConvolutionGeometry& g, const OpShape& shape,
                                     std::unique_ptr<Kernel> own) {
  Cudnn* cudnn = cudnn_here();
  if (cudnn == nullptr) return own;
  const std::string named = std::get<std::string>(shape.attributes.at(kCudnnEngine));
  const std::size_t end = named.find(kVersionEnds);
  const std::string version = named.substr(0, end), engine = named.substr(end + 1);
  if (version != cudnn->version())
    throw EnvironmentError("cudnn: the plan was made with version " + version + ", here it is " + cudnn->version() +
                           "; plan again here");
  std::shared_ptr<CudnnConvolution> convolution = cudnn->prepare(problem_of(pass, g), engine);
  if (convolution->workspace() > kEngineBytes)
    throw EnvironmentError("cudnn: engine '" + engine + "' needs " + to_string(convolution->workspace()) +
                           " here, the plan has " + to_string(kEngineBytes) + "; plan again here");
  return function_kernel(shape, [convolution, g](const OpShape&, const KernelArguments& a) {
    const int count = g.k * g.c * g.r * g.s;
    float* packed = floats(a.workspace);
    simt::launch(pack_weights_kernel, blocks_for(count), kBlock, 0, stream_of(a), floats(a.inputs[1]), packed, g.c,
                 g.r * g.s, count);
    convolution->run(a.inputs[0], packed, a.outputs[0], a.workspace + packed_bytes(g).value, a.stream);
  });
}

}  // namespace thimble
