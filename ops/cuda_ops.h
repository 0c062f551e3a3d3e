// What the CUDA side of the ops shares: one registration function each, streams, grids.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "cuda_kernels.h"
#include "registration.h"
#include "simt.h"
#include "thimble/cuda.h"

namespace thimble {

void register_adam_update_cuda(OpRegistry& registry);
void register_add_cuda(OpRegistry& registry);
void register_attention_backward_cuda(OpRegistry& registry);
void register_attention_cuda(OpRegistry& registry);
void register_batch_norm_backward_cuda(OpRegistry& registry);
void register_batch_norm_cuda(OpRegistry& registry);
void register_best_tokens_cuda(OpRegistry& registry);
void register_conv2d_cuda(OpRegistry& registry);
void register_crop_pictures_cuda(OpRegistry& registry);
void register_dropout_cuda(OpRegistry& registry);
void register_dynamic_conv_cuda(OpRegistry& registry);
void register_embedding_cuda(OpRegistry& registry);
void register_global_average_pool_cuda(OpRegistry& registry);
void register_group_norm_backward_cuda(OpRegistry& registry);
void register_group_norm_cuda(OpRegistry& registry);
void register_keep_rows_cuda(OpRegistry& registry);
void register_layer_norm_cuda(OpRegistry& registry);
void register_light_conv_cuda(OpRegistry& registry);
void register_linear_cuda(OpRegistry& registry);
void register_norm_conv2d_backward_data_cuda(OpRegistry& registry);
void register_norm_conv2d_backward_weights_cuda(OpRegistry& registry);
void register_norm_conv2d_cuda(OpRegistry& registry);
void register_norm_pool_cuda(OpRegistry& registry);
void register_pool_attention_cuda(OpRegistry& registry);
void register_relu_cuda(OpRegistry& registry);
void register_sgd_update_cuda(OpRegistry& registry);
void register_softmax_cross_entropy_cuda(OpRegistry& registry);
void register_step_conv_cuda(OpRegistry& registry);
void register_vocabulary_loss_cuda(OpRegistry& registry);
void register_cuda_kernels(OpRegistry& registry);  // all of them

inline cudaStream_t stream_of(const KernelArguments& a) { return static_cast<cudaStream_t>(a.stream); }
inline const std::int32_t* ints(const std::byte* address) { return reinterpret_cast<const std::int32_t*>(address); }

/// Whether 16 bytes can be read and written at once from all of these addresses on.
inline bool are_aligned(std::initializer_list<const void*> addresses) {
  std::uintptr_t bits = 0;
  for (const void* address : addresses) bits |= reinterpret_cast<std::uintptr_t>(address);
  return bits % 16 == 0;
}

constexpr int kBlock = 256;

/// Blocks of kBlock threads for `count` items, `per_thread` each.
inline unsigned blocks_for(std::int64_t count, std::int64_t per_thread = 1) {
  const std::int64_t per_block = kBlock * per_thread;
  return static_cast<unsigned>((count + per_block - 1) / per_block);
}

/// The first item of the calling thread where every thread has one.
__device__ inline std::int64_t global_thread() {
  return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

}  // namespace thimble
