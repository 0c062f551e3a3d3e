// Products by cuBLASLt. It counts columns first, so it is asked for the transposed product: c^T = b^T a^T. What is
// chosen is chosen once, for a shape and what its addresses divide by; a run sets pointers and enqueues.
#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <string>

#include "matrix_product_cuda.h"
#include "thimble/error.h"

namespace thimble {
namespace {

void check(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw EnvironmentError(std::string("cuBLASLt: ") + what + " answers " + cublasLtGetStatusName(status));
}

// Of the process, and never destroyed: the driver may be gone by then.
cublasLtHandle_t shared_handle() {
  static const cublasLtHandle_t handle = [] {
    cublasLtHandle_t made = nullptr;
    check(cublasLtCreate(&made), "cublasLtCreate");
    return made;
  }();
  return handle;
}

class ProductDescription {
 public:
  explicit ProductDescription(cublasComputeType_t type) {
    check(cublasLtMatmulDescCreate(&made_, type, CUDA_R_32F), "cublasLtMatmulDescCreate");
  }
  ~ProductDescription() { cublasLtMatmulDescDestroy(made_); }
  ProductDescription(const ProductDescription&) = delete;
  ProductDescription& operator=(const ProductDescription&) = delete;

  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    check(cublasLtMatmulDescSetAttribute(made_, attribute, &value, sizeof value), "cublasLtMatmulDescSetAttribute");
  }
  cublasLtMatmulDesc_t get() const { return made_; }

 private:
  cublasLtMatmulDesc_t made_ = nullptr;
};

// A matrix whose columns are the rows that are stored.
class MatrixDescription {
 public:
  MatrixDescription(const DeviceMatrix& matrix, std::int64_t stored_rows, std::int64_t stored_columns,
                    std::int64_t count) {
    check(cublasLtMatrixLayoutCreate(&made_, CUDA_R_32F, static_cast<std::uint64_t>(stored_columns),
                                     static_cast<std::uint64_t>(stored_rows), matrix.stride),
          "cublasLtMatrixLayoutCreate");
    set(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, static_cast<std::int32_t>(count));
    set(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, matrix.step);
  }
  ~MatrixDescription() { cublasLtMatrixLayoutDestroy(made_); }
  MatrixDescription(const MatrixDescription&) = delete;
  MatrixDescription& operator=(const MatrixDescription&) = delete;

  cublasLtMatrixLayout_t get() const { return made_; }

 private:
  template <class T>
  void set(cublasLtMatrixLayoutAttribute_t attribute, const T& value) {
    check(cublasLtMatrixLayoutSetAttribute(made_, attribute, &value, sizeof value), "cublasLtMatrixLayoutSetAttribute");
  }
  cublasLtMatrixLayout_t made_ = nullptr;
};

class ProductPreference {
 public:
  ProductPreference() { check(cublasLtMatmulPreferenceCreate(&made_), "cublasLtMatmulPreferenceCreate"); }
  ~ProductPreference() { cublasLtMatmulPreferenceDestroy(made_); }
  ProductPreference(const ProductPreference&) = delete;
  ProductPreference& operator=(const ProductPreference&) = delete;

  template <class T>
  void set(cublasLtMatmulPreferenceAttributes_t attribute, const T& value) {
    check(cublasLtMatmulPreferenceSetAttribute(made_, attribute, &value, sizeof value),
          "cublasLtMatmulPreferenceSetAttribute");
  }
  cublasLtMatmulPreference_t get() const { return made_; }

 private:
  cublasLtMatmulPreference_t made_ = nullptr;
};

cublasComputeType_t compute_type(const std::string& math) {
  if (math == "fp32") return CUBLAS_COMPUTE_32F;
  if (math == "tf32") return CUBLAS_COMPUTE_32F_FAST_TF32;
  throw InvalidArgument("cuBLASLt: math '" + math + "' is unknown; there are 'fp32' and 'tf32'");
}

MatrixDescription describe(const DeviceMatrix& matrix, std::int64_t rows, std::int64_t columns, std::int64_t count) {
  return {matrix, matrix.transposed ? columns : rows, matrix.transposed ? rows : columns, count};
}

class CublasProduct final : public PreparedProduct {
 public:
  CublasProduct(const DeviceProduct& product, const std::string& math)
      : has_bias_(product.has_bias),
        workspace_(std::max(product_workspace(product) - kProductSlack, Bytes{})),
        description_(compute_type(math)),
        a_(describe(product.a, product.sizes.rows, product.sizes.depth, product.count)),
        b_(describe(product.b, product.sizes.depth, product.sizes.columns, product.count)),
        c_(describe(product.c, product.sizes.rows, product.sizes.columns, product.count)) {
    const auto operation = [](const DeviceMatrix& matrix) { return matrix.transposed ? CUBLAS_OP_T : CUBLAS_OP_N; };
    description_.set(CUBLASLT_MATMUL_DESC_TRANSA, operation(product.b));
    description_.set(CUBLASLT_MATMUL_DESC_TRANSB, operation(product.a));
    if (has_bias_) {
      description_.set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      set_bias(reinterpret_cast<const float*>(kAlignment.value));  // any address, for the choice below
    }
    is_possible_ = choose(product);
  }

