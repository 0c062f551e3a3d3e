#include "cuda_ops.h"

namespace thimble {
namespace {

// Raised when a kernel gives other bits than before.
constexpr const char* kKernels = "4";

}  // namespace

void register_cuda_kernels(OpRegistry& registry) {
  register_adam_update_cuda(registry);
  register_add_cuda(registry);
  register_attention_backward_cuda(registry);
  register_attention_cuda(registry);
  register_batch_norm_backward_cuda(registry);
  register_batch_norm_cuda(registry);
  register_best_tokens_cuda(registry);
  register_conv2d_cuda(registry);
  register_crop_pictures_cuda(registry);
  register_dropout_cuda(registry);
  register_dynamic_conv_cuda(registry);
  register_embedding_cuda(registry);
  register_global_average_pool_cuda(registry);
  register_group_norm_backward_cuda(registry);
  register_group_norm_cuda(registry);
  register_keep_rows_cuda(registry);
  register_layer_norm_cuda(registry);
  register_light_conv_cuda(registry);
  register_linear_cuda(registry);
  register_norm_conv2d_backward_data_cuda(registry);
  register_norm_conv2d_backward_weights_cuda(registry);
  register_norm_conv2d_cuda(registry);
  register_norm_pool_cuda(registry);
  register_pool_attention_cuda(registry);
  register_relu_cuda(registry);
  register_sgd_update_cuda(registry);
  register_softmax_cross_entropy_cuda(registry);
  register_step_conv_cuda(registry);
  register_vocabulary_loss_cuda(registry);
  registry.set_engine("kernels", kKernels, kCudaBackend);
}

}  // namespace thimble
