// Which tensors the ops of a graph read and make, side by side: a search goes through them thousands of times, and an
// Op has much beside them.
#pragma once

#include <span>
#include <vector>

#include "thimble/graph.h"

namespace thimble {

/// As the graph was when this was made; ids have to be those of the graph.
class OpTensors {
 public:
  explicit OpTensors(const Graph& graph);
  std::span<const TensorId> inputs(OpId op) const { return between(of_[op].inputs, of_[op].outputs); }
  std::span<const TensorId> outputs(OpId op) const { return between(of_[op].outputs, of_[op].end); }

 private:
  std::span<const TensorId> between(std::size_t begin, std::size_t end) const {
    return {all_.data() + begin, end - begin};
  }
  struct Places {
    std::size_t inputs, outputs, end;
  };
  std::vector<TensorId> all_;
  IdVector<OpId, Places> of_;
};

}  // namespace thimble
