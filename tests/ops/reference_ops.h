// Every op once more, in double and as plainly as possible: what the kernels are judged against. Shares no code with
// ops/. `gradient_reference` is judged in turn by finite differences of `forward_reference`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "thimble/graph.h"

namespace thimble::testing {

struct Array {
  std::vector<std::int64_t> shape;
  std::vector<double> values;  // labels are whole numbers
};

struct ReferenceCall {
  std::string kind;
  std::vector<Array> inputs;
  Attributes attributes;
  std::uint64_t seed = 0;
  std::int64_t step = 0;
  double learning_rate = 0;
  std::int64_t first_sample = 0;
  std::int64_t batch = 0;
  bool first_microbatch = true;
  std::int64_t loss_terms = 0;
};

/// The outputs of a forward op in its order, without masks. `accumulate` takes the sum so far as a second input.
std::vector<Array> forward_reference(const ReferenceCall& call);

/// d(sum of cotangent * output) / d(input) for every differentiable input; empty arrays for the others. Cotangents are
/// of output 0 only, which is the loss where there is one.
std::vector<Array> gradient_reference(const ReferenceCall& call, const Array& cotangent);

}  // namespace thimble::testing
