// safetensors files: 8 bytes length, a JSON header, plain little-endian tensors without holes. Readers of hostile files
// (every length, range and name is checked first), writers that copy no tensor and leave no half-written file.
//
//   SafetensorsReader file("model.safetensors");
//   for (const SafetensorsEntry& entry : file.header().tensors) file.read(entry, destination);
//   write_safetensors("copy.safetensors", {{"w", "F32", {2, 2}, bytes}}, {{"step", "7"}});
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "thimble/tensor.h"

namespace thimble {

/// The format's own limit.
inline constexpr std::int64_t kSafetensorsHeaderLimit = 100'000'000;

struct SafetensorsEntry {
  std::string name;
  std::string dtype;                ///< as in the file: F32, I64, ...
  std::vector<std::int64_t> shape;  ///< row-major; empty is a scalar, and zeros are allowed
  std::int64_t begin = 0;           ///< bytes, from the start of the data
  std::int64_t end = 0;
  bool operator==(const SafetensorsEntry&) const = default;
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> tensors;        ///< in the order of their bytes
  std::map<std::string, std::string> metadata;  ///< `__metadata__`
  std::int64_t data_begin = 0;                  ///< bytes, from the start of the file

  const SafetensorsEntry* find(std::string_view name) const;
};

/// Bytes of one element. Throws BadInput for a type that is unknown or not a whole number of bytes.
std::int64_t safetensors_element_bytes(std::string_view dtype);

/// Reads the header from the first bytes of a file (all of its header has to be in `start`) of `file_bytes` bytes,
/// which messages call `name`. Throws BadInput for whatever the format does not allow: a header over 100 MB or past the
/// end, keys given twice, unknown types, sizes that do not fit the shape, overlaps, holes, bytes left over.
SafetensorsHeader parse_safetensors(std::string_view start, std::int64_t file_bytes, std::string_view name);

class SafetensorsReader {
 public:
  /// Throws EnvironmentError where the file cannot be read, BadInput as parse_safetensors.
  explicit SafetensorsReader(const std::string& path);
  ~SafetensorsReader();
  SafetensorsReader(const SafetensorsReader&) = delete;
  SafetensorsReader& operator=(const SafetensorsReader&) = delete;

  const SafetensorsHeader& header() const { return header_; }
  /// Reads a tensor straight to where it belongs. Throws InvalidArgument where `to` has another size, BadInput where
  /// the file has become shorter, EnvironmentError where it cannot be read.
  void read(const SafetensorsEntry& entry, std::span<std::byte> to) const;

 private:
  std::string path_;
  int file_ = -1;
  SafetensorsHeader header_;
};

struct SafetensorsTensor {
  std::string name;
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;
};

/// A tensor of ours; `bit` cannot be written.
struct NamedBytes {
  std::string name;
  TensorType type;
  std::span<const std::byte> bytes;
};

/// The format's name of a type: F32, I32, U8. Throws InvalidArgument for `bit`.
std::string safetensors_dtype(DType dtype);

/// Writes to a temporary name beside `path`, then renames. Throws InvalidArgument for names given twice or bytes that
/// do not fit a shape, EnvironmentError where the file cannot be written; the old file then stays as it was.
void write_safetensors(const std::string& path, const std::vector<SafetensorsTensor>& tensors,
                       const std::map<std::string, std::string>& metadata);
void write_safetensors(const std::string& path, const std::vector<NamedBytes>& tensors,
                       const std::map<std::string, std::string>& metadata);

}  // namespace thimble
