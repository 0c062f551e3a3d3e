#include "thimble/checkpoint.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "thimble/error.h"
#include "thimble/safetensors.h"

namespace thimble {
namespace {

constexpr const char* kFormat = "thimble-checkpoint-1";

const std::string& text_of(const SafetensorsFile& file, const std::string& key, const std::string& path) {
  const auto found = file.metadata.find(key);
  if (found == file.metadata.end()) throw BadInput(path + ": __metadata__ has no '" + key + "'; it is no checkpoint to go on from");
  return found->second;
}

template <class T>
T number_of(const SafetensorsFile& file, const std::string& key, const std::string& path) {
  const std::string& text = text_of(file, key, path);
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < T{})
    throw BadInput(path + ": __metadata__ '" + key + "' is '" + text + "', no number from 0 to 2^63");
  return value;
}

const NamedBytes* matching(const SafetensorsFile& file, const CheckpointTensor& tensor, const std::string& path) {
  const NamedBytes* found = file.find(tensor.name);
  if (found != nullptr && found->type != tensor.type)
    throw BadInput(path + ": tensor '" + tensor.name + "' has another shape or element type than the model's");
  return found;
}

void copy(const NamedBytes& from, const CheckpointTensor& to) { std::memcpy(to.data, from.bytes.data(), from.bytes.size()); }

}  // namespace

void save_checkpoint(const std::string& path, const std::vector<CheckpointTensor>& tensors,
                     const CheckpointRecord& record) {
  std::vector<NamedBytes> views;
  for (const CheckpointTensor& tensor : tensors)
    views.push_back({tensor.name, tensor.type, {tensor.data, static_cast<std::size_t>(bytes_of(tensor.type).value)}});
  write_safetensors(path, views,
                    {{"format", kFormat},
                     {"graph_hash", record.graph_hash},
                     {"arithmetic_hash", record.arithmetic_hash},
                     {"data", record.data_name},
                     {"seed", std::to_string(record.seed)},
                     {"step", std::to_string(record.step)},
                     {"total_steps", std::to_string(record.total_steps)},
                     {"batch", std::to_string(record.batch)}});
}

CheckpointRecord load_checkpoint(const std::string& path, const std::vector<CheckpointTensor>& tensors) {
  const SafetensorsFile file = read_safetensors(path);
  if (const std::string& format = text_of(file, "format", path); format != kFormat)
    throw BadInput(path + ": format is '" + format + "', this build reads '" + kFormat + "'");
  CheckpointRecord record{.graph_hash = text_of(file, "graph_hash", path),
                          .arithmetic_hash = text_of(file, "arithmetic_hash", path),
                          .data_name = text_of(file, "data", path),
                          .seed = number_of<std::uint64_t>(file, "seed", path),
                          .step = number_of<std::int64_t>(file, "step", path),
                          .total_steps = number_of<std::int64_t>(file, "total_steps", path),
                          .batch = number_of<std::int64_t>(file, "batch", path)};
  std::vector<const NamedBytes*> sources;
  for (const CheckpointTensor& tensor : tensors) {
    sources.push_back(matching(file, tensor, path));
    if (sources.back() == nullptr) throw BadInput(path + ": tensor '" + tensor.name + "' is missing");
  }
  for (const NamedBytes& tensor : file.tensors)
    if (std::none_of(tensors.begin(), tensors.end(), [&](const CheckpointTensor& t) { return t.name == tensor.name; }))
      throw BadInput(path + ": tensor '" + tensor.name + "' is not one of the model's");
  for (std::size_t i = 0; i < tensors.size(); ++i) copy(*sources[i], tensors[i]);
  return record;
}

std::vector<std::string> load_weights(const std::string& path, const std::vector<CheckpointTensor>& tensors) {
  const SafetensorsFile file = read_safetensors(path);
  std::vector<std::string> missing;
  for (const CheckpointTensor& tensor : tensors) {
    if (matching(file, tensor, path) != nullptr) continue;
    if (tensor.role == Role::weight) throw BadInput(path + ": weight '" + tensor.name + "' is missing");
    missing.push_back(tensor.name);
  }
  for (const CheckpointTensor& tensor : tensors)
    if (const NamedBytes* found = file.find(tensor.name)) copy(*found, tensor);
  return missing;
}

}  // namespace thimble
