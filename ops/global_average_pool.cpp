// The mean over height and width: NHWC to {N, C}.
#include "registration.h"
#include "thimble/parallel.h"

namespace thimble {
namespace {

constexpr std::int64_t kChunks = 8;

void forward(const OpShape& shape, const KernelArguments& a) {
  const std::vector<std::int64_t>& x = shape.inputs[0].shape;
  const std::int64_t rows = x[1] * x[2], channels = x[3];
  const Chunks chunks = Chunks::of(x[0], kChunks);
  parallel_chunks(shape.device.threads, chunks.count, [&](std::int64_t k) {
    for (std::int64_t n = chunks.begin(k); n < chunks.end(k); ++n) {
      const float* in = floats(a.inputs[0]) + n * rows * channels;
      float* out = floats(a.outputs[0]) + n * channels;
      std::fill_n(out, channels, 0.0f);
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t c = 0; c < channels; ++c) out[c] += in[r * channels + c];
      for (std::int64_t c = 0; c < channels; ++c) out[c] /= static_cast<float>(rows);
    }
  });
}

void backward(const OpShape& shape, const KernelArguments& a) {
  const std::vector<std::int64_t>& x = shape.outputs[0].shape;
  const std::int64_t rows = x[1] * x[2], channels = x[3];
  const Chunks chunks = Chunks::of(x[0], kChunks);
  parallel_chunks(shape.device.threads, chunks.count, [&](std::int64_t k) {
    for (std::int64_t n = chunks.begin(k); n < chunks.end(k); ++n) {
      const float* dy = floats(a.inputs[0]) + n * channels;
      float* dx = floats(a.outputs[0]) + n * rows * channels;
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t c = 0; c < channels; ++c) dx[r * channels + c] = dy[c] / static_cast<float>(rows);
    }
  });
}

}  // namespace

void register_global_average_pool(OpRegistry& registry) {
  OpDefinition pool;
  pool.kind = "global_average_pool";
  pool.infer = [](const std::vector<TensorType>& in, const Attributes&) {
    expect_inputs("global_average_pool", in, 1);
    expect_activation("global_average_pool", in[0]);
    return outputs_like({DType::f32, {in[0].shape[0], in[0].shape[3]}, true});
  };
  pool.gradient = [](GradientContext& g) {
    const std::vector<std::int64_t> x = g.type(g.input(0)).shape;
    g.set_input_gradient(0, g.emit("global_average_pool_backward", "d_input", {g.output_gradient(0)},
                                   {{"height", x[1]}, {"width", x[2]}})
                                .front());
  };
  pool.make_kernel = [](const OpShape& s) { return function_kernel(s, forward); };
  registry.add(pool);

  OpDefinition back;
  back.kind = "global_average_pool_backward";
  back.infer = [](const std::vector<TensorType>& in, const Attributes& attributes) {
    expect_inputs("global_average_pool_backward", in, 1);
    expect_rank("global_average_pool_backward", in[0], 2);
    const std::int64_t height = int_attribute(attributes, "height"), width = int_attribute(attributes, "width");
    if (height < 1 || width < 1 || height > 1 << 20 || width > 1 << 20 || !in[0].batched)
      throw InvalidArgument("global_average_pool_backward: height and width are from 1 to 2^20, its input is batched");
    return outputs_like({DType::f32, {in[0].shape[0], height, width, in[0].shape[1]}, true});
  };
  back.make_kernel = [](const OpShape& s) { return function_kernel(s, backward); };
  registry.add(back);
}

}  // namespace thimble
