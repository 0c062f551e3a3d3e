// Counts heap allocations of this process by interposing malloc: those of our code, and those made inside libraries.
#pragma once

#include <cstdint>

namespace thimble {

struct AllocationCounts {
  std::int64_t own = 0;                 ///< made while no library call was under way
  std::int64_t library = 0;             ///< made inside one, or by a thread of a library
  std::int64_t largest_library = 0;     ///< bytes of the largest single one
  std::int64_t library_live_bytes = 0;  ///< allocated by libraries and not yet given back
};

/// False in builds whose sanitizer owns malloc: then all counts stay zero.
bool allocation_probe_works();
/// Counts since the last call of reset_allocation_counts; live bytes since the start of the process.
AllocationCounts allocation_counts();
void reset_allocation_counts();

/// Bytes of this process that are in memory now, from the operating system.
std::int64_t resident_bytes();

}  // namespace thimble
