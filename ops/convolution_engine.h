// oneDNN convolutions cut into fixed chunks of samples, each chunk one single-threaded primitive in a task.
#pragma once

#include <dnnl.hpp>
#include <unordered_map>
#include <vector>

#include "thimble/op_registry.h"
#include "thimble/parallel.h"

namespace thimble {

enum class ConvolutionPass { forward, backward_data, backward_weights };

/// Sizes of one convolution. Activations are NHWC, weights OIHW.
struct ConvolutionSizes {
  std::int64_t samples, height, width, inputs;
  std::int64_t out_height, out_width, outputs;
  std::int64_t kernel_height, kernel_width, stride, padding;
};

/// One pass of one convolution, ready to run. Everything it needs beside its arguments is workspace:
/// packed weights (or packed partial weight gradients, one per chunk), then a scratchpad per chunk.
class ConvolutionEngine {
 public:
  ConvolutionEngine(ConvolutionPass pass, const ConvolutionSizes& sizes);
  Bytes workspace() const { return workspace_; }
  /// first, second -> result is (x, w) -> y forward, (dy, w) -> dx for data, (x, dy) -> dw for weights.
  void run(const std::byte* first, const std::byte* second, std::byte* result, std::byte* workspace, int threads);

 private:
  struct ChunkRun {
    dnnl::primitive primitive;
    dnnl::stream stream;
    dnnl::memory source, weights, destination, scratchpad;
    std::unordered_map<int, dnnl::memory> arguments;
  };
  void add_chunk(std::int64_t samples);
  void execute(ChunkRun& chunk);
  void bind(std::int64_t index, const std::byte* source, const std::byte* destination, std::byte* packed,
            std::byte* workspace);
  void sum_partials(std::byte* workspace, int threads) const;

  ConvolutionPass pass_;
  ConvolutionSizes sizes_;
  Chunks chunks_;
  dnnl::memory::desc packed_;
  Bytes packed_bytes_, scratch_bytes_, workspace_;
  std::vector<ChunkRun> runs_;
  dnnl::memory plain_, packed_memory_, reorder_scratchpad_;
  dnnl::reorder reorder_;
  std::unordered_map<int, dnnl::memory> reorder_arguments_;
  dnnl::stream reorder_stream_;
};

}  // namespace thimble
