#include "thimble/model_graph.h"

namespace thimble {

std::int64_t parameter_count(const Graph& graph) {
  std::int64_t count = 0;
  for (const Tensor& tensor : graph.tensors)
    if (tensor.role == Role::weight && tensor.producer == kNoOp) count += element_count(tensor.type);
  return count;
}

}  // namespace thimble
