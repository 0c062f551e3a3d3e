#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "thimble/error.h"
#include "thimble/safetensors.h"

namespace thimble {
namespace {

constexpr std::int64_t kLengthBytes = 8;
constexpr std::string_view kMetadata = "__metadata__";

// Takes the header event by event, so that keys given twice are seen and no tree is built.
class HeaderEvents : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderEvents(SafetensorsHeader& header, std::string_view file) : header_(header), file_(file) {}

  [[noreturn]] void refuse(const std::string& what) const { throw BadInput(std::string(file_) + ": " + what); }

  bool null() override { unexpected("null"); }
  bool boolean(bool) override { unexpected("a boolean"); }
  bool number_integer(number_integer_t value) override { unexpected(std::to_string(value)); }
  bool number_float(number_float_t, const string_t& text) override { unexpected("the number " + text); }
  bool binary(binary_t&) override { unexpected("binary"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (!in_array_) unexpected(std::to_string(value));
    if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max() / 2))
      refuse(place() + " holds " + std::to_string(value) + ", the limit is 2^62");
    numbers_.push_back(static_cast<std::int64_t>(value));
    return true;
  }

  bool string(string_t& text) override {
    if (depth_ == 2 && in_metadata_ && !in_array_) {
      header_.metadata[field_] = text;
      return true;
    }
    if (depth_ != 2 || in_array_ || field_ != "dtype") unexpected("a string");
    entry_.dtype = text;
    return true;
  }

  bool key(string_t& text) override {
    if (depth_ == 1) {
      if (!names_.insert(text).second) refuse("the key '" + text + "' comes twice");
      tensor_ = text;
    } else {
      field_ = text;
      if (!fields_.insert(text).second) refuse(place() + " comes twice");
      if (!in_metadata_ && text != "dtype" && text != "shape" && text != "data_offsets")
        refuse(place() + " is unknown");
    }
    return true;
  }

  bool start_object(std::size_t) override {
    if (depth_ == 2 || in_array_) unexpected("an object");
    if (++depth_ == 2) {
      in_metadata_ = tensor_ == kMetadata;
      fields_.clear();
      entry_ = {};
      entry_.name = tensor_;
      field_.clear();
    }
    return true;
  }

  bool end_object() override {
    if (depth_-- != 2) return true;
    for (const char* needed : {"dtype", "shape", "data_offsets"})
      if (!in_metadata_ && fields_.count(needed) == 0) refuse("tensor '" + tensor_ + "' has no '" + needed + "'");
    if (!in_metadata_) header_.tensors.push_back(entry_);
    return true;
  }

  bool start_array(std::size_t) override {
    if (depth_ != 2 || in_metadata_ || in_array_ || field_ == "dtype") unexpected("an array");
    in_array_ = true;
    numbers_.clear();
    return true;
  }

  bool end_array() override {
    in_array_ = false;
    if (field_ == "shape") {
      entry_.shape = numbers_;
    } else {
      if (numbers_.size() != 2) refuse(place() + " has " + std::to_string(numbers_.size()) + " numbers, not 2");
      entry_.begin = numbers_[0];
      entry_.end = numbers_[1];
    }
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    refuse("the header is no JSON at byte " + std::to_string(position) + ": " + error.what());
  }

 private:
  std::string place() const {
    if (depth_ < 2) return tensor_.empty() ? "the header" : "key '" + tensor_ + "'";
    return (in_metadata_ ? std::string(kMetadata) : "tensor '" + tensor_ + "'") + ": '" + field_ + "'";
  }
  [[noreturn]] void unexpected(const std::string& what) const {
    refuse(place() + " holds " + what + " where the format has none");
  }

  SafetensorsHeader& header_;
  std::string_view file_;
  int depth_ = 0;
  bool in_metadata_ = false, in_array_ = false;
  std::string tensor_, field_;
  std::set<std::string> names_, fields_;
  std::vector<std::int64_t> numbers_;
  SafetensorsEntry entry_;
};

