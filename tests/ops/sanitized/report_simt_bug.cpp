// simt_bugs_{asan,tsan} BUG broken|mended: says what the shim makes of it, beside the sanitizer's own report.
#include <cstdio>
#include <stdexcept>
#include <string_view>

#include "../simt_bugs.h"

int main(int count, char** arguments) try {
  if (count != 3) throw std::invalid_argument("BUG broken|mended");
  std::puts(thimble::run_simt_bug(arguments[1], std::string_view(arguments[2]) == "mended").c_str());
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 2;
}
