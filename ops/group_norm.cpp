// Group normalisation (Wu and He 2018), alone or with the ReLU behind it, and its statistics alone for ops that
// normalise what they read. The moments are those of groups of neighbouring channels in one sample: no cut of the batch
// changes them, and inference is the same op.
#include "normalization.h"
#include "registration.h"

namespace thimble {
namespace {

// Of a task: the statistics' workspace, then the factors of the sample at hand.
Bytes factors_at(const NormSizes& s, std::int64_t groups) {
  return align_up(statistics_bytes(s.one_sample(), groups), kAlignment);
}

Bytes workspace(const OpShape& shape) {
  const NormSizes s = NormSizes::of(shape.inputs[0]);
  const std::int64_t groups = int_attribute(shape.attributes, "groups");
  return (factors_at(s, groups) + scale_shift_bytes(s.channels)) * s.chunks.count;
}

// Calls visit(sample, the task's workspace) when a sample's moments are there.
template <class Visit>
void visit_samples(const OpShape& shape, const KernelArguments& a, float* mean, float* variance, Visit visit) {
  const NormSizes s = NormSizes::of(shape.inputs[0]);
  const std::int64_t groups = int_attribute(shape.attributes, "groups"), own = workspace(shape).value / s.chunks.count;
  parallel_chunks(shape.device.threads, s.chunks.count, [&](std::int64_t k) {
    std::byte* at = a.workspace + k * own;
    for (std::int64_t n = s.chunks.begin(k); n < s.chunks.end(k); ++n) {
      compute_statistics(s.one_sample(), groups, floats(a.inputs[0]) + n * s.elements_per_sample(), at, 1,
                         mean + n * groups, variance + n * groups);
      visit(n, at);
    }
  });
}

void forward(const OpShape& shape, const KernelArguments& a) {
  const NormSizes s = NormSizes::of(shape.inputs[0]);
  const std::int64_t groups = int_attribute(shape.attributes, "groups");
  const double epsilon = real_attribute(shape.attributes, "epsilon");
  const bool relu = flag(shape.attributes, "relu");
  float *mean = floats(a.outputs[1]), *variance = floats(a.outputs[2]);
  visit_samples(shape, a, mean, variance, [&](std::int64_t n, std::byte* at) {
    const Moments moments = Moments{mean, variance, groups}.of_sample(n);
    const ScaleShift factors = scale_shift(at + factors_at(s, groups).value, s.channels, floats(a.inputs[1]),
                                           floats(a.inputs[2]), moments, epsilon);
    const std::int64_t first = n * s.elements_per_sample();
    normalize_rows(floats(a.inputs[0]) + first, s.channels, floats(a.outputs[0]) + first, s.rows_per_sample, s.channels,
                   factors, relu);
  });
}

void statistics(const OpShape& shape, const KernelArguments& a) {
  visit_samples(shape, a, floats(a.outputs[0]), floats(a.outputs[1]), [](std::int64_t, std::byte*) {});
}

std::vector<OutputSpec> moments_of(const std::string& kind, const TensorType& x, const Attributes& attributes) {
  const std::int64_t groups = int_attribute(attributes, "groups");
  expect_groups(kind, x.shape[3], groups);
  const TensorType of_groups{DType::f32, {x.shape[0], groups}, true};
  return {{"mean", of_groups}, {"variance", of_groups}};
}

std::vector<OutputSpec> infer_forward(const std::vector<TensorType>& in, const Attributes& attributes) {
  expect_inputs("group_norm", in, 3);
  expect_activation("group_norm", in[0]);
  expect_channel_vectors("group_norm", in, 1, 3);
  real_attribute(attributes, "epsilon");
  std::vector<OutputSpec> specs = moments_of("group_norm", in[0], attributes);
  specs.insert(specs.begin(), {"", in[0]});
  return specs;
}

std::vector<OutputSpec> infer_statistics(const std::vector<TensorType>& in, const Attributes& attributes) {
  expect_inputs("group_statistics", in, 1);
  expect_activation("group_statistics", in[0]);
  return moments_of("group_statistics", in[0], attributes);
}

// x is read anyway, and gives the ReLU's gate: neither y nor a mask has to be kept.
void gradient(GradientContext& g) {
  const bool relu = flag(g.op().attributes, "relu");
  std::vector<TensorId> inputs{g.output_gradient(0), g.input(0), g.input(1), g.output(1), g.output(2)};
  if (relu) inputs.push_back(g.input(2));
  const auto made = g.emit("group_norm_backward", "d_input", inputs,
                           {{"relu", std::int64_t{relu}}, {"epsilon", g.op().attributes.at("epsilon")}});
  for (int i = 0; i < 3; ++i) g.set_input_gradient(i, made[static_cast<std::size_t>(i)]);
}

}  // namespace

void register_group_norm(OpRegistry& registry) {
  OpDefinition norm;
  norm.kind = "group_norm";
  norm.infer = infer_forward;
  norm.gradient = gradient;
  norm.workspace = workspace;
  norm.make_kernel = [](const OpShape& s) { return function_kernel(s, forward); };
  norm.in_place = {{0, 0}};
  registry.add(norm);

  OpDefinition moments;
  moments.kind = "group_statistics";
  moments.infer = infer_statistics;
  moments.workspace = workspace;
  moments.make_kernel = [](const OpShape& s) { return function_kernel(s, statistics); };
  registry.add(moments);
}

}  // namespace thimble
