// The graph against the registry: types in a file cannot lie about what a kernel will touch.
#include <algorithm>
#include <exception>

#include "program_check.h"

namespace thimble {
namespace {

bool makes(const Op& op, TensorId id) {
  return std::find(op.outputs.begin(), op.outputs.end(), id) != op.outputs.end();
}

void check_tensors(ProgramCheck& check) {
  const Graph& graph = check.graph;
  std::set<std::string_view> names;
  for (TensorId id : ids_of(graph.tensors)) {
    const Tensor& tensor = graph.tensors[id];
    const OpId producer = tensor.producer;
    if (!names.insert(tensor.name).second) check.report("two tensors are named '" + tensor.name + "'");
    if (producer == kNoOp && tensor.version_of != kNoTensor)
      check.report("tensor '" + tensor.name + "' is given, but a version of another");
    if (producer != kNoOp && (!graph.ops.contains(producer) || !makes(graph.ops[producer], id)))
      check.report("tensor '" + tensor.name + "' is not made by the op it names");
  }
}

void compare_outputs(ProgramCheck& check, const Op& op, const std::vector<OutputSpec>& specs) {
  if (specs.size() != op.outputs.size())
    return check.report("op '" + op.name + "' has " + std::to_string(op.outputs.size()) + " outputs, its kind makes " +
                        std::to_string(specs.size()));
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const Tensor& tensor = check.graph.tensors[op.outputs[i]];
    const int from = specs[i].version_of_input;
    const TensorId old = from < 0 ? kNoTensor : op.inputs.at(static_cast<std::size_t>(from));
    const std::string than_made = " than op '" + op.name + "' makes";
    if (tensor.type != specs[i].type) check.report("tensor '" + tensor.name + "' has another type" + than_made);
    if (tensor.version_of != old)
      check.report("tensor '" + tensor.name + "' is a version of another value" + than_made);
  }
}

void check_op(ProgramCheck& check, OpId id) {
  const Op& op = check.graph.ops[id];
  for (TensorId output : op.outputs)
    if (const Tensor& tensor = check.graph.tensors[output]; tensor.producer != id)
      check.report("tensor '" + tensor.name + "' is not made by op '" + op.name + "'");
  if (!check.registry.contains(op.kind))
    return check.report("op '" + op.name + "' is of unknown kind '" + op.kind + "'");
  std::vector<TensorType> inputs;
  for (TensorId input : op.inputs) inputs.push_back(check.graph.tensors[input].type);
  try {
    compare_outputs(check, op, check.registry.at(op.kind).infer(inputs, op.attributes));
  } catch (const std::exception& error) {
    check.report("op '" + op.name + "': " + error.what());
  }
}

}  // namespace

void check_graph(ProgramCheck& check) {
  check_tensors(check);
  for (OpId id : ids_of(check.graph.ops)) check_op(check, id);
  if (check.failed) return;
  for (const Tensor& tensor : check.graph.tensors)
    if (tensor.type.batched && tensor.type.shape[0] != check.graph.batch)
      check.report("tensor '" + tensor.name + "' holds " + std::to_string(tensor.type.shape[0]) +
                   " samples, the batch has " + std::to_string(check.graph.batch));
}

}  // namespace thimble
