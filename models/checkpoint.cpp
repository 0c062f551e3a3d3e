#include "thimble/checkpoint.h"

#include <charconv>
#include <limits>
#include <map>
#include <memory>
#include <set>

#include "thimble/error.h"
#include "thimble/safetensors.h"

namespace thimble {
namespace {

constexpr const char* kFormat = "thimble-checkpoint";
constexpr const char* kVersion = "1";

std::size_t byte_count(const CheckpointTensor& tensor) { return static_cast<std::size_t>(bytes_of(tensor.type).value); }

std::string shape_text(const std::string& dtype, const std::vector<std::int64_t>& shape) {
  std::string text = dtype + "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ",") + std::to_string(shape[i]);
  return text + "]";
}

// At most a few names, and how many more there are.
std::string listed(const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 5;
  std::string text;
  for (std::size_t i = 0; i < names.size() && i < kShown; ++i) text += (i == 0 ? "'" : ", '") + names[i] + "'";
  if (names.size() > kShown) text += " and " + std::to_string(names.size() - kShown) + " more";
  return text;
}

// What the file has for each tensor; null where nothing.
using Matches = std::vector<const SafetensorsEntry*>;

struct Matched {
  Matches entries;
  std::vector<std::string> missing_model, missing_optimizer, unused;
};

Matched match(const SafetensorsHeader& header, const std::vector<CheckpointTensor>& tensors, const std::string& path) {
  std::map<std::string_view, const SafetensorsEntry*> by_name;
  for (const SafetensorsEntry& entry : header.tensors) by_name[entry.name] = &entry;
  Matched matched;
  for (const CheckpointTensor& tensor : tensors) {
    const auto found = by_name.find(tensor.name);
    matched.entries.push_back(found == by_name.end() ? nullptr : found->second);
    if (found == by_name.end()) {
      (tensor.role == Role::optimizer ? matched.missing_optimizer : matched.missing_model).push_back(tensor.name);
      continue;
    }
    const SafetensorsEntry& entry = *found->second;
    if (entry.dtype != safetensors_dtype(tensor.type.dtype) || entry.shape != tensor.type.shape)
      throw BadInput(path + ": tensor '" + tensor.name + "' is " + shape_text(entry.dtype, entry.shape) +
                     ", the model needs " + shape_text(safetensors_dtype(tensor.type.dtype), tensor.type.shape));
    by_name.erase(found);
  }
  for (const auto& [name, entry] : by_name) matched.unused.emplace_back(name);
  return matched;
}

void read_all(const SafetensorsReader& file, const Matches& entries, const std::vector<CheckpointTensor>& tensors) {
  for (std::size_t i = 0; i < tensors.size(); ++i)
    if (entries[i] != nullptr) file.read(*entries[i], {tensors[i].data, byte_count(tensors[i])});
}

class RecordReader {
 public:
  RecordReader(const std::map<std::string, std::string>& metadata, const std::string& path)
      : metadata_(metadata), path_(path) {}

  const std::string& text(const char* key) const {
    const auto found = metadata_.find(key);
    if (found == metadata_.end())
      throw BadInput(path_ + ": __metadata__ has no '" + key +
                     "', so it is no checkpoint to go on from; start from its weights with --init");
    return found->second;
  }

  template <class T>
  T number(const char* key, T least, T most) const {
    const std::string& digits = text(key);
    T value{};
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc{} || end != digits.data() + digits.size() || value < least || value > most)
      throw BadInput(path_ + ": __metadata__ '" + key + "' is '" + digits + "', not a whole number from " +
                     std::to_string(least) + " to " + std::to_string(most));
    return value;
  }

  void expect(const char* key, const char* value) const {
    if (text(key) != value)
      throw BadInput(path_ + ": __metadata__ '" + key + "' is '" + text(key) + "', this version reads '" + value + "'");
  }

 private:
  const std::map<std::string, std::string>& metadata_;
  const std::string& path_;
};

// State is named after what it is of.
bool is_state(const std::string& name, const SafetensorsHeader& header) {
  const std::size_t dot = name.rfind('.');
  return dot != std::string::npos && header.find(std::string_view(name).substr(0, dot)) != nullptr;
}

CheckpointRecord read_record(const std::map<std::string, std::string>& metadata, const std::string& path) {
  constexpr std::int64_t kMost = std::int64_t{1} << 62;
  const RecordReader reader(metadata, path);
  reader.expect("format", kFormat);
  reader.expect("version", kVersion);
  CheckpointRecord record;
  record.graph_hash = reader.text("graph_hash");
  record.arithmetic_hash = reader.text("arithmetic_hash");
  record.data_name = reader.text("data_name");
  record.learning_rate = reader.text("learning_rate");
  record.optimizer = reader.text("optimizer");
  record.regularization = reader.text("regularization");
  record.seed = reader.number<std::uint64_t>("seed", 0, std::numeric_limits<std::uint64_t>::max());
  record.total_steps = reader.number<std::int64_t>("total_steps", 0, kMost);
  record.step = reader.number<std::int64_t>("step", 0, record.total_steps);
  record.batch = reader.number<std::int64_t>("batch", 1, kMost);
  return record;
}

}  // namespace

