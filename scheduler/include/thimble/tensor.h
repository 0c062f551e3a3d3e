// What a tensor is to the planner: element type, shape, whether dimension 0 counts samples, and its role.
//
//   TensorType images{DType::f32, {100, 32, 32, 3}, /*batched=*/true};    // NHWC, 100 samples
//   bytes_of(images) == 1228800_B;   bytes_of(with_samples(images, 10)) == 122880_B;
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "thimble/units.h"

namespace thimble {

enum class TensorId : std::int32_t {};
enum class OpId : std::int32_t {};
inline constexpr TensorId kNoTensor{-1};
inline constexpr OpId kNoOp{-1};

/// `bit` is a mask of one bit per element; each sample (or the whole of an unbatched tensor) is packed into
/// 32-bit words of its own, element e in bit e % 32 of word e / 32.
enum class DType : std::uint8_t { f32, i32, u8, bit };

/// The order is the one of reports. `state` is what programs of one plan hand on to each other, as a decoder's keys,
/// values and last positions.
enum class Role : std::uint8_t { weight, optimizer, gradient, activation, statistic, state, workspace, input, other };
inline constexpr int kRoleCount = 9;

/// Names used in files: "f32", "weight", ... Parsing throws BadInput on unknown ones.
std::string_view to_string(DType dtype);
std::string_view to_string(Role role);
DType parse_dtype(std::string_view text);
Role parse_role(std::string_view text);

struct TensorType {
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;  ///< row-major, each > 0; empty is a scalar
  bool batched = false;             ///< shape[0] counts samples, so a microbatch holds a slice of it
  auto operator<=>(const TensorType&) const = default;
};

/// Number of elements; of one sample where `batched`.
std::int64_t element_count(const TensorType& type);
std::int64_t elements_per_sample(const TensorType& type);
/// Exact bytes, without alignment.
Bytes bytes_of(const TensorType& type);
/// The same type holding `samples` samples; unchanged where not batched.
TensorType with_samples(TensorType type, std::int64_t samples);

}  // namespace thimble
