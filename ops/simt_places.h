// Which barriers kernels pass, and the one that is left out to see whether somebody notices.
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "simt_cpu.h"

namespace thimble::simt {

/// From now on the barrier at `place`, "file:line", orders nothing, and __syncthreads and __syncwarp there do not wait;
/// __syncthreads_count, _or and _and have a result, so they do. The file may be the end of a path. "": none is left
/// out. At the start SIMT_WITHOUT of the environment holds. A place that no kernel passes is no error.
void leave_out(const std::string& place);

/// Begins anew, or ends. Barriers take longer meanwhile.
void record_places(bool on);
/// Barriers, "file:line" each; one of a header comes once for each source that it was compiled in.
std::vector<std::string> passed_places();

// For the shim itself.

/// Whether somebody asks for either. All that a barrier costs where nobody does is this load.
extern std::atomic<bool> places_matter;
inline bool do_places_matter() { return places_matter.load(std::memory_order_relaxed); }

/// True if this barrier is the one left out.
bool passes_barrier(const Place& where);

/// SIMT_WITHOUT, if it has not been read.
void read_left_out();

}  // namespace thimble::simt
