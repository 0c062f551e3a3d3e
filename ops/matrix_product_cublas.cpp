// Products by cuBLASLt. It counts columns first, so it is asked for the transposed product: c^T = b^T a^T. What is
// chosen is chosen once, for a shape and what its addresses divide by; a run sets pointers and enqueues.
#include <cublasLt.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

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

// What an algorithm cuts a product into. The library's c is ours transposed: its rows are columns.
class TiledAlgorithm {
 public:
  explicit TiledAlgorithm(const cublasLtMatmulAlgo_t& algorithm)
      : tile_(tile_of(attribute(algorithm, CUBLASLT_ALGO_CONFIG_TILE_ID))),
        parts_(attribute(algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM)) {}

  std::int64_t tiles(const DeviceProduct& product) const {  // 0: unknown
    const ProductSizes& s = product.sizes;
    if (tile_.rows == 0) return 0;
    return product.count * ((s.rows + tile_.rows - 1) / tile_.rows) * ((s.columns + tile_.columns - 1) / tile_.columns);
  }
  // Of unknown ones, and of those that share the work out by themselves (parts below 0), enough.
  std::int64_t blocks(const DeviceProduct& product) const {
    return tile_.rows == 0 || parts_ < 0 ? kMultiprocessors : tiles(product) * std::max(parts_, 1);
  }
  // Of the busiest multiprocessor, in products; small tiles have less use of what they load.
  double work(const DeviceProduct& product) const {
    constexpr double kArea = 1000;  // a tile of 64 x 64 at 0.85 of the rate of one of 128 x 128
    const double area = static_cast<double>(tile_.rows) * tile_.columns;
    const double rounds = std::max(1.0, static_cast<double>(blocks(product)) / kMultiprocessors);
    return rounds * (area + kArea) * static_cast<double>(product.sizes.depth) / std::max(parts_, 1);
  }

 private:
  struct Tile {
    int columns = 0, rows = 0;
  };

  static Tile tile_of(int id) {
    constexpr std::pair<cublasLtMatmulTile_t, Tile> kTiles[] = {
        {CUBLASLT_MATMUL_TILE_32x32, {32, 32}},     {CUBLASLT_MATMUL_TILE_32x64, {32, 64}},
        {CUBLASLT_MATMUL_TILE_64x32, {64, 32}},     {CUBLASLT_MATMUL_TILE_32x128, {32, 128}},
        {CUBLASLT_MATMUL_TILE_64x64, {64, 64}},     {CUBLASLT_MATMUL_TILE_128x32, {128, 32}},
        {CUBLASLT_MATMUL_TILE_64x128, {64, 128}},   {CUBLASLT_MATMUL_TILE_128x64, {128, 64}},
        {CUBLASLT_MATMUL_TILE_64x256, {64, 256}},   {CUBLASLT_MATMUL_TILE_128x128, {128, 128}},
        {CUBLASLT_MATMUL_TILE_256x64, {256, 64}},   {CUBLASLT_MATMUL_TILE_64x512, {64, 512}},
        {CUBLASLT_MATMUL_TILE_128x256, {128, 256}}, {CUBLASLT_MATMUL_TILE_256x128, {256, 128}},
        {CUBLASLT_MATMUL_TILE_512x64, {512, 64}}};
    for (const auto& [known, tile] : kTiles)
      if (known == id) return tile;
    return {};
  }

  static int attribute(const cublasLtMatmulAlgo_t& algorithm, cublasLtMatmulAlgoConfigAttributes_t what) {
    std::int32_t value = 0;
    std::size_t written = 0;
    check(cublasLtMatmulAlgoConfigGetAttribute(&algorithm, what, &value, sizeof value, &written),
          "cublasLtMatmulAlgoConfigGetAttribute");
    return value;
  }

