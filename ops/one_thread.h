// oneDNN on the calling thread alone; TBB does the rest.
#pragma once

namespace thimble {

/// For the calling thread, from now on. Costs next to nothing, so every task that calls oneDNN says it.
void keep_library_on_one_thread();

}  // namespace thimble
