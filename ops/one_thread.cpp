#include "one_thread.h"

#include <omp.h>

#include "thimble/library_scope.h"

namespace thimble {

void keep_library_on_one_thread() {
  const LibraryScope library;
  omp_set_num_threads(1);
}

}  // namespace thimble