  Tile tile_;
  int parts_;
};

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

  // The first that the library thinks of for any workspace, where ours suffices, or for ours, if that keeps the device
  // busy. Products of few tiles and much depth need the depth cut into parts, of which it thinks only where the
  // workspace is as large as it would like (with less, 512 x 512 of 4,000 took 622 us instead of 53 on an H200). There
  // all that it lists is cut into as many parts as fit, and what the busiest multiprocessor is done with first is
  // taken.
  bool choose(const DeviceProduct& product) {
    const std::vector<cublasLtMatmulHeuristicResult_t> here = listed(product, workspace_);
    if (here.empty()) return false;
    const std::vector<cublasLtMatmulHeuristicResult_t> anywhere = listed(product, kPlenty);
    const bool best_fits = !anywhere.empty() && fits(anywhere.front());
    algorithm_ = best_fits ? anywhere.front().algo : here.front().algo;
    if (best_fits || TiledAlgorithm(algorithm_).blocks(product) >= kBusy) return true;
    double least = std::numeric_limits<double>::infinity();
    for (const auto* list : {&here, &anywhere})
      for (const cublasLtMatmulHeuristicResult_t& one : *list) {
        const std::optional<cublasLtMatmulAlgo_t> cut = cut_as_fits(product, one.algo);
        const double work = cut ? TiledAlgorithm(*cut).work(product) : least;
        if (work >= least) continue;
        algorithm_ = *cut;
        least = work;
      }
    return true;
  }

  // In as many parts as there are multiprocessors for, or in fewer where these do not fit; none of unknown tiles.
  std::optional<cublasLtMatmulAlgo_t> cut_as_fits(const DeviceProduct& product, const cublasLtMatmulAlgo_t& one) const {
    const std::int64_t tiles = TiledAlgorithm(one).tiles(product);
    if (tiles == 0) return {};
    const std::int64_t wanted = std::min((kMultiprocessors + tiles - 1) / tiles, product.sizes.depth / kLeastDepth);
    for (std::int64_t parts = std::max<std::int64_t>(1, wanted); parts > 0; --parts)
      if (const std::optional<cublasLtMatmulAlgo_t> cut = with_parts(one, parts)) return cut;
    return {};
  }

  // Sums over parts of the depth are added in order, in the workspace, never by whoever comes first.
  static constexpr std::uint32_t kInOrder = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;

  std::vector<cublasLtMatmulHeuristicResult_t> listed(const DeviceProduct& product, Bytes workspace) const {
    ProductPreference preference;
    preference.set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::uint64_t>(workspace.value));
    preference.set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, kInOrder);
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<std::uint32_t>(product.b.alignment));
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<std::uint32_t>(product.a.alignment));
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<std::uint32_t>(product.c.alignment));
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<std::uint32_t>(product.c.alignment));
    std::vector<cublasLtMatmulHeuristicResult_t> results(kLooked);
    int count = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(shared_handle(), description_.get(), b_.get(), a_.get(), c_.get(), c_.get(),
                                       preference.get(), kLooked, results.data(), &count);
    if (status != CUBLAS_STATUS_NOT_SUPPORTED) check(status, "cublasLtMatmulAlgoGetHeuristic");
    results.resize(static_cast<std::size_t>(count));
    std::erase_if(results, [](const auto& one) { return one.state != CUBLAS_STATUS_SUCCESS; });
    return results;
  }

  // The algorithm with the depth in so many parts, where the library can and the workspace suffices.
  std::optional<cublasLtMatmulAlgo_t> with_parts(cublasLtMatmulAlgo_t algorithm, std::int64_t parts) const {
    const auto count = static_cast<std::int32_t>(parts);
    const std::uint32_t scheme = parts > 1 ? kInOrder : std::uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE};
    cublasLtMatmulHeuristicResult_t result{};
    if (cublasLtMatmulAlgoConfigSetAttribute(&algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &count, sizeof count) !=
            CUBLAS_STATUS_SUCCESS ||
        cublasLtMatmulAlgoConfigSetAttribute(&algorithm, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme,
                                             sizeof scheme) != CUBLAS_STATUS_SUCCESS ||
        cublasLtMatmulAlgoCheck(shared_handle(), description_.get(), b_.get(), a_.get(), c_.get(), c_.get(), &algorithm,
                                &result) != CUBLAS_STATUS_SUCCESS)
      return {};
    if (result.state != CUBLAS_STATUS_SUCCESS || !fits(result)) return {};
    return algorithm;
  }

  bool fits(const cublasLtMatmulHeuristicResult_t& result) const {
    return static_cast<std::int64_t>(result.workspaceSize) <= workspace_.value;
  }

  static constexpr int kLooked = 16;
  static constexpr Bytes kPlenty{32 << 20};
  static constexpr std::int64_t kBusy = kMultiprocessors / 2, kLeastDepth = 128;

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
