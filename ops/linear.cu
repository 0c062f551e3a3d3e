// Linear layers on CUDA: each kind is one product; the bias is added by the product, its gradient by sums of rows.
#include "accumulation_cuda.h"
#include "matrix_product_cuda.h"

namespace thimble {
namespace {

constexpr const char* kMostKib = "product_kib";  // of a product's workspace
constexpr std::int64_t kLeastKib = 1024, kLargestKib = 16384;

Bytes most_workspace(const Attributes& attributes) {
  return Bytes{(attributes.count(kMostKib) != 0 ? int_attribute(attributes, kMostKib) : kLeastKib) * 1024};
}

DeviceMatrix stored_as(const TensorType& type, bool transposed = false) {
  return {.stride = features(type), .transposed = transposed, .alignment = alignment_of(type)};
}

// y = x w^T + b
DeviceProduct forward_product(const OpShape& shape) {
  const TensorType &x = shape.inputs[0], &w = shape.inputs[1], &y = shape.outputs[0];
  return {.sizes = {rows(x), features(y), features(x)},
          .a = stored_as(x),
          .b = stored_as(w, true),
          .c = stored_as(y),
          .has_bias = shape.inputs.size() == 3,
          .most_workspace = most_workspace(shape.attributes)};
}

// dx = dy w
DeviceProduct data_product(const OpShape& shape) {
  const TensorType &dy = shape.inputs[0], &w = shape.inputs[1], &dx = shape.outputs[0];
  return {.sizes = {rows(dy), features(dx), features(dy)},
          .a = stored_as(dy),
          .b = stored_as(w),
          .c = stored_as(dx),
          .most_workspace = most_workspace(shape.attributes)};
}

// dw = dy^T x
DeviceProduct weights_product(const OpShape& shape) {
  const TensorType &x = shape.inputs[0], &dy = shape.inputs[1], &dw = shape.outputs[0];
  return {.sizes = {features(dy), features(x), rows(x)},
          .a = stored_as(dy, true),
          .b = stored_as(x),
          .c = stored_as(dw),
          .most_workspace = most_workspace(shape.attributes)};
}

using ProductOf = DeviceProduct (*)(const OpShape&);

// Inputs `a` and `b` of the op are those of the product.
class LinearKernel final : public Kernel {
 public:
  LinearKernel(const OpShape& shape, const DeviceProduct& product, std::size_t a, std::size_t b)
      : shape_(shape), has_bias_(product.has_bias), a_(a), b_(b), product_(prepare_product(product, shape.device)) {}

  void run(const KernelArguments& arguments) override {
    product_->run({.a = floats(arguments.inputs[a_]),
                   .b = floats(arguments.inputs[b_]),
                   .bias = has_bias_ ? floats(arguments.inputs[2]) : nullptr,
                   .c = floats(arguments.outputs[0]),
                   .adds = launch_adds_to_output(shape_, arguments),
                   .workspace = arguments.workspace,
                   .stream = arguments.stream});
  }

 private:
  OpShape shape_;
  bool has_bias_;
  std::size_t a_, b_;
  std::unique_ptr<PreparedProduct> product_;
};

// Sums over rows: a block takes 32 outputs and a part of the rows, its warps every eighth row each.
constexpr int kSumColumns = 32, kSumWarps = 8;
constexpr std::int64_t kLeastRows = 128, kMostParts = 32, kWantedBlocks = 256;

struct RowParts {
  std::int64_t across, count, rows;

