// WideResNet (Zagoruyko and Komodakis 2016) for 32x32 pictures, as its authors' code has it.
//
//   WideResNet model = parse_wide_resnet("wrn-28-2");
//   Graph forward = build_wide_resnet(model, registry, 100, Mode::train);
//   parameter_count(forward) == 1467610;
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "thimble/graph.h"
#include "thimble/op_registry.h"

namespace thimble {

struct WideResNet {
  int depth = 28;    ///< 6n + 4
  int width = 2;     ///< factor on 16, 32, 64 channels
  int classes = 10;
  bool fuse = true;  ///< BN and ReLU as one op
  bool operator==(const WideResNet&) const = default;
};

/// `wrn-D-W`. Throws InvalidArgument that names the rule.
WideResNet parse_wide_resnet(const std::string& name);

enum class Mode { train, evaluate };

/// Inputs `images` {batch, 32, 32, 3} and `labels` {batch}; outputs `loss` and `correct`. Evaluation normalises with
/// the running statistics. Both modes name the persistent tensors alike.
Graph build_wide_resnet(const WideResNet& model, const OpRegistry& registry, std::int64_t batch, Mode mode);

/// Elements of all weights.
std::int64_t parameter_count(const Graph& graph);

/// A hash of text that is the same on every machine (FNV-1a).
std::uint64_t stable_hash(std::string_view text);

/// Fresh values for a persistent tensor, decided by (seed, name) alone: convolutions normal with variance
/// 2 / (k k outputs), the classifier uniform within 1/sqrt(inputs) as PyTorch, BN scale and running variance one, all
/// else zero.
void initialize_parameter(std::span<float> values, std::string_view name, const TensorType& type, std::uint64_t seed);

}  // namespace thimble