  bool is_possible() const { return is_possible_; }

  void run(const ProductArguments& arguments) override {
    const float beta = arguments.adds ? 1.0f : 0.0f;
    if (has_bias_) set_bias(arguments.bias);
    std::byte* workspace = workspace_ == Bytes{} ? nullptr : aligned(arguments.workspace);
    check(cublasLtMatmul(shared_handle(), description_.get(), &arguments.alpha, arguments.b, b_.get(), arguments.a,
                         a_.get(), &beta, arguments.c, c_.get(), arguments.c, c_.get(), &algorithm_, workspace,
                         static_cast<std::size_t>(workspace_.value), static_cast<cudaStream_t>(arguments.stream)),
          "cublasLtMatmul");
  }

 private:
  static std::byte* aligned(std::byte* address) {
    constexpr std::uintptr_t kMultiple = 256;
    const auto value = reinterpret_cast<std::uintptr_t>(address);
    return address + (kMultiple - value % kMultiple) % kMultiple;
  }
  void set_bias(const float* bias) { description_.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias); }

  // The first that the library thinks of. Sums over parts of the depth are added in order, in the workspace, never by
  // whoever comes first.
  bool choose(const DeviceProduct& product) {
    ProductPreference preference;
    preference.set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::uint64_t>(workspace_.value));
    preference.set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                   static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<std::uint32_t>(product.b.alignment));
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<std::uint32_t>(product.a.alignment));
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<std::uint32_t>(product.c.alignment));
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<std::uint32_t>(product.c.alignment));
    std::array<cublasLtMatmulHeuristicResult_t, kLooked> results{};
    int count = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(shared_handle(), description_.get(), b_.get(), a_.get(), c_.get(), c_.get(),
                                       preference.get(), kLooked, results.data(), &count);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED || (status == CUBLAS_STATUS_SUCCESS && count == 0)) return false;
    check(status, "cublasLtMatmulAlgoGetHeuristic");
    // The library's first choice may leave most of the device idle where products are deep and small, for want of a
    // workspace to cut the depth: then the one that has most to do at once.
    const cublasLtMatmulHeuristicResult_t* chosen = nullptr;
    for (int i = 0; i < count; ++i) {
      const cublasLtMatmulHeuristicResult_t& one = results[static_cast<std::size_t>(i)];
      if (one.state != CUBLAS_STATUS_SUCCESS) continue;
      if (chosen == nullptr || (chosen->wavesCount < kBusy && one.wavesCount > chosen->wavesCount)) chosen = &one;
    }
    if (chosen == nullptr) return false;
    algorithm_ = chosen->algo;
    if (chosen->wavesCount < kBusy) cut_depth(product.sizes.depth, chosen->wavesCount);
    return true;
  }

  // The library's list may have nothing that cuts the depth (with cuBLAS 13 all fp32 products of few tiles: 146 us for
  // 4,000 deep, whatever their size). So the chosen one is asked for more parts, and takes them where it says it can.
  void cut_depth(std::int64_t depth, float waves) {
    constexpr std::uint32_t kInOrder = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    const auto wanted = static_cast<std::int64_t>(1 / std::max(waves, 1.0f / kMostParts));
    for (std::int64_t parts = std::min(wanted, depth / kLeastDepth); parts > 1; --parts) {
      cublasLtMatmulAlgo_t cut = algorithm_;
      const auto count = static_cast<std::int32_t>(parts);
      cublasLtMatmulHeuristicResult_t result{};
      if (cublasLtMatmulAlgoConfigSetAttribute(&cut, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &count, sizeof count) !=
              CUBLAS_STATUS_SUCCESS ||
          cublasLtMatmulAlgoConfigSetAttribute(&cut, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &kInOrder,
                                               sizeof kInOrder) != CUBLAS_STATUS_SUCCESS ||
          cublasLtMatmulAlgoCheck(shared_handle(), description_.get(), b_.get(), a_.get(), c_.get(), c_.get(), &cut,
                                  &result) != CUBLAS_STATUS_SUCCESS)
        continue;
      if (result.state != CUBLAS_STATUS_SUCCESS || result.wavesCount <= waves ||
          static_cast<std::int64_t>(result.workspaceSize) > workspace_.value)
        continue;
      algorithm_ = cut;
      return;
    }
  }

  static constexpr int kLooked = 16;
  static constexpr float kBusy = 0.5f;  // of a wave
  static constexpr std::int64_t kMostParts = 32, kLeastDepth = 256;

  bool has_bias_;
  Bytes workspace_;
  ProductDescription description_;
  MatrixDescription a_, b_, c_;
  cublasLtMatmulAlgo_t algorithm_{};
  bool is_possible_ = false;
};

}  // namespace

std::unique_ptr<PreparedProduct> prepare_product(const DeviceProduct& product, const DeviceDescription& device) {
  auto prepared = std::make_unique<CublasProduct>(product, device.math);
  if (!prepared->is_possible()) return prepare_tiled_product(product);
  return prepared;
}

}  // namespace thimble