  static RowParts of(const TensorType& dy) {
    const std::int64_t across = (features(dy) + kSumColumns - 1) / kSumColumns;
    const std::int64_t all = thimble::rows(dy);
    const std::int64_t most = std::min({(kWantedBlocks + across - 1) / across, all / kLeastRows, kMostParts});
    const std::int64_t count = std::max<std::int64_t>(1, most);
    return {across, count, (all + count - 1) / count};
  }
  Bytes workspace(const TensorType& dy) const { return count > 1 ? Bytes{4 * count * features(dy)} : Bytes{}; }
};

// Part blockIdx.y of the rows into row blockIdx.y of `sums`, or + what is there.
__global__ void sum_rows_kernel(const float* dy, float* sums, std::int64_t rows, std::int64_t rows_of_part,
                                std::int64_t columns, bool adds) {
  SIMT_SHARED(float, of_warps, [kSumWarps][kSumColumns]);
  const int lane = static_cast<int>(threadIdx.x) % kSumColumns, warp = static_cast<int>(threadIdx.x) / kSumColumns;
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kSumColumns + lane;
  const std::int64_t begin = blockIdx.y * rows_of_part, end = min(begin + rows_of_part, rows);
  float sum = 0;
  if (column < columns)
    for (std::int64_t row = begin + warp; row < end; row += kSumWarps) sum += dy[row * columns + column];
  of_warps[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || column >= columns) return;
  for (int w = 1; w < kSumWarps; ++w) sum += of_warps[w][lane];
  float* to = sums + blockIdx.y * columns + column;
  *to = adds ? *to + sum : sum;
}

void backward_bias(const OpShape& shape, const KernelArguments& a) {
  const TensorType& dy = shape.inputs[0];
  const RowParts parts = RowParts::of(dy);
  const bool adds = launch_adds_to_output(shape, a);
  const auto sum_rows = [&](const float* from, float* to, std::int64_t count, std::int64_t per_part, std::int64_t n,
                            bool adds_here) {
    const dim3 grid(static_cast<unsigned>(parts.across), static_cast<unsigned>(n));
    simt::launch(sum_rows_kernel, grid, kSumColumns * kSumWarps, 0, stream_of(a), from, to, count, per_part,
                 features(dy), adds_here);
  };
  if (parts.count == 1) return sum_rows(floats(a.inputs[0]), floats(a.outputs[0]), rows(dy), rows(dy), 1, adds);
  sum_rows(floats(a.inputs[0]), floats(a.workspace), rows(dy), parts.rows, parts.count, false);
  sum_rows(floats(a.workspace), floats(a.outputs[0]), parts.count, parts.count, 1, adds);
}

// What a product takes beyond the roofline of the op.
OpCost cost(const OpShape& shape, const DeviceProduct& product) {
  OpCost total = product_cost(product);
  total.bytes += bytes_moved(shape).bytes;
  return total;
}

std::vector<Attributes> larger_workspaces(const OpShape& shape, ProductOf product_of) {
  std::vector<Attributes> larger;
  OpShape other = shape;
  Bytes last = product_workspace(product_of(shape));
  for (std::int64_t kib = 2 * kLeastKib; kib <= kLargestKib; kib *= 2) {
    other.attributes[kMostKib] = kib;
    const Bytes bytes = product_workspace(product_of(other));
    if (bytes > last) larger.push_back(other.attributes);
    last = std::max(last, bytes);
  }
  return larger;
}

OpKernels product_kernels(ProductOf product_of, std::size_t a, std::size_t b) {
  return {.workspace = [=](const OpShape& s) { return product_workspace(product_of(s)); },
          .make_kernel = [=](const OpShape& s) { return std::make_unique<LinearKernel>(s, product_of(s), a, b); },
          .faster = [=](const OpShape& s) { return larger_workspaces(s, product_of); },
          .cost = [=](const OpShape& s) { return cost(s, product_of(s)); }};
}

}  // namespace

void register_linear_cuda(OpRegistry& registry) {
  registry.add_kernels("linear", kCudaBackend, product_kernels(forward_product, 0, 1));
  registry.add_kernels("linear_backward_data", kCudaBackend, product_kernels(data_product, 0, 1));
  registry.add_kernels("linear_backward_weights", kCudaBackend, product_kernels(weights_product, 1, 0));
  registry.add_kernels("linear_backward_bias", kCudaBackend,
                       {.workspace = [](const OpShape& s) { return RowParts::of(s.inputs[0]).workspace(s.inputs[0]); },
                        .make_kernel = [](const OpShape& s) { return function_kernel(s, backward_bias); }});
}

}  // namespace thimble
