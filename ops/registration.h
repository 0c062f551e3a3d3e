// What the ops of this room share: one registration function each, and the words for types that do not fit.
#pragma once

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "thimble/error.h"
#include "thimble/op_registry.h"

// Hot loops are compiled for several instruction sets; without contraction all of them give the same bits.
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define THIMBLE_CLONES __attribute__((target_clones("avx512f", "avx2", "default"), optimize("O3")))
#else
#define THIMBLE_CLONES
#endif

namespace thimble {

void register_conv2d(OpRegistry& registry);
void register_batch_norm(OpRegistry& registry);
void register_batch_norm_backward(OpRegistry& registry);
void register_group_norm(OpRegistry& registry);
void register_group_norm_backward(OpRegistry& registry);
void register_norm_conv2d(OpRegistry& registry);
void register_norm_conv2d_backward_data(OpRegistry& registry);
void register_norm_conv2d_backward_weights(OpRegistry& registry);
void register_norm_conv_rewrite(OpRegistry& registry);
void register_norm_pool(OpRegistry& registry);
void register_crop_pictures(OpRegistry& registry);
void register_relu(OpRegistry& registry);
void register_add(OpRegistry& registry);
void register_global_average_pool(OpRegistry& registry);
void register_linear(OpRegistry& registry);
void register_softmax_cross_entropy(OpRegistry& registry);
void register_dropout(OpRegistry& registry);
void register_sgd_update(OpRegistry& registry);
void register_adam_update(OpRegistry& registry);
void register_embedding(OpRegistry& registry);
void register_layer_norm(OpRegistry& registry);
void register_dynamic_conv(OpRegistry& registry);
void register_light_conv(OpRegistry& registry);
void register_attention(OpRegistry& registry);
void register_vocabulary_loss(OpRegistry& registry);
void register_keep_rows(OpRegistry& registry);
void register_pool_attention(OpRegistry& registry);
void register_step_conv(OpRegistry& registry);
void register_best_tokens(OpRegistry& registry);

inline void expect_inputs(const std::string& kind, const std::vector<TensorType>& inputs, std::size_t count) {
  if (inputs.size() != count)
    throw InvalidArgument(kind + ": got " + std::to_string(inputs.size()) + " inputs, takes " + std::to_string(count));
}

inline void expect_rank(const std::string& kind, const TensorType& type, std::size_t rank) {
  if (type.dtype != DType::f32 || type.shape.size() != rank)
    throw InvalidArgument(kind + ": a tensor of rank " + std::to_string(type.shape.size()) + " where f32 of rank " +
                          std::to_string(rank) + " belongs");
}

/// NHWC floats, batched.
inline void expect_activation(const std::string& kind, const TensorType& type) {
  expect_rank(kind, type, 4);
  if (!type.batched) throw InvalidArgument(kind + ": its input is not batched");
}

inline void expect_same(const std::string& kind, const TensorType& a, const TensorType& b) {
  if (a != b) throw InvalidArgument(kind + ": two tensors differ in type that have to agree");
}

inline void expect_vector(const std::string& kind, const TensorType& type, std::int64_t size) {
  if (type != TensorType{DType::f32, {size}, false})
    throw InvalidArgument(kind + ": a tensor that is no f32 vector of " + std::to_string(size) + " values");
}

/// Rows of features, all dimensions but the last being rows: {N, features} or {N, T, features}, batched.
inline void expect_rows(const std::string& kind, const TensorType& type) {
  expect_rank(kind, type, type.shape.size() == 3 ? 3 : 2);
  if (!type.batched) throw InvalidArgument(kind + ": its input is not batched");
}
inline std::int64_t features(const TensorType& type) { return type.shape.back(); }
inline std::int64_t rows(const TensorType& type) { return element_count(type) / features(type); }

/// Inputs [first, last): one value per channel of the activation that is input 0.
inline void expect_channel_vectors(const std::string& kind, const std::vector<TensorType>& inputs, std::size_t first,
                                   std::size_t last) {
  for (std::size_t i = first; i < last; ++i) expect_vector(kind, inputs[i], inputs[0].shape[3]);
}

/// An attribute that defaults to zero.
inline bool flag(const Attributes& attributes, std::string_view name) {
  return attributes.count(name) != 0 && int_attribute(attributes, name) != 0;
}

inline OpCost bytes_moved(const OpShape& shape) {
  OpCost cost;
  for (const TensorType& type : shape.inputs) cost.bytes += static_cast<double>(bytes_of(type).value);
  for (const TensorType& type : shape.outputs) cost.bytes += static_cast<double>(bytes_of(type).value);
  return cost;
}

inline const float* floats(const std::byte* address) { return reinterpret_cast<const float*>(address); }
inline float* floats(std::byte* address) { return reinterpret_cast<float*>(address); }

/// A kernel that is one function of the shape and the arguments.
template <class Function>
std::unique_ptr<Kernel> function_kernel(const OpShape& shape, Function function) {
  class FunctionKernel final : public Kernel {
   public:
    FunctionKernel(OpShape s, Function f) : shape_(std::move(s)), function_(std::move(f)) {}
    void run(const KernelArguments& arguments) override { function_(shape_, arguments); }

   private:
    OpShape shape_;
    Function function_;
  };
  return std::make_unique<FunctionKernel>(shape, std::move(function));
}

}  // namespace thimble
