// Pictures for tests that run training programs themselves.
#pragma once

#include "thimble/trainer.h"

namespace thimble {

/// The samples at hand of a step that begins at sample `first`, in the data set's order, neither shifted nor mirrored.
inline void fill_in_order(const Dataset& data, std::int64_t first, ProgramView& view) {
  fill_evaluation_batch(data, first + view.samples().begin, training_inputs(view));
}

}  // namespace thimble
