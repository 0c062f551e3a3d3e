#include "thimble/units.h"

#include <array>
#include <cstdio>

#include "thimble/error.h"

namespace thimble {
namespace {

constexpr std::int64_t kLimit = std::int64_t{1} << 62;

[[noreturn]] void refuse(std::string_view text, std::string_view why) {
  throw InvalidArgument("size: '" + std::string(text) + "' " + std::string(why) +
                        "; write a number of bytes such as 500000, 640MB, 8MiB or 1.5GiB");
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// Bytes in one of `unit`, or 0.
std::int64_t unit_bytes(std::string_view unit) {
  struct Unit {
    std::string_view name;
    std::int64_t bytes;
  };
  constexpr std::array<Unit, 11> kUnits = {{{"", 1},
                                            {"B", 1},
                                            {"kB", 1'000},
                                            {"KB", 1'000},
                                            {"MB", 1'000'000},
                                            {"GB", 1'000'000'000},
                                            {"TB", 1'000'000'000'000},
                                            {"KiB", std::int64_t{1} << 10},
                                            {"MiB", std::int64_t{1} << 20},
                                            {"GiB", std::int64_t{1} << 30},
                                            {"TiB", std::int64_t{1} << 40}}};
  for (const Unit& u : kUnits)
    if (u.name == unit) return u.bytes;
  return 0;
}

/// The part after the point, in bytes, rounded down. At most 6 digits, so that every product fits 64 bits.
std::int64_t fraction_bytes(std::string_view text, std::string_view digits, std::int64_t unit) {
  std::int64_t numerator = 0;
  std::int64_t denominator = 1;
  for (const char c : digits) {
    if (denominator >= 1'000'000) refuse(text, "has more than 6 digits after the point");
    numerator = 10 * numerator + (c - '0');
    denominator *= 10;
  }
  const std::int64_t whole = unit / denominator * numerator;
  const std::int64_t rest = unit % denominator * numerator;
  if (rest % denominator != 0 && unit == 1) refuse(text, "is not a whole number of bytes");
  return whole + rest / denominator;
}

}  // namespace

std::string to_string(Bytes bytes) {
  constexpr std::array<const char*, 4> kNames = {"KiB", "MiB", "GiB", "TiB"};
  const std::string exact = std::to_string(bytes.value) + " bytes";
  const double magnitude = bytes.value < 0 ? -static_cast<double>(bytes.value) : static_cast<double>(bytes.value);
  if (magnitude < 1024.0) return exact;
  double scaled = static_cast<double>(bytes.value) / 1024.0;
  std::size_t unit = 0;
  for (double m = magnitude / 1024.0; m >= 1024.0 && unit + 1 < kNames.size(); m /= 1024.0, ++unit) scaled /= 1024.0;
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%.1f %s", scaled, kNames[unit]);
  return std::string(text.data()) + " (" + exact + ")";
}

Bytes parse_bytes(std::string_view text) {
  std::size_t at = 0;
  std::int64_t whole = 0;
  for (; at < text.size() && is_digit(text[at]); ++at) {
    if (whole > kLimit / 10) refuse(text, "is 2^62 bytes or more");
    whole = 10 * whole + (text[at] - '0');
  }
  if (at == 0) refuse(text, "does not begin with a digit");
  std::string_view digits;
  if (at < text.size() && text[at] == '.') {
    const std::size_t first = ++at;
    while (at < text.size() && is_digit(text[at])) ++at;
    digits = text.substr(first, at - first);
    if (digits.empty()) refuse(text, "has no digit after the point");
  }
  const std::int64_t unit = unit_bytes(text.substr(at));
  if (unit == 0) refuse(text, "has an unknown unit");
  if (whole >= kLimit / unit) refuse(text, "is 2^62 bytes or more");
  return Bytes{whole * unit + fraction_bytes(text, digits, unit)};
}

}  // namespace thimble
