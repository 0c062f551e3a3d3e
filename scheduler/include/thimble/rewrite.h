// Surgery on graphs, for rewrites: ops become other ops or vanish, everything else stays what it was.
//
//   OpChanges changes;
//   changes[norm] = Op{"norm", "statistics", Phase::forward, {x}, {mean, variance}, {}};   // in its place
//   changes[relu] = std::nullopt;                                                        // gone
//   Graph fused = change_ops(graph, registry, changes);
//
// A rewrite is a function from a graph to another that computes the same; ops register theirs by name (op_registry.h)
// and a planner may apply it.
#pragma once

#include <map>
#include <optional>

#include "thimble/graph.h"

namespace thimble {

/// What becomes of ops: another in its place, written in the ids of the graph at hand, or none.
using OpChanges = std::map<OpId, std::optional<Op>>;

/// The graph with those ops changed. Values that no op makes any longer vanish; ids are given anew in the old order;
/// names, roles, outputs and what is given from outside stay. Throws InvalidArgument where somebody still reads a
/// value that vanished (an op, the caller, a newer version), or an op's outputs are not what its kind makes.
Graph change_ops(const Graph& graph, const OpRegistry& registry, const OpChanges& changes);

}  // namespace thimble
