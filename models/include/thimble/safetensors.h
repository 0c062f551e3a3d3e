// safetensors: an 8-byte little-endian header length, a JSON header, then the tensors' bytes without holes.
//
//   write_safetensors("w.safetensors", {{"w", {DType::f32, {2, 4}}, bytes}}, {{"step", "7"}});
//   SafetensorsFile file = read_safetensors("w.safetensors");
//   file.find("w")->bytes;
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "thimble/tensor.h"

namespace thimble {

struct NamedBytes {
  std::string name;
  TensorType type;  ///< f32, i32 or u8, never batched
  std::span<const std::byte> bytes;
};

using Metadata = std::map<std::string, std::string>;

/// The file's contents; `tensors` point into `storage`.
struct SafetensorsFile {
  std::string storage;
  std::vector<NamedBytes> tensors;
  Metadata metadata;
  const NamedBytes* find(std::string_view name) const;  ///< nullptr where there is none
};

/// Streams the spans to a temporary name, syncs, then renames. Throws EnvironmentError.
void write_safetensors(const std::string& path, const std::vector<NamedBytes>& tensors, const Metadata& metadata);

/// Throws EnvironmentError where the file cannot be read, BadInput where it is not sound.
SafetensorsFile read_safetensors(const std::string& path);
/// Takes the text of a file. Refuses holes, overlaps, duplicate names, sizes that disagree with shapes, headers over 100 MB.
SafetensorsFile parse_safetensors(std::string text, const std::string& name);

}  // namespace thimble
