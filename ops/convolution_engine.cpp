#include "convolution_engine.h"

#include <algorithm>

#include "one_thread.h"
#include "registration.h"
#include "thimble/library_scope.h"
#include "vector_sum.h"

namespace thimble {
namespace {

using dnnl::memory;
using Tag = memory::format_tag;

constexpr std::int64_t kChunks = 8;  // no sum over samples: as many as keep threads busy
// Each costs a partial gradient, and fixes the order of the sum: fewer where the gradient is larger than what it is of.
constexpr std::int64_t kWeightChunks = 4, kFewestWeightChunks = 2;

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

// OIHW as it lies, which may be some of the input channels of more.
memory::desc plain_weights(const ConvolutionSizes& s) {
  const std::int64_t window = s.kernel_height * s.kernel_width, all = std::max(s.inputs, s.inputs_of_weights);
  return {{s.outputs, s.inputs, s.kernel_height, s.kernel_width},
          memory::data_type::f32,
          memory::dims{all * window, window, s.kernel_width, 1}};
}

Descriptors describe(const ConvolutionSizes& s, std::int64_t samples) {
  return {activations(samples, s.inputs, s.height, s.width),
          {{s.outputs, s.inputs, s.kernel_height, s.kernel_width}, memory::data_type::f32, Tag::any},
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
          user_scratchpad(),
          cpu()};
}

void set_handle(memory& object, const std::byte* address) { object.set_data_handle(const_cast<std::byte*>(address)); }

Bytes aligned(std::size_t size) { return align_up(Bytes{static_cast<std::int64_t>(size)}, kAlignment); }

}  // namespace

ConvolutionEngine::ConvolutionEngine(ConvolutionPass pass, const ConvolutionSizes& sizes, std::int64_t group,
                                     std::int64_t most_chunks)
    : pass_(pass),
      sizes_(sizes),
      chunks_(most_chunks > 0 ? Chunks::of(sizes.samples, most_chunks) : chunks(pass, sizes)),
      group_(group > 0 ? std::min(group, chunks_.size) : chunks_.size),
      source_bytes_(sizes.height * sizes.width * sizes.inputs * 4),
      destination_bytes_(sizes.out_height * sizes.out_width * sizes.outputs * 4) {
  const LibraryScope library;
  keep_library_on_one_thread();
  for (std::int64_t c = 0; c < chunks_.count; ++c) add_chunk(chunks_.end(c) - chunks_.begin(c));
  make_reorder();
}

Chunks ConvolutionEngine::chunks(ConvolutionPass pass, const ConvolutionSizes& s) {
  if (pass != ConvolutionPass::backward_weights) return Chunks::of(s.samples, kChunks);
  const std::int64_t arguments = s.samples * (s.height * s.width * s.inputs + s.out_height * s.out_width * s.outputs);
  const std::int64_t gradient = s.outputs * s.inputs * s.kernel_height * s.kernel_width;
  return Chunks::of(s.samples, std::clamp(arguments / gradient, kFewestWeightChunks, kWeightChunks));
}

Bytes ConvolutionEngine::workspace(int threads) const {
  const std::int64_t further = is_weights() && group_ < chunks_.size ? slots(threads) : 0;
  return packed_bytes_ * (is_weights() ? chunks_.count : 1) + scratch_bytes_ * chunks_.count + packed_bytes_ * further;
}

// Never runs while a chunk does, so the first chunk's scratchpad serves it too.
void ConvolutionEngine::make_reorder() {
  plain_ = memory(plain_weights(sizes_), cpu(), DNNL_MEMORY_NONE);
  packed_memory_ = memory(packed_, cpu(), DNNL_MEMORY_NONE);
  memory& from = is_weights() ? packed_memory_ : plain_;
  memory& to = is_weights() ? plain_ : packed_memory_;
  const dnnl::reorder::primitive_desc reordering(from, to, user_scratchpad());
  reorder_ = dnnl::reorder(reordering);
  scratch_bytes_ = std::max(scratch_bytes_, aligned(reordering.scratchpad_desc().get_size()));
  if (is_weights()) {
    dnnl::primitive_attr adding = user_scratchpad();
    dnnl::post_ops sum;
    sum.append_sum(1.0f);
    adding.set_post_ops(sum);
    const dnnl::reorder::primitive_desc also(from, to, adding);
    adding_reorder_ = dnnl::reorder(also);
    scratch_bytes_ = std::max(scratch_bytes_, aligned(also.scratchpad_desc().get_size()));
  }
  reorder_stream_ = dnnl::stream(cpu());
  reorder_scratchpad_ = memory(reordering.scratchpad_desc(), cpu(), DNNL_MEMORY_NONE);
  reorder_arguments_ = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}, {DNNL_ARG_SCRATCHPAD, reorder_scratchpad_}};
  packed_bytes_ = aligned(packed_.get_size());
}

