// From a forward graph to a training step: gradients by reverse accumulation, then one update per weight.
//
//   Graph step = differentiate(forward, registry, forward.find("loss"),
//                              {.kind = "sgd_update", .state = {"momentum"}, .attributes = {{"nesterov", 1}}});
#pragma once

#include <string>
#include <vector>

#include "thimble/graph.h"

namespace thimble {

/// An optimizer is an op kind `(weight, gradient, state...) -> (weight', state'...)`; each state tensor has the
/// weight's shape and is named `<weight>.<state>`.
struct Optimizer {
  std::string kind;
  std::vector<std::string> state;
  Attributes attributes;
  /// Where given, an op kind `(gradient, state, weight) -> state'` that takes in each microbatch's gradient as it is
  /// made; `kind` is then `(weight, state') -> weight'`, and no sum of gradients exists. Takes one state tensor.
  std::string accumulate_kind{};
};

/// Appends backward ops for every weight that `loss` depends on, and an update for each. A value read twice gets
/// the sum of its gradients. Weights without a gradient are left alone. Throws InvalidArgument where an op on the
/// way has no gradient rule, or the optimizer's ops and state do not go together.
Graph differentiate(Graph forward, const OpRegistry& registry, TensorId loss, const Optimizer& optimizer);

/// As above, without updates: gradients are marked as outputs. For tests and for optimizers outside the graph.
Graph differentiate(Graph forward, const OpRegistry& registry, TensorId loss);

}  // namespace thimble
