#include "convolution_engine.h"

#include <omp.h>

#include <algorithm>

#include "registration.h"
#include "thimble/library_scope.h"

namespace thimble {
namespace {

using dnnl::memory;
using Tag = memory::format_tag;

constexpr std::int64_t kChunks = 8;         // no sum over samples: as many as keep threads busy
constexpr std::int64_t kWeightChunks = 4;   // each costs a partial gradient, and fixes the order of the sum

const dnnl::engine& cpu() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

memory::desc activations(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w) {
  return {{n, c, h, w}, memory::data_type::f32, Tag::nhwc};
}

struct Descriptors {
  memory::desc source, weights, destination;
  memory::dims strides, padding;
};

memory::desc weights_as(const ConvolutionSizes& s, Tag tag) {
  return {{s.outputs, s.inputs, s.kernel_height, s.kernel_width}, memory::data_type::f32, tag};
}

Descriptors describe(const ConvolutionSizes& s, std::int64_t samples) {
  return {activations(samples, s.inputs, s.height, s.width),
          weights_as(s, Tag::any),
          activations(samples, s.outputs, s.out_height, s.out_width),
          {s.stride, s.stride},
          {s.padding, s.padding}};
}

memory::dims right_padding(const ConvolutionSizes& s) {
  return {(s.out_height - 1) * s.stride + s.kernel_height - s.height - s.padding,
          (s.out_width - 1) * s.stride + s.kernel_width - s.width - s.padding};
}

dnnl::primitive_attr user_scratchpad() {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attributes;
}

constexpr auto kDirect = dnnl::algorithm::convolution_direct;

dnnl::convolution_forward::primitive_desc forward_descriptor(const ConvolutionSizes& s, const Descriptors& d) {
  return {{dnnl::prop_kind::forward_training, kDirect, d.source, d.weights, d.destination, d.strides, d.padding,
           right_padding(s)},
          user_scratchpad(), cpu()};
}

void set_handle(memory& object, const std::byte* address) {
  object.set_data_handle(const_cast<std::byte*>(address));
}

THIMBLE_CLONES void add_to(float* __restrict sum, const float* __restrict part, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) sum[i] += part[i];
}

// Primitives are made for, and run on, the calling thread alone; TBB does the rest.
void set_one_thread() {
  const LibraryScope library;
  omp_set_num_threads(1);
}

Bytes aligned(std::size_t size) { return align_up(Bytes{static_cast<std::int64_t>(size)}, kAlignment); }

}  // namespace

ConvolutionEngine::ConvolutionEngine(ConvolutionPass pass, const ConvolutionSizes& sizes)
    : pass_(pass),
      sizes_(sizes),
      chunks_(Chunks::of(sizes.samples, pass == ConvolutionPass::backward_weights ? kWeightChunks : kChunks)) {
  const LibraryScope library;
  set_one_thread();
  for (std::int64_t c = 0; c < chunks_.count; ++c) add_chunk(chunks_.end(c) - chunks_.begin(c));
  plain_ = memory(weights_as(sizes, Tag::oihw), cpu(), DNNL_MEMORY_NONE);
  packed_memory_ = memory(packed_, cpu(), DNNL_MEMORY_NONE);
  const bool unpack = pass_ == ConvolutionPass::backward_weights;
  memory& from = unpack ? packed_memory_ : plain_;
  memory& to = unpack ? plain_ : packed_memory_;
  const dnnl::reorder::primitive_desc reordering(from, to, user_scratchpad());
  reorder_ = dnnl::reorder(reordering);
  reorder_stream_ = dnnl::stream(cpu());
  reorder_scratchpad_ = memory(reordering.scratchpad_desc(), cpu(), DNNL_MEMORY_NONE);
  reorder_arguments_ = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}, {DNNL_ARG_SCRATCHPAD, reorder_scratchpad_}};
  packed_bytes_ = aligned(packed_.get_size());
  // Never while a chunk runs, so the first chunk's scratchpad serves the reorder too.
  scratch_bytes_ = std::max(scratch_bytes_, aligned(reordering.scratchpad_desc().get_size()));
  workspace_ = packed_bytes_ * (unpack ? chunks_.count : 1) + scratch_bytes_ * chunks_.count;
}

