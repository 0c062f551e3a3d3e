#include "thimble/graph.h"

#include <algorithm>
#include <array>
#include <boost/graph/adjacency_list.hpp>
#include <queue>

#include "thimble/error.h"
#include "thimble/op_registry.h"

namespace thimble {
namespace {

constexpr std::array<std::string_view, 3> kPhaseNames{"forward", "backward", "update"};

template <class T>
const T& attribute(const Attributes& attributes, std::string_view name) {
  auto found = attributes.find(name);
  if (found == attributes.end()) throw InvalidArgument("op: attribute '" + std::string(name) + "' is missing");
  if (const T* value = std::get_if<T>(&found->second)) return *value;
  throw InvalidArgument("op: attribute '" + std::string(name) + "' has another type than the op expects");
}

using Dependences = boost::adjacency_list<boost::vecS, boost::vecS, boost::bidirectionalS>;

// An edge from each op to every op that has to run after it: readers of its outputs, and for a new version of a
// value every reader of the old one first.
Dependences dependences(const Graph& graph) {
  Dependences edges(graph.ops.size());
  for (const Tensor& tensor : graph.tensors) {
    if (tensor.producer == kNoOp) continue;
    const auto producer = static_cast<std::size_t>(tensor.producer);
    for (OpId reader : tensor.consumers) boost::add_edge(producer, static_cast<std::size_t>(reader), edges);
    if (tensor.version_of == kNoTensor) continue;
    for (OpId reader : graph.tensors[tensor.version_of].consumers)
      if (reader != tensor.producer) boost::add_edge(static_cast<std::size_t>(reader), producer, edges);
  }
  return edges;
}

}  // namespace

std::string_view to_string(Phase phase) { return kPhaseNames[static_cast<std::size_t>(phase)]; }

Phase parse_phase(std::string_view text) {
  for (std::size_t i = 0; i < kPhaseNames.size(); ++i)
    if (kPhaseNames[i] == text) return static_cast<Phase>(i);
  throw BadInput("phase '" + std::string(text) + "' is unknown");
}

std::int64_t int_attribute(const Attributes& attributes, std::string_view name) {
  return attribute<std::int64_t>(attributes, name);
}

double real_attribute(const Attributes& attributes, std::string_view name) {
  return attribute<double>(attributes, name);
}

bool is_persistent(const Tensor& tensor) {
  return tensor.role == Role::weight || tensor.role == Role::optimizer || tensor.role == Role::statistic ||
         tensor.role == Role::state;
}

TensorId Graph::add_input(std::string name, TensorType type, Role role) {
  if (find(name) != kNoTensor) throw InvalidArgument("graph: tensor '" + name + "' is there already");
  return tensors.push_back({.name = std::move(name), .type = std::move(type), .role = role});
}

TensorId Graph::find(std::string_view name) const {
  for (std::size_t i = 0; i < tensors.size(); ++i)
    if (tensors[static_cast<TensorId>(i)].name == name) return static_cast<TensorId>(i);
  return kNoTensor;
}

std::vector<TensorId> Graph::add_op(const OpRegistry& registry, const std::string& kind, const std::string& name,
                                    std::vector<TensorId> inputs, Attributes attributes, Phase phase) {
  std::vector<TensorType> types;
  for (TensorId input : inputs) {
    if (!tensors.contains(input)) throw InvalidArgument("graph: op '" + name + "' reads a tensor that is not there");
    types.push_back(tensors[input].type);
  }
  const std::vector<OutputSpec> specs = registry.at(kind).infer(types, attributes);
  const OpId id = static_cast<OpId>(ops.size());
  Op op{name, kind, phase, inputs, {}, std::move(attributes)};
  for (const OutputSpec& spec : specs) {
    std::string output_name = spec.suffix.empty() ? name : name + "." + spec.suffix;
    const TensorId output = add_input(std::move(output_name), spec.type, spec.role);
    tensors[output].producer = id;
    if (spec.version_of_input >= 0)
      tensors[output].version_of = inputs.at(static_cast<std::size_t>(spec.version_of_input));
    op.outputs.push_back(output);
  }
  for (TensorId input : inputs) {
    std::vector<OpId>& consumers = tensors[input].consumers;
    if (consumers.empty() || consumers.back() != id) consumers.push_back(id);
  }
  ops.push_back(op);
  return op.outputs;
}

std::vector<OpId> topological_order(const Graph& graph) {
  const Dependences edges = dependences(graph);
  std::vector<std::size_t> waiting_for(graph.ops.size());
  const auto ends_a_gradient = [&](std::size_t op) {
    const Op& o = graph.ops[static_cast<OpId>(op)];
    const auto is_version = [&](TensorId t) { return graph.tensors[t].version_of != kNoTensor; };
    return o.phase == Phase::update || o.kind == kAccumulateKind ||
           (o.phase == Phase::backward && std::any_of(o.outputs.begin(), o.outputs.end(), is_version));
  };
  auto later = [&](std::size_t a, std::size_t b) {
    return ends_a_gradient(a) != ends_a_gradient(b) ? ends_a_gradient(b) : a > b;
  };
  std::priority_queue<std::size_t, std::vector<std::size_t>, decltype(later)> ready(later);
  for (std::size_t op = 0; op < waiting_for.size(); ++op) {
    waiting_for[op] = boost::in_degree(op, edges);
    if (waiting_for[op] == 0) ready.push(op);
  }
  std::vector<OpId> order;
  while (!ready.empty()) {
    const std::size_t op = ready.top();
    ready.pop();
    order.push_back(static_cast<OpId>(op));
    auto [edge, last] = boost::out_edges(op, edges);
    for (; edge != last; ++edge)
      if (--waiting_for[boost::target(*edge, edges)] == 0) ready.push(boost::target(*edge, edges));
  }
  if (order.size() == graph.ops.size()) return order;
  const auto stuck = std::find_if(waiting_for.begin(), waiting_for.end(), [](std::size_t n) { return n > 0; });
  throw InvalidArgument("graph: op '" + graph.ops[static_cast<OpId>(stuck - waiting_for.begin())].name +
                        "' waits for itself: the graph has a cycle");
}

}  // namespace thimble
