// libFuzzer entry: whatever the bytes are, reading either refuses them with an Error or gives a problem that can be
// placed, checked and written.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string_view>

#include "thimble/error.h"
#include "thimble/placement.h"
#include "thimble/problem_csv.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  thimble::ProblemFile file;
  try {
    file = thimble::read_problem_csv({reinterpret_cast<const char*>(data), size}, "fuzz.csv");
  } catch (const thimble::Error&) {
    return 0;
  }
  if (file.problem.buffers.size() > 2000) return 0;
  if (!file.offsets.empty()) thimble::check_placement(file.problem, file.offsets, thimble::Bytes{1 << 20});
  const thimble::Placement placement = thimble::place_buffers(file.problem);
  const auto errors = thimble::check_placement(file.problem, placement.offsets, placement.peak);
  if (!errors.empty() || placement.peak < placement.lower_bound) {
    std::fprintf(stderr, "%s\n", errors.empty() ? "peak below max live" : errors.front().c_str());
    std::abort();
  }
  std::ostringstream out;
  try {
    thimble::write_problem_csv(out, file.problem, placement.offsets);
  } catch (const thimble::Error&) {  // a name with a carriage return inside
    return 0;
  }
  if (thimble::read_problem_csv(out.str(), "written.csv").offsets != placement.offsets) std::abort();
  return 0;
}
