// Files that `thimble plan` wrote.
#pragma once

#include <fstream>
#include <iterator>
#include <string>

#include "thimble/error.h"
#include "thimble/plan.h"

namespace thimble {

inline std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw BadInput(path + ": cannot be read");
  return {std::istreambuf_iterator<char>(file), {}};
}

inline Plan read_plan_file(const std::string& path) { return read_plan(read_file(path), path); }

}  // namespace thimble
