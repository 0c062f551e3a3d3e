// cuDNN's engines for the convolutions of WRN-28-2: workspaces, times, and whether a description of this device gives
// the same list without it. Prints the device's properties, then one JSON object a line.
//   cudnn_engines [BATCH] [PROPERTIES.json]        with a file: no device is needed, nothing is timed
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <sstream>
#include <vector>

#include "cudnn_convolution.h"

namespace {

using namespace thimble;

struct Shape {
  std::int64_t c, k, size, window, stride;
};
constexpr Shape kShapes[] = {{3, 16, 32, 3, 1},   {16, 32, 32, 3, 1}, {32, 32, 32, 3, 1}, {16, 32, 32, 1, 1},
                             {32, 64, 32, 3, 2},  {64, 64, 16, 3, 1}, {32, 64, 32, 1, 2}, {64, 128, 16, 3, 2},
                             {128, 128, 8, 3, 1}, {64, 128, 16, 1, 2}};

CudnnProblem problem_of(const Shape& s, CudnnPass pass, std::int64_t batch, bool tf32) {
  const std::int64_t pad = s.window / 2, out = (s.size + 2 * pad - s.window) / s.stride + 1;
  return {pass, batch, s.size, s.size, s.c, s.k, s.window, s.window, s.stride, pad, out, out, tf32};
}

class Timer {
 public:
  Timer() {
    cudaStreamCreate(&stream_);
    cudaEventCreate(&start_);
    cudaEventCreate(&end_);
    for (void*& buffer : buffers_) {
      cudaMalloc(&buffer, kBytes);
      cudaMemset(buffer, 0, kBytes);
    }
  }
  // Microseconds, the median of some runs.
  double time(CudnnConvolution& convolution) {
    std::vector<float> runs(9);
    for (float& run : runs) {
      constexpr int kRepeats = 10;
      cudaEventRecord(start_, stream_);
      for (int i = 0; i < kRepeats; ++i) convolution.run(buffers_[0], buffers_[1], buffers_[2], buffers_[3], stream_);
      cudaEventRecord(end_, stream_);
      if (cudaEventSynchronize(end_) != cudaSuccess) return -1;
      cudaEventElapsedTime(&run, start_, end_);
      run = run * 1000 / kRepeats;
    }
    std::nth_element(runs.begin(), runs.begin() + 4, runs.end());
    return runs[4];
  }

 private:
  static constexpr std::size_t kBytes = 256 << 20;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t start_ = nullptr, end_ = nullptr;
  void* buffers_[4] = {};
};

int run(std::int64_t batch, const char* file) {
  std::string described, reason;
  if (file) {
    std::ostringstream text;
    text << std::ifstream(file).rdbuf();
    described = text.str();
  }
  const auto cudnn = open_cudnn(described, reason);
  if (!cudnn) {
    std::fprintf(stderr, "cudnn_engines: %s\n", reason.c_str());
    return 1;
  }
  std::printf("{\"version\": \"%s\"}\n", cudnn->version().c_str());
  std::unique_ptr<Cudnn> elsewhere;
  std::unique_ptr<Timer> timer;
  if (!file) {
    const std::string properties = cudnn->device_properties();
    std::printf("%s\n", properties.c_str());
    elsewhere = open_cudnn(properties, reason);
    if (!elsewhere) std::fprintf(stderr, "cudnn_engines: without a device: %s\n", reason.c_str());
    timer = std::make_unique<Timer>();
  }
  for (const bool tf32 : {false, true})
    for (const Shape& shape : kShapes)
      for (const CudnnPass pass : {CudnnPass::forward, CudnnPass::backward_data, CudnnPass::backward_weights}) {
        const CudnnProblem problem = problem_of(shape, pass, batch, tf32);
        const auto engines = cudnn->engines(problem, 8);
        const auto same = elsewhere ? elsewhere->engines(problem, 8) : std::vector<CudnnEngine>{};
        bool equal = elsewhere && same.size() == engines.size();
        for (std::size_t i = 0; equal && i < same.size(); ++i)
          equal = same[i].name == engines[i].name && same[i].workspace == engines[i].workspace;
        std::printf(
            "{\"pass\": %d, \"tf32\": %s, \"c\": %d, \"k\": %d, \"size\": %d, \"window\": %d, \"stride\": %d, "
            "\"same_without_a_device\": %s, \"engines\": [",
            static_cast<int>(pass), tf32 ? "true" : "false", static_cast<int>(shape.c), static_cast<int>(shape.k),
            static_cast<int>(shape.size), static_cast<int>(shape.window), static_cast<int>(shape.stride),
            equal ? "true" : "false");
        const char* separator = "";
        for (const CudnnEngine& engine : engines) {
          const auto made = cudnn->prepare(problem, engine.name);
          std::printf("%s{\"name\": \"%s\", \"workspace\": %lld, \"microseconds\": %.2f}", separator,
                      engine.name.c_str(), static_cast<long long>(engine.workspace.value),
                      timer ? timer->time(*made) : 0.0);
          separator = ", ";
        }
        std::printf("]}\n");
      }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc > 1 ? std::atoll(argv[1]) : 100, argc > 2 ? argv[2] : nullptr);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cudnn_engines: %s\n", error.what());
    return 1;
  }
}
