// Types and bytes of the tensors that tests of single ops make up.
#pragma once

#include <cstring>
#include <random>
#include <vector>

#include "guarded_run.h"

namespace thimble::testing {

using Floats = std::vector<float>;
using Ints = std::vector<std::int32_t>;

inline TensorType batched(std::vector<std::int64_t> shape) { return {DType::f32, std::move(shape), true}; }
inline TensorType plain(std::vector<std::int64_t> shape) { return {DType::f32, std::move(shape), false}; }
inline TensorType integers(std::vector<std::int64_t> shape) { return {DType::i32, std::move(shape), true}; }

template <class T>
ByteVector bytes_from(const std::vector<T>& values) {
  ByteVector bytes(sizeof(T) * values.size());
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

template <class T>
std::vector<T> values_from(const ByteVector& bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

inline Floats normals(std::int64_t count, std::mt19937_64& random) {
  Floats values(static_cast<std::size_t>(count));
  for (float& value : values) value = std::normal_distribution<float>()(random);
  return values;
}

inline ByteVector normals(const TensorType& type, std::uint64_t seed) {
  Floats values(static_cast<std::size_t>(element_count(type)));
  std::mt19937_64 random(seed);
  for (float& value : values) value = static_cast<float>(std::normal_distribution<double>()(random));
  return bytes_from(values);
}

}  // namespace thimble::testing
