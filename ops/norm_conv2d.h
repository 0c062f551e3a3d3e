// How much norm_conv2d and its gradients work on at a time, for who writes such an op into a graph.
#pragma once

#include <cstdint>

#include "thimble/op_registry.h"

namespace thimble {

/// Samples of x that stay in a second cache until they are convolved, at least one.
std::int64_t norm_conv_group(const TensorType& x);

/// Input channels whose weights' gradient a task makes at a time: half of them, from 16 to 32.
std::int64_t norm_conv_weights_slice(const TensorType& x);

/// As norm_conv_group for the weights' gradient of that many input channels, where a group after a chunk's first takes
/// a second packed gradient, and adds it: groups are so large that adding stays cheap, and whole chunks where that is
/// the smaller workspace.
std::int64_t norm_conv_weights_group(const TensorType& x, const TensorType& dy, const TensorType& w,
                                     std::int64_t channels);

/// Input channels whose gradient exists at a time: a quarter of x, at least what a vector holds.
std::int64_t norm_conv_slice(const TensorType& x);

/// The second half of the rewrite "norm_conv".
Graph join_norm_conv_neighbours(const Graph& graph, const OpRegistry& registry);

}  // namespace thimble
