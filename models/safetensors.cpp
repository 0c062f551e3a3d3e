#include "thimble/safetensors.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "thimble/error.h"

namespace thimble {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::uint64_t kLargestHeader = 100'000'000;
constexpr std::size_t kPrefix = 8;

const char* dtype_name(DType dtype) {
  switch (dtype) {
    case DType::f32: return "F32";
    case DType::i32: return "I32";
    default: return "U8";
  }
}

DType parse_safetensors_dtype(const std::string& text, const std::string& where) {
  if (text == "F32") return DType::f32;
  if (text == "I32") return DType::i32;
  if (text == "U8") return DType::u8;
  throw BadInput(where + ": element type '" + text + "' is not one of F32, I32, U8");
}

Json parse_header(const std::string& text, std::uint64_t size, const std::string& name) {
  std::vector<std::set<std::string>> keys;
  const auto refuse_duplicates = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > 4) throw BadInput(name + ": header nested deeper than 4");
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second)
      throw BadInput(name + ": header has the key '" + parsed.get<std::string>() + "' twice");
    return true;
  };
  try {
    const char* begin = text.data() + kPrefix;
    if (*begin != '{') throw BadInput(name + ": header does not begin with '{'");
    return Json::parse(begin, begin + size, refuse_duplicates);
  } catch (const nlohmann::json::exception&) {
    throw BadInput(name + ": header of " + std::to_string(size) + " bytes is no JSON");
  }
}

std::int64_t natural(const Json& json, const std::string& where) {
  if (!json.is_number_unsigned() || json.get<std::uint64_t>() > std::uint64_t{1} << 46)
    throw BadInput(where + ": " + json.dump() + " is no integer from 0 to 2^46");
  return json.get<std::int64_t>();
}

NamedBytes parse_entry(const std::string& tensor, const Json& json, std::span<const std::byte> data, const std::string& name) {
  const std::string where = name + ": tensor '" + tensor + "'";
  const bool complete = json.is_object() && json.contains("dtype") && json.contains("shape") && json.contains("data_offsets") &&
                        json["dtype"].is_string() && json["shape"].is_array() && json["data_offsets"].is_array() &&
                        json["data_offsets"].size() == 2;
  if (!complete) throw BadInput(where + " does not state dtype, shape and two data_offsets");
  TensorType type{parse_safetensors_dtype(json["dtype"], where), {}, false};
  std::int64_t elements = 1;
  for (const Json& extent : json["shape"]) {
    type.shape.push_back(natural(extent, where + ", shape"));
    if (type.shape.back() != 0 && elements > (std::int64_t{1} << 46) / type.shape.back())
      throw BadInput(where + ": its shape has more than 2^46 elements");
    elements *= type.shape.back();
  }
  const std::int64_t begin = natural(json["data_offsets"][0], where), end = natural(json["data_offsets"][1], where);
  if (end < begin || end > static_cast<std::int64_t>(data.size()))
    throw BadInput(where + ": bytes " + std::to_string(begin) + " to " + std::to_string(end) + " lie outside the data of " + std::to_string(data.size()));
  const Bytes needed = bytes_of(type);
  if (Bytes{end - begin} != needed)
    throw BadInput(where + " has " + std::to_string(end - begin) + " bytes, its shape needs " + std::to_string(needed.value));
  return {tensor, type, data.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin))};
}

// The tensors cover the data exactly.
void check_cover(const std::vector<NamedBytes>& tensors, std::span<const std::byte> data, const std::string& name) {
  std::vector<const NamedBytes*> order;
  for (const NamedBytes& tensor : tensors) order.push_back(&tensor);
  std::stable_sort(order.begin(), order.end(), [](const NamedBytes* a, const NamedBytes* b) {
    return std::pair(a->bytes.data(), a->bytes.size()) < std::pair(b->bytes.data(), b->bytes.size());
  });
  const std::byte* at = data.data();
  for (const NamedBytes* tensor : order) {
    if (tensor->bytes.data() != at)
      throw BadInput(name + ": " + (tensor->bytes.data() < at ? "overlap" : "hole") + " before tensor '" + tensor->name + "'");
    at += tensor->bytes.size();
  }
  if (at != data.data() + data.size())
    throw BadInput(name + ": " + std::to_string(data.data() + data.size() - at) + " bytes at the end belong to no tensor");
}

