// libFuzzer entry: whatever the bytes are, records are refused with an Error, leaving the data set alone, or all valid.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "thimble/dataset.h"
#include "thimble/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  thimble::Dataset dataset;
  try {
    thimble::append_records(dataset, {reinterpret_cast<const char*>(data), size}, "fuzz.bin");
  } catch (const thimble::Error&) {
    if (dataset.size() != 0 || !dataset.pixels.empty()) std::abort();
    return 0;
  }
  if (dataset.size() * thimble::Dataset::kRecord != static_cast<std::int64_t>(size)) std::abort();
  if (static_cast<std::int64_t>(dataset.pixels.size()) != dataset.size() * thimble::Dataset::kPixels) std::abort();
  for (std::uint8_t label : dataset.labels)
    if (label >= thimble::kPictureClasses) std::abort();
  return 0;
}
