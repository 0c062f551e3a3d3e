#pragma once

#include <string>

namespace thimble {

/// What a gzip file holds; `bytes` themselves where they are none. `name` stands in messages. Throws BadInput where the
/// stream is damaged, ends early or holds more than `limit` bytes.
std::string gunzip(std::string bytes, std::size_t limit, const std::string& name);

}  // namespace thimble
