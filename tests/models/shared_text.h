// The text of the folder `shared`, which is not part of a release, unpacked to a folder of the test's own.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "temporary_folder.h"

namespace thimble {

inline std::filesystem::path shared_iwslt14() {
  const char* variable = std::getenv("THIMBLE_SHARED");
  const std::filesystem::path shared = variable ? variable : THIMBLE_SOURCE_DIR "/../shared";
  return shared / "data/iwslt14";
}

/// Ends the test where there is no shared text, else unpacks it to `folder`.
#define UNPACK_IWSLT14_OR_SKIP(folder)                                                                         \
  if (!std::filesystem::exists(shared_iwslt14() / "unpack.sh")) {                                              \
    const char* required = std::getenv("THIMBLE_REQUIRE_SHARED");                                              \
    if (required && std::string(required) == "1") FAIL() << shared_iwslt14() << " is not there";               \
    GTEST_SKIP() << shared_iwslt14() << " is not there; set THIMBLE_SHARED";                                   \
  }                                                                                                            \
  ASSERT_EQ(std::system(("'" + (shared_iwslt14() / "unpack.sh").string() + "' '" + (folder).path() + "' > '" + \
                         (folder).file("unpack.log") + "'")                                                    \
                            .c_str()),                                                                         \
            0)

inline std::string bytes_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline std::vector<std::string> lines_of(const std::string& path) {
  std::vector<std::string> lines;
  std::ifstream in(path, std::ios::binary);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

}  // namespace thimble
