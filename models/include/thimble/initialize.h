// First values of parameters: from the seed and the parameter's name only, so that no order or cut changes them.
//
//   std::vector<float> weight(element_count(type));
//   initialize_parameter(weight, "stem.weight", {DType::f32, {16, 3, 3, 3}}, /*seed=*/1);
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "thimble/tensor.h"

namespace thimble {

/// FNV-1a, 64 bits: the same on every machine and in every version.
constexpr std::uint64_t stable_hash(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

/// Convolutions (OIHW): normal with variance 2 / (kernel height x width x outputs), He et al. 2015, fan-out.
/// Linear weights (OI): uniform, of `classifier` within 1 / sqrt(inputs), of others within sqrt(6 / (inputs + outputs))
/// (Glorot and Bengio 2010). `.embedding.weight` and `.output.weight`: normal with variance 1 / columns, and row 1 of
/// an embedding, the padding's, zero. `.running_variance`, and a vector called `.weight` (the
/// scale of a normalisation): 1. Everything else, optimizer state included: 0.
/// Throws InvalidArgument where `values` is not as long as the type says.
void initialize_parameter(std::span<float> values, std::string_view name, const TensorType& type, std::uint64_t seed);

}  // namespace thimble
