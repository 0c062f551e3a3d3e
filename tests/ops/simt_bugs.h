// Kernels with one bug each, and the same kernels without it: what the shim and the sanitizers have to see.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace thimble {

struct SimtBug {
  std::string_view name;
  /// Runs the kernel, broken or mended. Whether its result is right; throws what the shim finds.
  bool (*run)(bool mended);
};
std::span<const SimtBug> simt_bugs();

/// "right", "wrong" or "caught: <message>".
std::string run_simt_bug(std::string_view name, bool mended);

}  // namespace thimble