std::vector<CheckpointTensor> persistent_views(Runtime& runtime) {
  std::vector<CheckpointTensor> views;
  for (const PersistentTensor& tensor : runtime.plan().persistent)
    views.push_back({tensor.name, tensor.type, tensor.role, runtime.persistent(tensor.name).data()});
  return views;
}

void save_checkpoint(const std::string& path, const std::vector<CheckpointTensor>& tensors,
                     const CheckpointRecord& record) {
  std::vector<NamedBytes> views;
  views.reserve(tensors.size());
  for (const CheckpointTensor& tensor : tensors)
    views.push_back({tensor.name, tensor.type, {tensor.data, byte_count(tensor)}});
  write_safetensors(path, views,
                    {{"format", kFormat},
                     {"version", kVersion},
                     {"graph_hash", record.graph_hash},
                     {"arithmetic_hash", record.arithmetic_hash},
                     {"data_name", record.data_name},
                     {"learning_rate", record.learning_rate},
                     {"optimizer", record.optimizer},
                     {"regularization", record.regularization},
                     {"seed", std::to_string(record.seed)},
                     {"step", std::to_string(record.step)},
                     {"total_steps", std::to_string(record.total_steps)},
                     {"batch", std::to_string(record.batch)}});
}

CheckpointRecord load_checkpoint(const std::string& path, const std::vector<CheckpointTensor>& tensors,
                                 const std::function<void(const CheckpointRecord&)>& accept) {
  const SafetensorsReader file(path);
  const CheckpointRecord record = read_record(file.header().metadata, path);
  Matched matched = match(file.header(), tensors, path);
  std::vector<std::string> missing = std::move(matched.missing_model);
  missing.insert(missing.end(), matched.missing_optimizer.begin(), matched.missing_optimizer.end());
  if (!missing.empty()) throw BadInput(path + ": lacks tensors that the run needs: " + listed(missing));
  if (!matched.unused.empty())
    throw BadInput(path + ": has tensors that the run does not know: " + listed(matched.unused));
  if (accept) accept(record);
  read_all(file, matched.entries, tensors);
  return record;
}

InitialWeights load_weights(const std::string& path, const std::vector<CheckpointTensor>& tensors) {
  const SafetensorsReader file(path);
  Matched matched = match(file.header(), tensors, path);
  if (!matched.missing_model.empty())
    throw BadInput(path + ": lacks weights or statistics of the model: " + listed(matched.missing_model));
  read_all(file, matched.entries, tensors);
  return {std::move(matched.missing_optimizer), std::move(matched.unused)};
}

void average_checkpoints(const std::vector<std::string>& paths, const std::string& to) {
  if (paths.empty()) throw InvalidArgument("average: there is no checkpoint");
  std::vector<std::unique_ptr<SafetensorsReader>> files;
  for (const std::string& path : paths) files.push_back(std::make_unique<SafetensorsReader>(path));
  const SafetensorsHeader& first = files.front()->header();
  const auto refuse = [&](std::size_t i, const std::string& what) {
    throw BadInput(paths[i] + ": has not the tensors of " + paths.front() + "; " + what);
  };
  for (std::size_t i = 1; i < files.size(); ++i)
    for (const SafetensorsEntry& entry : files[i]->header().tensors)
      if (!is_state(entry.name, files[i]->header()) && first.find(entry.name) == nullptr)
        refuse(i, "that has no '" + entry.name + "'");
  std::vector<std::vector<float>> means;
  std::vector<SafetensorsTensor> tensors;
  for (const SafetensorsEntry& entry : first.tensors) {
    if (is_state(entry.name, first)) continue;
    const auto count = static_cast<std::size_t>(entry.end - entry.begin) / sizeof(float);
    std::vector<float> values(count);
    std::vector<double> sums(count, 0.0);
    for (std::size_t i = 0; i < files.size(); ++i) {
      const SafetensorsEntry* found = files[i]->header().find(entry.name);
      if (found == nullptr || found->dtype != "F32" || found->shape != entry.shape)
        refuse(i, "'" + entry.name + "' is to be " + shape_text("F32", entry.shape));
      files[i]->read(*found, std::as_writable_bytes(std::span(values)));
      for (std::size_t k = 0; k < count; ++k) sums[k] += static_cast<double>(values[k]);
    }
    for (std::size_t k = 0; k < count; ++k) values[k] = static_cast<float>(sums[k] / static_cast<double>(files.size()));
    means.push_back(std::move(values));
    tensors.push_back({entry.name, entry.dtype, entry.shape, std::as_bytes(std::span(means.back()))});
  }
  write_safetensors(to, tensors, {{"averaged", std::to_string(files.size())}});
}

}  // namespace thimble
