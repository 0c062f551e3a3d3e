#include "thimble/safetensors.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "pending_file.h"
#include "thimble/error.h"

namespace thimble {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

std::string reason() { return std::strerror(errno); }

// Bytes read, fewer only where the file ends. Throws EnvironmentError.
std::size_t read_at(int file, std::byte* to, std::size_t size, std::int64_t offset, const std::string& path) {
  std::size_t done = 0;
  while (done < size) {
    const ssize_t got = ::pread(file, to + done, size - done, offset + static_cast<std::int64_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw EnvironmentError("cannot read '" + path + "': " + reason());
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

void check_tensor(const SafetensorsTensor& tensor) {
  const auto refuse = [&](const std::string& what) {
    throw InvalidArgument("safetensors: tensor '" + tensor.name + "' " + what);
  };
  if (tensor.name == "__metadata__") refuse("has the name of the metadata");
  std::int64_t bytes = safetensors_element_bytes(tensor.dtype);
  for (std::int64_t extent : tensor.shape)
    if (extent < 0 || __builtin_mul_overflow(bytes, extent, &bytes)) refuse("has a shape out of range");
  if (bytes != static_cast<std::int64_t>(tensor.bytes.size()))
    refuse("has " + std::to_string(tensor.bytes.size()) + " bytes, its shape and type need " + std::to_string(bytes));
}

std::string header_text(const std::vector<SafetensorsTensor>& tensors,
                        const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::set<std::string> names;
  std::int64_t begin = 0;
  for (const SafetensorsTensor& tensor : tensors) {
    check_tensor(tensor);
    if (!names.insert(tensor.name).second)
      throw InvalidArgument("safetensors: the name '" + tensor.name + "' comes twice");
    const std::int64_t end = begin + static_cast<std::int64_t>(tensor.bytes.size());
    header[tensor.name] = {{"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {begin, end}}};
    begin = end;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::type_error& error) {
    throw InvalidArgument(std::string("safetensors: a name or metadata is not UTF-8: ") + error.what());
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');
  if (static_cast<std::int64_t>(text.size()) > kSafetensorsHeaderLimit)
    throw InvalidArgument("safetensors: the header would have " + std::to_string(text.size()) +
                          " bytes, the limit is 100000000");
  return text;
}

}  // namespace

SafetensorsReader::SafetensorsReader(const std::string& path) : path_(path) {
  file_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file_ < 0) throw EnvironmentError("cannot read '" + path + "': " + reason());
  try {
    struct stat status {};
    if (::fstat(file_, &status) != 0) throw EnvironmentError("cannot read '" + path + "': " + reason());
    if (!S_ISREG(status.st_mode)) throw EnvironmentError("cannot read '" + path + "': it is no regular file");
    std::string start(8, '\0');
    const auto fill = [&](std::size_t from) {
      start.resize(from + read_at(file_, reinterpret_cast<std::byte*>(start.data()) + from, start.size() - from,
                                  static_cast<std::int64_t>(from), path));
    };
    fill(0);
    std::uint64_t length = 0;
    if (start.size() == 8) std::memcpy(&length, start.data(), 8);
    // A length that lies is refused by the parser, from the eight bytes alone.
    if (length <= kSafetensorsHeaderLimit && static_cast<std::int64_t>(length) <= status.st_size - 8) {
      start.resize(8 + static_cast<std::size_t>(length));
      fill(8);
    }
    header_ = parse_safetensors(start, status.st_size, path);
  } catch (...) {
    ::close(file_);
    throw;
  }
}

SafetensorsReader::~SafetensorsReader() { ::close(file_); }

void SafetensorsReader::read(const SafetensorsEntry& entry, std::span<std::byte> to) const {
  const std::int64_t bytes = entry.end - entry.begin;
  if (static_cast<std::int64_t>(to.size()) != bytes)
    throw InvalidArgument(path_ + ": tensor '" + entry.name + "' has " + std::to_string(bytes) +
                          " bytes, there is room for " + std::to_string(to.size()));
  const std::size_t got = read_at(file_, to.data(), to.size(), header_.data_begin + entry.begin, path_);
  if (got != to.size())
    throw BadInput(path_ + ": ends inside tensor '" + entry.name + "'; it has become shorter while being read");
}

void write_safetensors(const std::string& path, const std::vector<SafetensorsTensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  const std::string header = header_text(tensors, metadata);
  const auto length = static_cast<std::uint64_t>(header.size());
  PendingFile file(path);
  file.write(&length, sizeof length);
  file.write(header.data(), header.size());
  for (const SafetensorsTensor& tensor : tensors) file.write(tensor.bytes.data(), tensor.bytes.size());
  file.commit();
}

std::string safetensors_dtype(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "F32";
    case DType::i32:
      return "I32";
    case DType::u8:
      return "U8";
    case DType::bit:
      break;
  }
  throw InvalidArgument("safetensors: the format has no type '" + std::string(to_string(dtype)) + "'");
}

void write_safetensors(const std::string& path, const std::vector<NamedBytes>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<SafetensorsTensor> views;
  views.reserve(tensors.size());
  for (const NamedBytes& tensor : tensors)
    views.push_back({tensor.name, safetensors_dtype(tensor.type.dtype), tensor.type.shape, tensor.bytes});
  write_safetensors(path, views, metadata);
}

}  // namespace thimble