const ConvolutionEngine::Primitive& ConvolutionEngine::primitive_for(std::int64_t samples) {
  for (const Primitive& made : primitives_)
    if (made.samples == samples) return made;
  Descriptors d = describe(sizes_, samples);
  const auto hint = forward_descriptor(sizes_, d);
  if (!primitives_.empty()) d.weights = packed_;  // all of them read, or write, one packing
  Primitive made{samples, {}, d.source, d.destination, {}};
  if (pass_ == ConvolutionPass::forward) {
    const auto pd = forward_descriptor(sizes_, d);
    packed_ = pd.weights_desc();
    made.scratchpad = pd.scratchpad_desc();
    made.primitive = dnnl::convolution_forward(pd);
  } else if (pass_ == ConvolutionPass::backward_data) {
    const dnnl::convolution_backward_data::primitive_desc pd(
        {kDirect, d.source, d.weights, d.destination, d.strides, d.padding, right_padding(sizes_)}, user_scratchpad(),
        cpu(), hint);
    packed_ = pd.weights_desc();
    made.scratchpad = pd.scratchpad_desc();
    made.primitive = dnnl::convolution_backward_data(pd);
  } else {
    const dnnl::convolution_backward_weights::primitive_desc pd(
        {kDirect, d.source, d.weights, d.destination, d.strides, d.padding, right_padding(sizes_)}, user_scratchpad(),
        cpu(), hint);
    packed_ = pd.diff_weights_desc();
    made.scratchpad = pd.scratchpad_desc();
    made.primitive = dnnl::convolution_backward_weights(pd);
  }
  scratch_bytes_ = std::max(scratch_bytes_, aligned(made.scratchpad.get_size()));
  primitives_.push_back(made);
  return primitives_.back();
}

void ConvolutionEngine::add_chunk(std::int64_t samples) {
  ChunkRun run{dnnl::stream(cpu()), {}};
  if (samples >= group_) run.pieces.push_back(make_piece(primitive_for(group_)));
  if (samples % group_ != 0) run.pieces.push_back(make_piece(primitive_for(samples % group_)));
  runs_.push_back(std::move(run));
}

ConvolutionEngine::Piece ConvolutionEngine::make_piece(const Primitive& made) const {
  const auto nowhere = [](const memory::desc& type) { return memory(type, cpu(), DNNL_MEMORY_NONE); };
  Piece piece{made.samples,
              made.primitive,
              nowhere(made.source),
              nowhere(packed_),
              nowhere(made.destination),
              nowhere(made.scratchpad),
              {}};
  const bool is_data = pass_ == ConvolutionPass::backward_data;
  piece.arguments = {{is_data ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC, piece.source},
                     {is_weights() ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS, piece.weights},
                     {pass_ == ConvolutionPass::forward ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST, piece.destination},
                     {DNNL_ARG_SCRATCHPAD, piece.scratchpad}};
  return piece;
}

// What stays where it is while all tasks run. oneDNN clears the padding of packed weights at once, so tasks must not.
void ConvolutionEngine::bind_constants(std::byte* workspace) {
  const LibraryScope library;
  std::byte* scratch = workspace + packed_bytes_.value * (is_weights() ? chunks_.count : 1);
  for (std::size_t c = 0; c < runs_.size(); ++c)
    for (Piece& piece : runs_[c].pieces) {
      if (!is_weights()) set_handle(piece.weights, workspace);
      set_handle(piece.scratchpad, scratch + static_cast<std::int64_t>(c) * scratch_bytes_.value);
    }
}

void ConvolutionEngine::reorder(const std::byte* plain, std::byte* workspace) {
  const LibraryScope library;
  set_handle(plain_, plain);
  set_handle(packed_memory_, workspace);
  set_handle(reorder_scratchpad_, workspace + packed_bytes_.value * (is_weights() ? chunks_.count : 1));
  (adds_ ? adding_reorder_ : reorder_).execute(reorder_stream_, reorder_arguments_);
  reorder_stream_.wait();
}

