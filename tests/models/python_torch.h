// Whether PyTorch can be asked: Debian's python3-torch under THIMBLE_PYTHON.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>

/// Ends the test where it is not installed.
#define REQUIRE_TORCH_OR_SKIP()                                                                       \
  if (std::system("'" THIMBLE_PYTHON "' -c 'import torch' 2>/dev/null") != 0) {                       \
    if (std::getenv("THIMBLE_REQUIRE_SHARED") != nullptr) FAIL() << "python3-torch is not installed"; \
    GTEST_SKIP() << "python3-torch is not installed";                                                 \
  }