class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& path) : path_(path), temporary_(path + ".tmp." + std::to_string(getpid())) {
    file_ = std::fopen(temporary_.c_str(), "wb");
    if (file_ == nullptr) throw EnvironmentError("cannot write '" + temporary_ + "'; is the folder there?");
  }
  ~TemporaryFile() {
    if (file_ == nullptr) return;
    std::fclose(file_);
    std::remove(temporary_.c_str());
  }
  void write(const void* data, std::size_t size) { good_ &= std::fwrite(data, 1, size, file_) == size; }
  void commit() {
    good_ &= std::fflush(file_) == 0 && fsync(fileno(file_)) == 0;
    good_ &= std::fclose(file_) == 0;
    file_ = nullptr;
    if (good_ && std::rename(temporary_.c_str(), path_.c_str()) == 0) return;
    std::remove(temporary_.c_str());
    throw EnvironmentError("cannot write '" + path_ + "'; is the disk full?");
  }

 private:
  std::string path_, temporary_;
  std::FILE* file_ = nullptr;
  bool good_ = true;
};

}  // namespace

const NamedBytes* SafetensorsFile::find(std::string_view name) const {
  for (const NamedBytes& tensor : tensors)
    if (tensor.name == name) return &tensor;
  return nullptr;
}

void write_safetensors(const std::string& path, const std::vector<NamedBytes>& tensors, const Metadata& metadata) {
  Json header;
  header["__metadata__"] = metadata;
  std::size_t offset = 0;
  for (const NamedBytes& tensor : tensors) {
    header[tensor.name] = {{"dtype", dtype_name(tensor.type.dtype)},
                           {"shape", tensor.type.shape},
                           {"data_offsets", {offset, offset + tensor.bytes.size()}}};
    offset += tensor.bytes.size();
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  unsigned char length[kPrefix];
  for (std::size_t i = 0; i < kPrefix; ++i) length[i] = static_cast<unsigned char>(std::uint64_t{text.size()} >> 8 * i);
  TemporaryFile file(path);
  file.write(length, kPrefix);
  file.write(text.data(), text.size());
  for (const NamedBytes& tensor : tensors) file.write(tensor.bytes.data(), tensor.bytes.size());
  file.commit();
}

SafetensorsFile parse_safetensors(std::string text, const std::string& name) {
  if (text.size() < kPrefix + 1) throw BadInput(name + ": has " + std::to_string(text.size()) + " bytes, a header needs more");
  std::uint64_t size = 0;
  for (std::size_t i = 0; i < kPrefix; ++i) size |= std::uint64_t{static_cast<unsigned char>(text[i])} << 8 * i;
  if (size == 0 || size > kLargestHeader || size > text.size() - kPrefix)
    throw BadInput(name + ": states a header of " + std::to_string(size) + " bytes, the file has " + std::to_string(text.size()) + ", the limit is 100000000");
  const Json header = parse_header(text, size, name);
  SafetensorsFile file;
  file.storage = std::move(text);
  const std::span<const std::byte> data = std::as_bytes(std::span(file.storage)).subspan(kPrefix + size);
  for (const auto& [key, value] : header.items()) {
    if (key != "__metadata__") {
      file.tensors.push_back(parse_entry(key, value, data, name));
      continue;
    }
    if (!value.is_object()) throw BadInput(name + ": __metadata__ is no object");
    for (const auto& [entry, entry_text] : value.items()) {
      if (!entry_text.is_string()) throw BadInput(name + ": __metadata__ '" + entry + "' is no string");
      file.metadata[entry] = entry_text.get<std::string>();
    }
  }
  check_cover(file.tensors, data, name);
  return file;
}

SafetensorsFile read_safetensors(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw EnvironmentError("cannot read '" + path + "': no such file, or no right to");
  std::ostringstream text;
  text << in.rdbuf();
  return parse_safetensors(std::move(text).str(), path);
}

}  // namespace thimble
