// Strong types for quantities that cross functions: bytes, offsets, and dense ids.
//
//   Bytes size = 256_KiB;
//   Offset end = Offset{} + size;           // point + distance = point
//   Bytes gap = end - Offset{64};           // point - point = distance; point + point does not compile
//   IdVector<TensorId, Bytes> sizes;        // indexed by TensorId only
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace thimble {

/// A distance in bytes. Signed, so that differences are ordinary values.
struct Bytes {
  std::int64_t value = 0;
  constexpr Bytes() = default;
  constexpr explicit Bytes(std::int64_t v) : value(v) {}
  constexpr auto operator<=>(const Bytes&) const = default;
  constexpr bool operator==(const Bytes&) const = default;
  constexpr Bytes& operator+=(Bytes other) {
    value += other.value;
    return *this;
  }
  constexpr Bytes& operator-=(Bytes other) {
    value -= other.value;
    return *this;
  }
};
constexpr Bytes operator+(Bytes a, Bytes b) { return Bytes{a.value + b.value}; }
constexpr Bytes operator-(Bytes a, Bytes b) { return Bytes{a.value - b.value}; }
constexpr Bytes operator*(Bytes a, std::int64_t n) { return Bytes{a.value * n}; }
constexpr Bytes operator*(std::int64_t n, Bytes a) { return a * n; }

/// A point in an arena: the number of bytes from its base.
struct Offset {
  std::int64_t value = 0;
  constexpr Offset() = default;
  constexpr explicit Offset(std::int64_t v) : value(v) {}
  constexpr auto operator<=>(const Offset&) const = default;
  constexpr bool operator==(const Offset&) const = default;
};
constexpr Offset operator+(Offset a, Bytes b) { return Offset{a.value + b.value}; }
constexpr Offset operator-(Offset a, Bytes b) { return Offset{a.value - b.value}; }
constexpr Bytes operator-(Offset a, Offset b) { return Bytes{a.value - b.value}; }

/// `value` rounded up to a multiple of `alignment` (a positive number of bytes).
constexpr Bytes align_up(Bytes value, Bytes alignment) {
  return Bytes{(value.value + alignment.value - 1) / alignment.value * alignment.value};
}
constexpr Offset align_up(Offset value, Bytes alignment) { return Offset{} + align_up(value - Offset{}, alignment); }

namespace literals {
constexpr Bytes operator""_B(unsigned long long n) { return Bytes{static_cast<std::int64_t>(n)}; }
constexpr Bytes operator""_KiB(unsigned long long n) { return Bytes{static_cast<std::int64_t>(n) << 10}; }
constexpr Bytes operator""_MiB(unsigned long long n) { return Bytes{static_cast<std::int64_t>(n) << 20}; }
constexpr Bytes operator""_MB(unsigned long long n) { return Bytes{static_cast<std::int64_t>(n) * 1'000'000}; }
}  // namespace literals

/// Every span an arena grants begins at a multiple of this (a cache line, and the widest vector load).
inline constexpr Bytes kAlignment{64};

/// "37.5 MiB (39321600 bytes)": a rounded figure for people, the exact one beside it.
std::string to_string(Bytes bytes);

/// Parses `500000`, `640MB` (10^6), `8MiB` (2^20), `1.5GiB`. Throws InvalidArgument on anything else,
/// negative numbers and sizes of 2^62 bytes or more included.
Bytes parse_bytes(std::string_view text);

/// A moment of a program: the index of one executed step.
enum class Step : std::int32_t {};
constexpr std::int32_t index(Step s) { return static_cast<std::int32_t>(s); }

/// A vector that only ids of one kind can index. `Id` is an enum class over an integer.
template <class Id, class T>
class IdVector {
 public:
  IdVector() = default;
  explicit IdVector(std::size_t size, const T& value = T{}) : values_(size, value) {}
  T& operator[](Id id) { return values_[static_cast<std::size_t>(id)]; }
  const T& operator[](Id id) const { return values_[static_cast<std::size_t>(id)]; }
  T& at(Id id) { return values_.at(static_cast<std::size_t>(id)); }
  const T& at(Id id) const { return values_.at(static_cast<std::size_t>(id)); }
  Id push_back(T value) {
    values_.push_back(std::move(value));
    return static_cast<Id>(values_.size() - 1);
  }
  void reserve(std::size_t size) { values_.reserve(size); }
  void clear() { values_.clear(); }
  bool contains(Id id) const {
    return static_cast<std::int64_t>(id) >= 0 && static_cast<std::size_t>(id) < values_.size();
  }
  std::size_t size() const { return values_.size(); }
  bool empty() const { return values_.empty(); }
  auto begin() { return values_.begin(); }
  auto end() { return values_.end(); }
  auto begin() const { return values_.begin(); }
  auto end() const { return values_.end(); }
  bool operator==(const IdVector&) const = default;

 private:
  std::vector<T> values_;
};

}  // namespace thimble