std::optional<std::int64_t> checked_product(const std::vector<std::int64_t>& shape, std::int64_t element_bytes) {
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  std::int64_t bytes = element_bytes;
  for (std::int64_t extent : shape)
    if (__builtin_mul_overflow(bytes, extent, &bytes)) return std::nullopt;
  return bytes;
}

void check_entry(const SafetensorsEntry& entry, std::int64_t data_bytes, const HeaderEvents& events) {
  const auto refuse = [&](const std::string& what) { events.refuse("tensor '" + entry.name + "' " + what); };
  const std::string range = "lies at " + std::to_string(entry.begin) + ".." + std::to_string(entry.end);
  if (entry.begin > entry.end) refuse(range + ": it ends before it begins");
  if (entry.end > data_bytes) refuse(range + ", the file has " + std::to_string(data_bytes) + " bytes of data");
  const auto bytes = checked_product(entry.shape, safetensors_element_bytes(entry.dtype));
  if (!bytes) refuse("has a shape of 2^63 bytes or more");
  if (*bytes != entry.end - entry.begin)
    refuse(range + ", its shape and type need " + std::to_string(*bytes) + " bytes");
}

// Sorted by place, they have to follow each other without hole or overlap up to the end.
void check_cover(std::vector<SafetensorsEntry>& tensors, std::int64_t data_bytes, const HeaderEvents& events) {
  std::stable_sort(tensors.begin(), tensors.end(), [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  std::int64_t reached = 0;
  for (const SafetensorsEntry& entry : tensors) {
    if (entry.begin != reached)
      events.refuse("tensor '" + entry.name + "' begins at " + std::to_string(entry.begin) +
                    ", the one before it ends at " + std::to_string(reached) +
                    (entry.begin < reached ? ": they overlap" : ": there is a hole"));
    reached = entry.end;
  }
  if (reached != data_bytes)
    events.refuse("the tensors end at " + std::to_string(reached) + ", the data at " + std::to_string(data_bytes));
}

}  // namespace

const SafetensorsEntry* SafetensorsHeader::find(std::string_view name) const {
  const auto found =
      std::find_if(tensors.begin(), tensors.end(), [&](const auto& entry) { return entry.name == name; });
  return found == tensors.end() ? nullptr : &*found;
}

std::int64_t safetensors_element_bytes(std::string_view dtype) {
  for (const char* one : {"BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"})
    if (dtype == one) return 1;
  for (const char* two : {"U16", "I16", "F16", "BF16"})
    if (dtype == two) return 2;
  for (const char* four : {"U32", "I32", "F32"})
    if (dtype == four) return 4;
  for (const char* eight : {"U64", "I64", "F64"})
    if (dtype == eight) return 8;
  throw BadInput("safetensors: type '" + std::string(dtype) + "' is unknown");
}

SafetensorsHeader parse_safetensors(std::string_view start, std::int64_t file_bytes, std::string_view name) {
  SafetensorsHeader header;
  HeaderEvents events(header, name);
  if (file_bytes < kLengthBytes || static_cast<std::int64_t>(start.size()) < kLengthBytes)
    events.refuse("has " + std::to_string(file_bytes) + " bytes, a safetensors file at least 8");
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < kLengthBytes; ++i)
    length |= static_cast<std::uint64_t>(static_cast<unsigned char>(start[i])) << (8 * i);
  if (length > kSafetensorsHeaderLimit)
    events.refuse("the header has " + std::to_string(length) + " bytes, the limit is 100000000");
  header.data_begin = kLengthBytes + static_cast<std::int64_t>(length);
  if (header.data_begin > file_bytes || start.size() < static_cast<std::size_t>(header.data_begin))
    events.refuse("the header has " + std::to_string(length) + " bytes, the file ends after " +
                  std::to_string(file_bytes - kLengthBytes));
  const std::string_view text = start.substr(kLengthBytes, length);
  if (!text.starts_with('{')) events.refuse("the header does not begin with '{'");
  nlohmann::json::sax_parse(text, &events);
  const std::int64_t data_bytes = file_bytes - header.data_begin;
  for (const SafetensorsEntry& entry : header.tensors) check_entry(entry, data_bytes, events);
  check_cover(header.tensors, data_bytes, events);
  return header;
}

}  // namespace thimble
