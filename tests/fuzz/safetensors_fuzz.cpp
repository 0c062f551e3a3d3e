// libFuzzer entry: whatever the bytes are, the header is refused with an Error or describes exactly the file's bytes.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "thimble/error.h"
#include "thimble/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto header = thimble::parse_safetensors({reinterpret_cast<const char*>(data), size},
                                                   static_cast<std::int64_t>(size), "fuzz.safetensors");
    std::int64_t reached = 0;
    for (const thimble::SafetensorsEntry& entry : header.tensors) {
      if (entry.begin != reached || entry.end < entry.begin || header.find(entry.name) != &entry) std::abort();
      reached = entry.end;
    }
    if (header.data_begin + reached != static_cast<std::int64_t>(size)) std::abort();
  } catch (const thimble::Error&) {
  }
  return 0;
}
