// The likeliest entries of a vocabulary on CUDA: a slice of hypotheses at a time, the logits by a product, then a block
// for each. Lengths are not known here, so hypotheses that are not there have logits too, which nobody reads.
#include <cmath>
#include <limits>
#include <numeric>

#include "cuda_ops.h"
#include "matrix_product_cuda.h"
#include "quads.h"

namespace thimble {
namespace {

constexpr const char* kKind = "best_tokens";
constexpr int kThreads = 512;  // of a row
constexpr Bytes kMostOfProducts{2 << 20};

enum Input : std::size_t { kX, kWeights, kLengths };
enum Output : std::size_t { kScores, kIds };

// The better of two entries has the larger key: that of the larger logit, of equal ones that of the lower id. A NaN is
// less than all else. No entry has the key 0.
using Key = unsigned long long;

__device__ Key key_of(float logit, int id) {
  const unsigned bits = __float_as_uint(logit == 0 ? 0.0f : logit);
  const unsigned ordered = logit != logit ? 0 : bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
  return Key{ordered} << 32 | ~static_cast<unsigned>(id);
}
__device__ int id_of(Key key) { return static_cast<int>(~static_cast<unsigned>(key)); }

__device__ float larger(float a, float b) { return fmaxf(a, b); }
__device__ Key larger(Key a, Key b) { return a > b ? a : b; }

// The largest of a block, in every thread.
template <class T>
__device__ T block_max(T value) {
  SIMT_SHARED(T, of_warps, [kThreads / kLanes]);
  for (int distance = kLanes / 2; distance > 0; distance /= 2)
    value = larger(value, __shfl_xor_sync(kAllLanes, value, distance));
  if (lane_of_thread() == 0) of_warps[warp_of_thread()] = value;
  __syncthreads();
  for (int w = 0; w < kThreads / kLanes; ++w) value = larger(value, of_warps[w]);
  __syncthreads();
  return value;
}

struct Choice {
  int first_row, beam, vocabulary, pitch, first, count;  // rows of logits are `pitch` floats apart
};

// The best of a thread's entries that are worse than `than`; 0 where there is none.
__device__ Key best_below(const float* logits, const Choice& c, Key than) {
  Key best = 0;
  for (int id = static_cast<int>(threadIdx.x); id < c.vocabulary; id += kThreads) {
    const Key key = id >= c.first ? key_of(logits[id], id) : 0;
    if (key < than) best = larger(best, key);
  }
  return best;
}

// Every thread knows the best of its own entries; who had the best of all looks for its next one.
__global__ void best_tokens_kernel(const float* slice, const std::int32_t* lengths, Choice c, float* scores,
                                   std::int32_t* ids) {
  const int row = c.first_row + static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
  float* to_scores = scores + std::int64_t{row} * c.count;
  std::int32_t* to_ids = ids + std::int64_t{row} * c.count;
  if (row % c.beam >= lengths[row / c.beam]) {
    for (int i = thread; i < c.count; i += kThreads) {
      to_scores[i] = 0;
      to_ids[i] = 0;
    }
    return;
  }
  const float* logits = slice + std::int64_t{blockIdx.x} * c.pitch;
  float largest = -std::numeric_limits<float>::infinity();
  for (int id = thread; id < c.vocabulary; id += kThreads) largest = fmaxf(largest, logits[id]);
  largest = block_max(largest);
  float sum = 0;
  for (int id = thread; id < c.vocabulary; id += kThreads) sum += expf(logits[id] - largest);
  sum = block_sum<kThreads>(sum);
  const double logarithm = static_cast<double>(largest) + log(static_cast<double>(sum));

  Key mine = best_below(logits, c, ~Key{0});
  for (int i = 0; i < c.count; ++i) {
    const Key best = block_max(mine);
    if (mine != best) continue;
    to_scores[i] = static_cast<float>(static_cast<double>(logits[id_of(best)]) - logarithm);
    to_ids[i] = id_of(best);
    mine = best_below(logits, c, best);
  }
}

struct BestSizes {
  std::int64_t rows, beam, channels, vocabulary, slice, pitch;

