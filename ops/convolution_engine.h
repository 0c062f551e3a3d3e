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
  std::int64_t inputs_of_weights = 0;  ///< where `inputs` are some of the weights' input channels: all of them
};

/// Where the first argument of a group of samples lies: the tensor itself, or a scratch that `read` fills first. Called
/// by the task that convolves the group; `slot` tells tasks apart that run at once.
struct SampleReader {
  const void* context;
  const std::byte* (*read)(const void* context, HalfOpen samples, std::int64_t slot);
};

/// Where a group of results goes first: a scratch, from which `add` adds it to the result. Called like `read`.
struct SampleAdder {
  const void* context;
  std::byte* (*scratch)(const void* context, std::int64_t slot);
  void (*add)(const void* context, HalfOpen samples, std::int64_t slot);
};

/// One pass of one convolution, ready to run. Everything it needs beside its arguments is workspace:
/// packed weights (or packed partial weight gradients, one per chunk), then a scratchpad per chunk. Weight gradients of
/// chunks in several groups take one more packed gradient per slot: oneDNN overwrites what it is given.
class ConvolutionEngine {
 public:
  /// `group`: how many samples a primitive takes at once; 0 is a whole chunk. `most_chunks`: 0 is what `chunks` says.
  ConvolutionEngine(ConvolutionPass pass, const ConvolutionSizes& sizes, std::int64_t group = 0,
                    std::int64_t most_chunks = 0);
  static Chunks chunks(ConvolutionPass pass, const ConvolutionSizes& sizes);
  Bytes workspace(int threads) const;
  std::int64_t group() const { return group_; }  ///< never more than a chunk
  std::int64_t slots(int threads) const { return slot_count(threads, chunks_.count); }

  /// first, second -> result is (x, w) -> y forward, (dy, w) -> dx for data, (x, dy) -> dw for weights. With an adder
  /// (forward and data), it is its to do with a group's result what it likes.
  void run(const std::byte* first, const std::byte* second, std::byte* result, std::byte* workspace, int threads,
           const SampleAdder* adder = nullptr);
  /// Adds to the weights' gradient instead of overwriting it, from the next run on or no longer.
  void set_adding(bool adds) { adds_ = adds; }
  /// As above, the first argument read a group at a time.
  void run(const SampleReader& first, const std::byte* second, std::byte* result, std::byte* workspace, int threads,
           const SampleAdder* adder = nullptr);

  /// Forward and data, from a task of another engine that is cut alike, where two convolutions meet: `prepare` packs
  /// the second argument, then any task may convolve a group of its chunk.
  void prepare(const std::byte* second, std::byte* workspace);
  void run_group(HalfOpen samples, const std::byte* first, std::byte* result) {
    execute(samples, first, result, nullptr);
  }

 private:
  struct Primitive {
    std::int64_t samples;
    dnnl::primitive primitive;
    dnnl::memory::desc source, destination, scratchpad;
  };
  // A primitive with the memory it runs on.
  struct Piece {
    std::int64_t samples;
    dnnl::primitive primitive;
    dnnl::memory source, weights, destination, scratchpad;
    std::unordered_map<int, dnnl::memory> arguments;
  };
  // A task: its groups run one after the other, all but the last in the first piece.
  struct ChunkRun {
    dnnl::stream stream;
    std::vector<Piece> pieces;
  };
  struct Call {
    const SampleReader& first;
    const std::byte* second;
    std::byte *result, *workspace;
    const SampleAdder* adder;
  };

  const Primitive& primitive_for(std::int64_t samples);
  void add_chunk(std::int64_t samples);
  void make_reorder();
  Piece make_piece(const Primitive& made) const;
  bool is_weights() const { return pass_ == ConvolutionPass::backward_weights; }
  void bind_constants(std::byte* workspace);
  void reorder(const std::byte* plain, std::byte* workspace);
  void run_chunk(const Call& call, std::int64_t chunk, std::int64_t slot);
  void run_group_of(const Call& call, HalfOpen samples, std::byte* packed, std::int64_t slot);
  void execute(HalfOpen samples, const std::byte* first, const std::byte* last, const std::byte* packed);
  void sum_partials(std::byte* workspace, int threads) const;

  ConvolutionPass pass_;
  ConvolutionSizes sizes_;
  Chunks chunks_;
  std::int64_t group_;
  bool adds_ = false;
  std::int64_t source_bytes_, destination_bytes_;  // of one sample
  dnnl::memory::desc packed_;
  Bytes packed_bytes_, scratch_bytes_;
  std::vector<Primitive> primitives_;
  std::vector<ChunkRun> runs_;
  dnnl::memory plain_, packed_memory_, reorder_scratchpad_;
  dnnl::reorder reorder_, adding_reorder_;
  std::unordered_map<int, dnnl::memory> reorder_arguments_;
  dnnl::stream reorder_stream_;
};

}  // namespace thimble
