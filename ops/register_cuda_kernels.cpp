#include "cuda_ops.h"

namespace thimble {
namespace {

// Raised when a kernel gives other bits than before.
constexpr const char* kKernels = "1";

}  // namespace

void register_cuda_kernels(OpRegistry& registry) {
  register_attention_cuda(registry);
  register_attention_backward_cuda(registry);
  register_linear_cuda(registry);
  register_pool_attention_cuda(registry);
  register_relu_cuda(registry);
  register_vocabulary_loss_cuda(registry);
  registry.set_engine("kernels", kKernels, kCudaBackend);
}

}  // namespace thimble
