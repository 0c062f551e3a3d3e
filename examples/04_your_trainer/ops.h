// The ops of this trainer. Thimble knows none of them: it schedules, places and calls what is registered here.
#pragma once

#include "thimble/op_registry.h"

namespace your_trainer {

/// dense_tanh(x{N,I}, w{O,I}, b{O}) -> y{N,O}, squared_loss(y, target) -> loss{1}, momentum_sgd(w, gradient, m) ->
/// (w', m'), and accumulate(g) -> sum, with which the scheduler sums over microbatches.
void register_ops(thimble::OpRegistry& registry);

}  // namespace your_trainer
