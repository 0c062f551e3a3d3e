#include <dnnl.hpp>

#include "registration.h"
#include "thimble/ops.h"

namespace thimble {
namespace {

// Raised when a kernel of ours gives other bits than before: plans of both have other arithmetic hashes then.
constexpr const char* kKernels = "3";

std::string isa_name() {
  switch (dnnl::get_effective_cpu_isa()) {
    case dnnl::cpu_isa::sse41:
      return "sse41";
    case dnnl::cpu_isa::avx:
      return "avx";
    case dnnl::cpu_isa::avx2:
      return "avx2";
    case dnnl::cpu_isa::avx512_core:
      return "avx512_core";
    case dnnl::cpu_isa::avx512_core_vnni:
      return "avx512_core_vnni";
    case dnnl::cpu_isa::avx512_core_bf16:
      return "avx512_core_bf16";
    default:
      return "isa " + std::to_string(static_cast<int>(dnnl::get_effective_cpu_isa()));
  }
}

}  // namespace

void register_ops(OpRegistry& registry) {
  register_conv2d(registry);
  register_batch_norm(registry);
  register_batch_norm_backward(registry);
  register_group_norm(registry);
  register_group_norm_backward(registry);
  register_norm_conv2d(registry);
  register_norm_conv2d_backward_data(registry);
  register_norm_conv2d_backward_weights(registry);
  register_norm_conv_rewrite(registry);
  register_norm_pool(registry);
  register_crop_pictures(registry);
  register_relu(registry);
  register_add(registry);
  register_global_average_pool(registry);
  register_linear(registry);
  register_softmax_cross_entropy(registry);
  register_dropout(registry);
  register_sgd_update(registry);
  register_adam_update(registry);
  register_embedding(registry);
  register_layer_norm(registry);
  register_dynamic_conv(registry);
  register_light_conv(registry);
  register_attention(registry);
  register_vocabulary_loss(registry);
  register_keep_rows(registry);
  register_pool_attention(registry);
  register_step_conv(registry);
  register_best_tokens(registry);
  const dnnl::version_t* version = dnnl::version();
  registry.set_engine("onednn", std::to_string(version->major) + "." + std::to_string(version->minor) + "." +
                                    std::to_string(version->patch));
  registry.set_engine("isa", isa_name());
  registry.set_engine("kernels", kKernels);
}

}  // namespace thimble
