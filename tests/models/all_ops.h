// The registry that the tests of models plan and run with: every op there is.
#pragma once

#include "thimble/ops.h"

namespace thimble {

inline const OpRegistry& registry() {
  static const OpRegistry all = [] {
    OpRegistry made;
    register_ops(made);
    return made;
  }();
  return all;
}

}  // namespace thimble
