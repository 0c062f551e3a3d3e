#include "thimble/op_tensors.h"

namespace thimble {

OpTensors::OpTensors(const Graph& graph) {
  of_.reserve(graph.ops.size());
  for (const Op& op : graph.ops) {
    const std::size_t begin = all_.size(), middle = begin + op.inputs.size();
    all_.insert(all_.end(), op.inputs.begin(), op.inputs.end());
    all_.insert(all_.end(), op.outputs.begin(), op.outputs.end());
    of_.push_back({begin, middle, all_.size()});
  }
}

}  // namespace thimble
