// Every op Thimble brings, for the CPU.
//
//   OpRegistry registry;
//   register_ops(registry);
//
// Activations are NHWC, convolution weights OIHW, all float. Kernels work in fixed chunks of samples, so that the
// thread count changes speed and nothing else.
#pragma once

#include "thimble/op_registry.h"

namespace thimble {

/// Also records the engines (oneDNN's version and instruction set) that decide bits.
void register_ops(OpRegistry& registry);

}  // namespace thimble
