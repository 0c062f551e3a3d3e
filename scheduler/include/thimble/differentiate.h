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
};

/// Appends backward ops for every weight that `loss` depends on, and an update for each. A value read twice gets
/// the sum of its gradients. Weights without a gradient are left alone. Throws InvalidArgument where an op on the
/// way has no gradient rule.
Graph differentiate(Graph forward, const OpRegistry& registry, TensorId loss, const Optimizer& optimizer);

/// As above, without updates: gradients are marked as outputs. For tests and for optimizers outside the graph.
Graph differentiate(Graph forward, const OpRegistry& registry, TensorId loss);

}  // namespace thimble
