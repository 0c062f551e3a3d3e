// Runs tiny plans on host memory with fixed numbers, and keeps what came out by name.
#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "other_placements.h"
#include "thimble/runtime.h"
#include "tiny_ops.h"

namespace thimble::testing {

using Values = std::map<std::string, std::vector<float>>;

inline void fill_persistent(Runtime& runtime) {
  for (const PersistentTensor& tensor : runtime.plan().persistent) {
    auto raw = runtime.persistent(tensor.name);
    auto* values = reinterpret_cast<float*>(raw.data());
    for (std::size_t i = 0; i < raw.size() / sizeof(float); ++i)
      values[i] = tensor.role == Role::weight ? value_of(tensor.name, i) : 0.0F;
  }
}

inline std::vector<float> floats(std::span<const std::byte> raw) {
  std::vector<float> values(raw.size() / sizeof(float));
  std::memcpy(values.data(), raw.data(), raw.size());
  return values;
}

inline void fill_inputs(const Program& program, ProgramView& view) {
  for (const Tensor& tensor : program.graph.tensors) {
    if (tensor.producer != kNoOp || is_persistent(tensor)) continue;
    auto values = view.as<float>(tensor.name);
    const std::int64_t first = tensor.type.batched ? view.samples().begin * elements_per_sample(tensor.type) : 0;
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = value_of(tensor.name, static_cast<std::size_t>(first) + i);
  }
}

/// One run: outputs, and persistent tensors as they are afterwards.
inline Values run_once(Runtime& runtime, const std::string& name) {
  const Program& program = runtime.plan().program(name);
  Values values;
  runtime.run(
      name, {.seed = 1, .step = 0, .learning_rate = 0.125F}, [&](ProgramView& view) { fill_inputs(program, view); },
      [&](ProgramView& view) {
        for (const Tensor& tensor : program.graph.tensors)
          if (tensor.is_output) values[tensor.name] = floats(view.bytes(tensor.name));
      });
  for (const PersistentTensor& tensor : runtime.plan().persistent)
    values[tensor.name] = floats(runtime.persistent(tensor.name));
  return values;
}

inline Values run_plan(const Plan& plan, const OpRegistry& registry, const std::string& name = "train",
                       RuntimeOptions options = {.poison = true, .canaries = true}) {
  HostMemory memory;
  Runtime runtime(plan, registry, memory, options);
  fill_persistent(runtime);
  return run_once(runtime, name);
}

/// The meaning of a graph: every op runs once on the whole batch, every tensor in memory of its own.
inline Values interpret(const Graph& graph, const OpRegistry& registry) {
  Values values;
  for (const Tensor& tensor : graph.tensors) {
    std::vector<float>& v = values[tensor.name];
    v.resize(count_of(tensor.type));
    for (std::size_t i = 0; i < v.size() && tensor.producer == kNoOp; ++i)
      v[i] = is_persistent(tensor) && tensor.role != Role::weight ? 0.0F : value_of(tensor.name, i);
  }
  const StepScalars scalars{.seed = 1, .step = 0, .learning_rate = 0.125F};
  for (std::size_t i = 0; i < graph.ops.size(); ++i) {
    const OpId id{static_cast<std::int32_t>(i)};
    const Op& op = graph.ops[id];
    std::vector<const std::byte*> inputs;
    std::vector<std::byte*> outputs;
    for (TensorId t : op.inputs) inputs.push_back(reinterpret_cast<std::byte*>(values[graph.tensors[t].name].data()));
    for (TensorId t : op.outputs) outputs.push_back(reinterpret_cast<std::byte*>(values[graph.tensors[t].name].data()));
    if (registry.at(op.kind).view) {
      values[graph.tensors[op.outputs[0]].name] = values[graph.tensors[op.inputs[0]].name];
      continue;
    }
    const OpShape shape = shape_of(graph, id, graph.batch, {});
    std::vector<std::byte> workspace(static_cast<std::size_t>(registry.workspace(op.kind, shape).value) + 64);
    registry.at(op.kind).make_kernel(shape)->run(
        {inputs, outputs, workspace.data(), &scalars, {0, graph.batch}, graph.batch, true});
  }
  return values;
}

}  // namespace thimble::testing