  static BestSizes of(const OpShape& shape) {
    const std::vector<std::int64_t>& x = shape.inputs[kX].shape;
    const std::int64_t vocabulary = shape.inputs[kWeights].shape[0], rows = x[0] * x[1];
    return {rows,
            x[1],
            x[2],
            vocabulary,
            std::min(int_attribute(shape.attributes, "slice"), rows),
            quads_of(vocabulary) * kQuad};
  }
  Bytes logits() const { return align_up(Bytes{4 * slice * pitch}, kAlignment); }
  // Of a whole slice, and of what is left.
  std::vector<std::int64_t> slices() const {
    return rows % slice == 0 ? std::vector{slice} : std::vector{slice, rows % slice};
  }
};

// Of so many rows.
DeviceProduct product_of(const OpShape& shape, std::int64_t rows) {
  const BestSizes s = BestSizes::of(shape);
  const std::int64_t of_x = std::gcd(alignment_of(shape.inputs[kX]), 4 * s.slice * s.channels);
  return {.sizes = {rows, s.vocabulary, s.channels},
          .a = {.stride = s.channels, .alignment = of_x},
          .b = {.stride = s.channels, .transposed = true, .alignment = kAlignment.value},
          .c = {.stride = s.pitch, .alignment = 16},
          .most_workspace = kMostOfProducts};
}

Bytes workspace(const OpShape& shape) {
  const BestSizes sizes = BestSizes::of(shape);
  Bytes of_products;
  for (std::int64_t rows : sizes.slices())
    of_products = std::max(of_products, product_workspace(product_of(shape, rows)));
  return sizes.logits() + of_products;
}

class BestTokensKernel final : public Kernel {
 public:
  explicit BestTokensKernel(const OpShape& shape) : shape_(shape), sizes_(BestSizes::of(shape)) {
    for (std::int64_t rows : sizes_.slices())
      prepared_.push_back(prepare_product(product_of(shape, rows), shape.device));
  }

  void run(const KernelArguments& a) override {
    const auto whole = [](std::int64_t value) { return static_cast<int>(value); };
    for (std::int64_t first = 0; first < sizes_.rows; first += sizes_.slice) {
      const std::int64_t rows = std::min(sizes_.slice, sizes_.rows - first);
      prepared_[rows == sizes_.slice ? 0 : 1]->run({.a = floats(a.inputs[kX]) + first * sizes_.channels,
                                                    .b = floats(a.inputs[kWeights]),
                                                    .c = floats(a.workspace),
                                                    .workspace = a.workspace + sizes_.logits().value,
                                                    .stream = a.stream});
      const Choice choice{whole(first),
                          whole(sizes_.beam),
                          whole(sizes_.vocabulary),
                          whole(sizes_.pitch),
                          whole(int_attribute(shape_.attributes, "first")),
                          whole(int_attribute(shape_.attributes, "count"))};
      simt::launch(best_tokens_kernel, rows, kThreads, 0, stream_of(a), floats(a.workspace), ints(a.inputs[kLengths]),
                   choice, floats(a.outputs[kScores]), reinterpret_cast<std::int32_t*>(a.outputs[kIds]));
    }
  }

 private:
  OpShape shape_;
  BestSizes sizes_;
  std::vector<std::unique_ptr<PreparedProduct>> prepared_;  // of a whole slice, and of what is left
};

}  // namespace

void register_best_tokens_cuda(OpRegistry& registry) {
  registry.add_kernels(kKind, kCudaBackend, {.workspace = workspace, .make_kernel = [](const OpShape& s) {
                                               return std::make_unique<BestTokensKernel>(s);
                                             }});
}

}  // namespace thimble
