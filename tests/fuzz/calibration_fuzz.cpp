// libFuzzer entry: whatever the bytes are, reading refuses them with an Error or gives a table that its file keeps.
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "thimble/calibration.h"
#include "thimble/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const thimble::CalibrationPlace here{"cpu", 1, "abacus", {{"tiny", "1"}}};
  const auto read = [&](std::string_view text) { return thimble::read_calibration(text, "fuzz.json", here); };
  std::optional<thimble::CalibrationTable> table;
  try {
    table = read({reinterpret_cast<const char*>(data), size});
  } catch (const thimble::Error&) {
    return 0;
  }
  const thimble::CalibrationTable again =
      read(thimble::write_calibration(*table));  // whatever was read can be read again
  if (again.entries() != table->entries() || again.hash() != table->hash()) std::abort();
  return 0;
}