void ConvolutionEngine::add_chunk(std::int64_t samples) {
  Descriptors d = describe(sizes_, samples);
  const auto hint = forward_descriptor(sizes_, d);
  if (!runs_.empty()) d.weights = packed_;  // all chunks read, or write, one packing
  ChunkRun run;
  memory::desc packed, scratchpad;
  if (pass_ == ConvolutionPass::forward) {
    const auto pd = forward_descriptor(sizes_, d);
    packed = pd.weights_desc();
    scratchpad = pd.scratchpad_desc();
    run.primitive = dnnl::convolution_forward(pd);
  } else if (pass_ == ConvolutionPass::backward_data) {
    const dnnl::convolution_backward_data::primitive_desc pd(
        {kDirect, d.source, d.weights, d.destination, d.strides, d.padding, right_padding(sizes_)}, user_scratchpad(),
        cpu(), hint);
    packed = pd.weights_desc();
    scratchpad = pd.scratchpad_desc();
    run.primitive = dnnl::convolution_backward_data(pd);
  } else {
    const dnnl::convolution_backward_weights::primitive_desc pd(
        {kDirect, d.source, d.weights, d.destination, d.strides, d.padding, right_padding(sizes_)}, user_scratchpad(),
        cpu(), hint);
    packed = pd.diff_weights_desc();
    scratchpad = pd.scratchpad_desc();
    run.primitive = dnnl::convolution_backward_weights(pd);
  }
  packed_ = packed;
  scratch_bytes_ = std::max(scratch_bytes_, aligned(scratchpad.get_size()));
  run.stream = dnnl::stream(cpu());
  run.source = memory(d.source, cpu(), DNNL_MEMORY_NONE);
  run.destination = memory(d.destination, cpu(), DNNL_MEMORY_NONE);
  run.weights = memory(packed, cpu(), DNNL_MEMORY_NONE);
  run.scratchpad = memory(scratchpad, cpu(), DNNL_MEMORY_NONE);
  const bool is_data = pass_ == ConvolutionPass::backward_data;
  const bool is_weights = pass_ == ConvolutionPass::backward_weights;
  run.arguments = {{is_data ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC, run.source},
                   {is_weights ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS, run.weights},
                   {pass_ == ConvolutionPass::forward ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST, run.destination},
                   {DNNL_ARG_SCRATCHPAD, run.scratchpad}};
  runs_.push_back(std::move(run));
}

void ConvolutionEngine::bind(std::int64_t index, const std::byte* source, const std::byte* destination,
                             std::byte* packed, std::byte* scratch) {
  const LibraryScope library;  // oneDNN clears the padding of packed weights at once
  ChunkRun& run = runs_[static_cast<std::size_t>(index)];
  const std::int64_t sample = chunks_.begin(index);
  set_handle(run.source, source + sample * sizes_.height * sizes_.width * sizes_.inputs * 4);
  set_handle(run.destination, destination + sample * sizes_.out_height * sizes_.out_width * sizes_.outputs * 4);
  set_handle(run.weights, packed);
  set_handle(run.scratchpad, scratch + index * scratch_bytes_.value);
}

void ConvolutionEngine::execute(ChunkRun& chunk) {
  set_one_thread();
  const LibraryScope library;
  chunk.primitive.execute(chunk.stream, chunk.arguments);
  chunk.stream.wait();
}

void ConvolutionEngine::run(const std::byte* first, const std::byte* second, std::byte* result, std::byte* workspace,
                            int threads) {
  const bool is_weights = pass_ == ConvolutionPass::backward_weights;
  std::byte* scratch = workspace + packed_bytes_.value * (is_weights ? chunks_.count : 1);
  set_one_thread();
  const auto reorder = [&](const std::byte* plain) {
    const LibraryScope library;
    set_handle(plain_, plain);
    set_handle(packed_memory_, workspace);
    set_handle(reorder_scratchpad_, scratch);
    reorder_.execute(reorder_stream_, reorder_arguments_);
    reorder_stream_.wait();
  };
  if (!is_weights) reorder(second);
  for (std::int64_t c = 0; c < chunks_.count; ++c) {
    if (pass_ == ConvolutionPass::forward) bind(c, first, result, workspace, scratch);
    if (pass_ == ConvolutionPass::backward_data) bind(c, result, first, workspace, scratch);
    if (is_weights) bind(c, first, second, workspace + c * packed_bytes_.value, scratch);
  }
  parallel_chunks(threads, chunks_.count, [&](std::int64_t c) { execute(runs_[static_cast<std::size_t>(c)]); });
  if (!is_weights) return;
  sum_partials(workspace, threads);
  reorder(result);
}

// Always partial 0 + 1 + 2 + ..., whoever computes it.
void ConvolutionEngine::sum_partials(std::byte* workspace, int threads) const {
  const std::int64_t elements = static_cast<std::int64_t>(packed_.get_size()) / 4;
  const Chunks pieces = Chunks::of(elements, 8);
  parallel_chunks(threads, pieces.count, [&](std::int64_t p) {
    const std::int64_t at = 4 * pieces.begin(p), count = pieces.end(p) - pieces.begin(p);
    for (std::int64_t c = 1; c < chunks_.count; ++c)
      add_to(floats(workspace + at), floats(workspace + c * packed_bytes_.value + at), count);
  });
}

}  // namespace thimble
