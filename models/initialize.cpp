#include "thimble/initialize.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "thimble/error.h"
#include "thimble/philox.h"

namespace thimble {
namespace {

// One block of four numbers for elements 4i..4i+3.
PhiloxBlock block_of(std::uint64_t i, std::uint64_t name_hash, std::uint64_t seed) {
  return philox({static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(i >> 32),
                 static_cast<std::uint32_t>(name_hash), static_cast<std::uint32_t>(name_hash >> 32)},
                seed ^ stable_hash("initialize"));
}

// Box and Muller: two normals from two uniforms.
void fill_normal(std::span<float> values, double deviation, std::uint64_t name_hash, std::uint64_t seed) {
  for (std::size_t e = 0; e < values.size(); e += 2) {
    const PhiloxBlock block = block_of(e / 4, name_hash, seed);
    const std::size_t pair = e % 4;
    const double radius = deviation * std::sqrt(-2 * std::log(static_cast<double>(uniform_from(block[pair]))));
    const double angle = 2 * std::numbers::pi * static_cast<double>(uniform_from(block[pair + 1]));
    values[e] = static_cast<float>(radius * std::cos(angle));
    if (e + 1 < values.size()) values[e + 1] = static_cast<float>(radius * std::sin(angle));
  }
}

void fill_uniform(std::span<float> values, double bound, std::uint64_t name_hash, std::uint64_t seed) {
  for (std::size_t e = 0; e < values.size(); ++e) {
    const auto unit = static_cast<double>(uniform_from(block_of(e / 4, name_hash, seed)[e % 4]));
    values[e] = static_cast<float>(bound * (2 * unit - 1));
  }
}

}  // namespace

void initialize_parameter(std::span<float> values, std::string_view name, const TensorType& type, std::uint64_t seed) {
  if (type.dtype != DType::f32 || static_cast<std::int64_t>(values.size()) != element_count(type))
    throw InvalidArgument("initialize: '" + std::string(name) + "' has " + std::to_string(element_count(type)) +
                          " values, the span " + std::to_string(values.size()) + " floats");
  const std::uint64_t hash = stable_hash(name);
  const bool is_weight = name.ends_with(".weight");
  if (is_weight && type.shape.size() == 4) {
    const std::int64_t fan_out = type.shape[0] * type.shape[2] * type.shape[3];
    return fill_normal(values, std::sqrt(2.0 / static_cast<double>(fan_out)), hash, seed);
  }
  if (is_weight && type.shape.size() == 2) {
    const auto outputs = static_cast<double>(type.shape[0]), inputs = static_cast<double>(type.shape[1]);
    if (name.ends_with(".embedding.weight") || name.ends_with(".output.weight")) {
      fill_normal(values, 1 / std::sqrt(inputs), hash, seed);
      const auto padding = static_cast<std::ptrdiff_t>(type.shape[1]);
      if (name.ends_with(".embedding.weight") && type.shape[0] > 1)
        std::fill(values.begin() + padding, values.begin() + 2 * padding, 0.0f);
      return;
    }
    return fill_uniform(values, std::sqrt(name.starts_with("classifier") ? 1 / inputs : 6 / (inputs + outputs)), hash,
                        seed);
  }
  const bool is_one = name.ends_with(".running_variance") || (is_weight && type.shape.size() == 1);
  std::fill(values.begin(), values.end(), is_one ? 1.0f : 0.0f);
}

}  // namespace thimble
