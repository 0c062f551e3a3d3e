#include "gunzip.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <limits>

#include "thimble/error.h"

namespace thimble {
namespace {

// One stream of a file, closed whatever happens.
class Inflater {
 public:
  explicit Inflater(const std::string& name) : name_(name) {
    if (inflateInit2(&stream_, 16 + MAX_WBITS) != Z_OK) throw EnvironmentError(name + ": zlib cannot begin");
  }
  ~Inflater() { inflateEnd(&stream_); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  std::string run(std::string& bytes, std::size_t limit) {
    if (bytes.size() > std::numeric_limits<uInt>::max()) throw BadInput(name_ + ": larger than 4 GiB");
    stream_.next_in = reinterpret_cast<Bytef*>(bytes.data());
    stream_.avail_in = static_cast<uInt>(bytes.size());
    std::string text;
    std::array<char, 1 << 16> buffer;
    for (int state = Z_OK; state != Z_STREAM_END;) {
      stream_.next_out = reinterpret_cast<Bytef*>(buffer.data());
      stream_.avail_out = buffer.size();
      state = inflate(&stream_, Z_NO_FLUSH);
      if (state != Z_OK && state != Z_STREAM_END) throw BadInput(name_ + ": the gzip stream is damaged or ends early");
      const std::size_t count = buffer.size() - stream_.avail_out;
      if (count > limit - text.size()) throw BadInput(name_ + ": holds more than " + std::to_string(limit) + " bytes");
      text.append(buffer.data(), count);
    }
    if (stream_.avail_in != 0) throw BadInput(name_ + ": something follows the gzip stream");
    return text;
  }

 private:
  std::string name_;
  z_stream stream_{};
};

}  // namespace

std::string gunzip(std::string bytes, std::size_t limit, const std::string& name) {
  if (bytes.size() >= 2 && bytes[0] == '\x1f' && bytes[1] == '\x8b') return Inflater(name).run(bytes, limit);
  if (bytes.size() > limit) throw BadInput(name + ": holds more than " + std::to_string(limit) + " bytes");
  return bytes;
}

}  // namespace thimble
