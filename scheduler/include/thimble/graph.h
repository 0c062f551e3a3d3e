// The training graph: ops are vertices, tensors are numbered values with one producer and ordered consumers.
//
//   Graph g;
//   TensorId x = g.add_input("x", {DType::f32, {8, 4}, true}, Role::input);
//   TensorId w = g.add_input("w", {DType::f32, {2, 4}}, Role::weight);
//   TensorId y = g.add_op(registry, "linear", "fc", {x, w, b}).front();
//
// A graph is a plain value: printable, comparable, writable to JSON. Boost.Graph is used by scheduler/*.cpp only.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "thimble/tensor.h"

namespace thimble {

class OpRegistry;

using Attribute = std::variant<std::int64_t, double, std::string>;
using Attributes = std::map<std::string, Attribute, std::less<>>;

/// Throw InvalidArgument, naming the attribute, where it is missing or of another type.
std::int64_t int_attribute(const Attributes& attributes, std::string_view name);
double real_attribute(const Attributes& attributes, std::string_view name);

enum class Phase : std::uint8_t { forward, backward, update };
std::string_view to_string(Phase phase);
Phase parse_phase(std::string_view text);

struct Tensor {
  std::string name;
  TensorType type;
  Role role = Role::activation;
  OpId producer = kNoOp;            ///< kNoOp: given from outside (weights, state, inputs)
  std::vector<OpId> consumers{};    ///< in order of op id
  TensorId version_of = kNoTensor;  ///< an updated value in the same storage as that tensor
  bool is_output = false;           ///< read by the caller after the program (loss, metrics, logits)
  bool operator==(const Tensor&) const = default;
};

struct Op {
  std::string name;
  std::string kind;
  Phase phase = Phase::forward;
  std::vector<TensorId> inputs;
  std::vector<TensorId> outputs;
  Attributes attributes;
  bool operator==(const Op&) const = default;
};

/// Persistent tensors keep their value between programs: weights, optimizer state, running statistics, state.
bool is_persistent(const Tensor& tensor);

struct Graph {
  IdVector<TensorId, Tensor> tensors;
  IdVector<OpId, Op> ops;
  std::int64_t batch = 0;  ///< samples in one step

  /// A value given from outside. Names are unique in a graph; a second one throws InvalidArgument.
  TensorId add_input(std::string name, TensorType type, Role role);
  /// Appends an op; its outputs are made from the registry's `infer` and named `<op>.<suffix>` (the first
  /// output `<op>` where its suffix is empty). Throws InvalidArgument for an unknown kind or types that do not fit.
  std::vector<TensorId> add_op(const OpRegistry& registry, const std::string& kind, const std::string& name,
                               std::vector<TensorId> inputs, Attributes attributes = {}, Phase phase = Phase::forward);
  void mark_output(TensorId tensor) { tensors[tensor].is_output = true; }
  TensorId find(std::string_view name) const;  ///< kNoTensor where there is none
  bool operator==(const Graph&) const = default;
};

/// Ops in an order that respects data dependences and runs every reader of a value before its new version;
/// among ready ops those that end a gradient (updates, sums over microbatches) come first, then the smallest id. Throws
/// InvalidArgument on a cycle.
std::vector<OpId> topological_order(const Graph& graph);

}  // namespace thimble
