#include "thimble/tensor.h"

#include <array>
#include <string>

#include "thimble/error.h"

namespace thimble {
namespace {

constexpr std::array<std::string_view, 4> kDTypeNames{"f32", "i32", "u8", "bit"};
constexpr std::array<std::string_view, kRoleCount> kRoleNames{
    "weight", "optimizer", "gradient", "activation", "statistic", "state", "workspace", "input", "other"};

template <class Enum, std::size_t N>
Enum parse_name(const std::array<std::string_view, N>& names, std::string_view text, const char* what) {
  for (std::size_t i = 0; i < N; ++i)
    if (names[i] == text) return static_cast<Enum>(i);
  throw BadInput(std::string(what) + " '" + std::string(text) + "' is unknown");
}

Bytes bytes_of_elements(DType dtype, std::int64_t elements) {
  switch (dtype) {
    case DType::f32:
    case DType::i32:
      return Bytes{4 * elements};
    case DType::u8:
      return Bytes{elements};
    case DType::bit:
      return Bytes{(elements + 31) / 32 * 4};
  }
  return Bytes{};
}

}  // namespace

std::string_view to_string(DType dtype) { return kDTypeNames[static_cast<std::size_t>(dtype)]; }
std::string_view to_string(Role role) { return kRoleNames[static_cast<std::size_t>(role)]; }
DType parse_dtype(std::string_view text) { return parse_name<DType>(kDTypeNames, text, "element type"); }
Role parse_role(std::string_view text) { return parse_name<Role>(kRoleNames, text, "role"); }

std::int64_t element_count(const TensorType& type) {
  std::int64_t n = 1;
  for (std::int64_t d : type.shape) n *= d;
  return n;
}

std::int64_t elements_per_sample(const TensorType& type) {
  return type.batched ? element_count(type) / type.shape.at(0) : element_count(type);
}

Bytes bytes_of(const TensorType& type) {
  if (!type.batched) return bytes_of_elements(type.dtype, element_count(type));
  return type.shape.at(0) * bytes_of_elements(type.dtype, elements_per_sample(type));
}

TensorType with_samples(TensorType type, std::int64_t samples) {
  if (type.batched) type.shape.at(0) = samples;
  return type;
}

}  // namespace thimble
