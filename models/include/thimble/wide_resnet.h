// Wide residual networks (Zagoruyko and Komodakis 2016) with pre-activation blocks, as graphs.
//
//   Graph g = build_wide_resnet(parse_wide_resnet("wrn-28-2"), registry, /*batch=*/128, Mode::train);
//   parameter_count(g) == 1467610;
//   TensorId loss = g.find("loss");
//
// Inputs: `pictures` {N, 3, 32, 32} bytes, `labels` {N}, in training `crops` {N, 3} (augment.h). Outputs: `loss` (mean),
// `correct` (a count).
// Parameters: stem.weight, block3.bn1.weight .bias .running_mean .running_variance, block3.conv1.weight,
// block0.shortcut.weight, final.bn..., classifier.weight, classifier.bias. Blocks are numbered over all groups. With
// group normalisation block3.gn1.weight .bias and final.gn..., and nothing that runs.
#pragma once

#include <cstdint>
#include <string_view>

#include "thimble/graph.h"
#include "thimble/model_graph.h"

namespace thimble {

/// Whose statistics normalise. `batch`: those of the samples that are computed at once, so of a microbatch where the
/// batch is cut, and running ones in evaluation. `group` (Wu and He 2018): each sample's own, over 16 groups of
/// channels (as De et al. 2022 train WRN-16-4), so that neither a cut nor evaluation changes them.
enum class Norm : std::uint8_t { batch, group };

struct WideResNet {
  int depth = 28;  ///< 6n + 4: three groups of n blocks
  int width = 2;   ///< channels of the groups: 16, 32 and 64 times this
  int classes = 10;
  bool fuse = true;    ///< normalisation and ReLU as one op
  double dropout = 0;  ///< rate behind each block's first convolution, in training
  Norm norm = Norm::batch;
  bool operator==(const WideResNet&) const = default;
};

/// `wrn-28-2`: depth 28, width 2. Throws InvalidArgument, naming the rule, for anything else.
WideResNet parse_wide_resnet(std::string_view name);

/// Throws InvalidArgument where depth, width, classes, dropout or batch are out of range.
Graph build_wide_resnet(const WideResNet& model, const OpRegistry& registry, std::int64_t batch, Mode mode);

}  // namespace thimble
