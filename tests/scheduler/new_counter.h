// How often this test executable called operator new.
#pragma once

#include <cstdint>

namespace thimble::testing {
std::int64_t allocations();
}