// Where a group's gradient goes that is not the chunk's first: packed, and added at once.
void ConvolutionEngine::run_chunk(const Call& call, std::int64_t chunk, std::int64_t slot) {
  std::byte* partial = call.workspace + (is_weights() ? chunk * packed_bytes_.value : 0);
  std::byte* further = call.workspace + ((packed_bytes_ + scratch_bytes_) * chunks_.count + packed_bytes_ * slot).value;
  for (std::int64_t n = chunks_.begin(chunk); n < chunks_.end(chunk); n += group_) {
    const bool is_first = n == chunks_.begin(chunk);
    run_group_of(call, {n, std::min(chunks_.end(chunk), n + group_)}, is_first ? partial : further, slot);
    if (is_weights() && !is_first)
      add_vectors(floats(partial), floats(further), floats(partial), static_cast<std::int64_t>(packed_.get_size()) / 4);
  }
}

void ConvolutionEngine::run_group_of(const Call& call, HalfOpen samples, std::byte* packed, std::int64_t slot) {
  const std::byte* first = call.first.read(call.first.context, samples, slot);
  if (is_weights()) return execute(samples, first, call.second + samples.begin * destination_bytes_, packed);
  if (call.adder == nullptr) {
    const std::int64_t bytes = pass_ == ConvolutionPass::backward_data ? source_bytes_ : destination_bytes_;
    return execute(samples, first, call.result + samples.begin * bytes, nullptr);
  }
  execute(samples, first, call.adder->scratch(call.adder->context, slot), nullptr);
  call.adder->add(call.adder->context, samples, slot);
}

// `last` is the result, or what stands behind the first argument where the result is the packed gradient of weights.
void ConvolutionEngine::execute(HalfOpen samples, const std::byte* first, const std::byte* last,
                                const std::byte* packed) {
  ChunkRun& run = runs_[static_cast<std::size_t>(samples.begin / chunks_.size)];
  Piece& piece = run.pieces.front().samples == samples.size() ? run.pieces.front() : run.pieces.back();
  keep_library_on_one_thread();
  const LibraryScope library;
  const bool is_data = pass_ == ConvolutionPass::backward_data;
  set_handle(is_data ? piece.destination : piece.source, first);
  set_handle(is_data ? piece.source : piece.destination, last);
  if (packed != nullptr) set_handle(piece.weights, packed);
  piece.primitive.execute(run.stream, piece.arguments);
  run.stream.wait();
}

void ConvolutionEngine::run(const std::byte* first, const std::byte* second, std::byte* result, std::byte* workspace,
                            int threads, const SampleAdder* adder) {
  struct Plain {
    const std::byte* address;
    std::int64_t sample_bytes;
  };
  const Plain plain{first, pass_ == ConvolutionPass::backward_data ? destination_bytes_ : source_bytes_};
  const auto read = [](const void* context, HalfOpen samples, std::int64_t) {
    const auto* from = static_cast<const Plain*>(context);
    return from->address + samples.begin * from->sample_bytes;
  };
  run(SampleReader{&plain, read}, second, result, workspace, threads, adder);
}

void ConvolutionEngine::run(const SampleReader& first, const std::byte* second, std::byte* result, std::byte* workspace,
                            int threads, const SampleAdder* adder) {
  prepare(second, workspace);
  const Call call{first, second, result, workspace, adder};
  parallel_chunks_in_slots(threads, chunks_.count,
                           [&](std::int64_t chunk, std::int64_t slot) { run_chunk(call, chunk, slot); });
  if (!is_weights()) return;
  sum_partials(workspace, threads);
  reorder(result, workspace);
}

void ConvolutionEngine::prepare(const std::byte* second, std::byte* workspace) {
  keep_library_on_one_thread();
  if (!is_weights()) reorder(second, workspace);
  bind_constants(workspace);
}

// Always partial 0 + 1 + 2 + ..., whoever computes it.
void ConvolutionEngine::sum_partials(std::byte* workspace, int threads) const {
  const std::int64_t elements = static_cast<std::int64_t>(packed_.get_size()) / 4;
  const Chunks pieces = Chunks::of(elements, 8);
  parallel_chunks(threads, pieces.count, [&](std::int64_t p) {
    const std::int64_t at = 4 * pieces.begin(p), count = pieces.end(p) - pieces.begin(p);
    for (std::int64_t c = 1; c < chunks_.count; ++c)
      add_vectors(floats(workspace + at), floats(workspace + c * packed_bytes_.value + at), floats(workspace + at),
                  count);
  });
}

}  // namespace thimble
