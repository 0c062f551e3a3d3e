// One kernel source for two machines: nvcc compiles a .cu as plain CUDA, g++ compiles the same file against simt_cpu.h,
// where every CUDA thread is a fiber and misuse is an Error with the kernel's lines. Kernels live in namespace thimble,
// in files that include only this:
//
//   __global__ void scale_kernel(float* values, int count, float factor) {
//     const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
//     if (i < count) values[i] *= factor;
//   }
//   simt::launch(scale_kernel, (count + 127) / 128, 128, 0, stream, values, count, 0.5F);
//
// Differences from plain CUDA: SIMT_SHARED(float, tile, [32][33]) and SIMT_DYN_SHARED(float, p) instead of __shared__,
// simt::launch instead of <<<>>>, simt::load4 and store4 instead of a cast to float4*. README.md says what the CPU
// cannot show.
#pragma once

#include <concepts>
#include <cstddef>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>

#include "thimble/error.h"

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#define SIMT_GPU 1
#define SIMT_UNROLL _Pragma("unroll")
#define SIMT_PRAGMA(text) _Pragma(#text)
#define SIMT_UNROLL_BY(count) SIMT_PRAGMA(unroll count)
#define SIMT_SHARED(type, name, extents) __shared__ type name extents
#define SIMT_DYN_SHARED(type, name)                                    \
  extern __shared__ __align__(16) unsigned char simt_dynamic_shared[]; \
  type* const name = reinterpret_cast<type*>(simt_dynamic_shared)
#else
#include "simt_cpu.h"
#define SIMT_GPU 0
#define SIMT_UNROLL
#define SIMT_UNROLL_BY(count)
#endif

namespace thimble::simt {

/// A grid or a block: a dim3 or any integer. It knows the line of the launch, which is what messages name.
class Extent {
 public:
  // NOLINTBEGIN(google-explicit-constructor)
  Extent(dim3 extent, const char* launch_file = __builtin_FILE(), int launch_line = __builtin_LINE())
      : value(extent), file(launch_file), line(launch_line) {}
  template <std::integral T>
  Extent(T x, const char* launch_file = __builtin_FILE(), int launch_line = __builtin_LINE())
      : file(launch_file), line(launch_line) {
    if (!std::in_range<unsigned>(x) || x == 0)
      throw InvalidArgument(launch() + " has an extent of " + std::to_string(x) + "; it must be 1 to 4294967295");
    value = dim3(static_cast<unsigned>(x));
  }
  // NOLINTEND(google-explicit-constructor)

  std::string launch() const { return std::string("simt: launch at ") + file + ":" + std::to_string(line); }
  std::string shape() const {
    return std::to_string(value.x) + "x" + std::to_string(value.y) + "x" + std::to_string(value.z);
  }

  dim3 value;
  const char* file;
  int line;
};

#if SIMT_GPU

namespace detail {
inline void check_launch(cudaError_t status, const void* kernel, const Extent& grid, const Extent& block,
                         std::size_t shared_bytes) {
  if (status == cudaSuccess) return;
  const char* name = nullptr;
  if (cudaFuncGetName(&name, kernel) != cudaSuccess) name = "a kernel";
  throw EnvironmentError(grid.launch() + " of " + name + " failed: " + cudaGetErrorString(status) + " (grid " +
                         grid.shape() + ", block " + block.shape() + ", " + std::to_string(shared_bytes) +
                         " bytes of dynamic shared memory)");
}
}  // namespace detail

/// Starts the kernel on the stream and returns. Arguments are converted to the kernel's parameter types.
/// Throws EnvironmentError if the launch itself fails; what fails later is told by whoever synchronises.
template <class... P>
void launch(void (*kernel)(P...), Extent grid, Extent block, std::size_t shared_bytes, cudaStream_t stream,
            std::type_identity_t<P>... args) {
  const void* function = reinterpret_cast<const void*>(kernel);
  constexpr std::size_t kWithoutAsking = 48 * 1024;
  if (shared_bytes > kWithoutAsking) {
    const auto bytes = static_cast<int>(
        shared_bytes < std::numeric_limits<int>::max() ? shared_bytes : std::numeric_limits<int>::max());
    const auto status = cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (status != cudaSuccess) (void)cudaGetLastError();  // told here, so no later call shall find it again
    detail::check_launch(status, function, grid, block, shared_bytes);
  }
  kernel<<<grid.value, block.value, shared_bytes, stream>>>(args...);
  detail::check_launch(cudaGetLastError(), function, grid, block, shared_bytes);
}

/// 16 or 8 bytes at once; the pointer must be aligned to that (checked on the CPU).
__device__ __forceinline__ float4 load4(const float* from) { return *reinterpret_cast<const float4*>(from); }
__device__ __forceinline__ float2 load2(const float* from) { return *reinterpret_cast<const float2*>(from); }
__device__ __forceinline__ void store4(float* to, float4 value) { *reinterpret_cast<float4*>(to) = value; }
__device__ __forceinline__ void store2(float* to, float2 value) { *reinterpret_cast<float2*>(to) = value; }

#else

/// Runs the kernel to its end. Arguments are converted to the kernel's parameter types. Throws InvalidArgument for a
/// shape no GPU takes and Error for what a kernel does wrong.
template <class... P>
void launch(void (*kernel)(P...), Extent grid, Extent block, std::size_t shared_bytes, cudaStream_t /*stream*/,
            std::type_identity_t<P>... args) {
  const auto thread = [&] { kernel(args...); };
  run_blocks(Launch{grid.value, block.value, shared_bytes, grid.file, grid.line,
                    [](const void* body) { (*static_cast<const decltype(thread)*>(body))(); }, &thread});
}

inline float4 load4(const float* from, const Place& where = Place::current()) {
  check_alignment(from, sizeof(float4), where);
  return {from[0], from[1], from[2], from[3]};
}
inline float2 load2(const float* from, const Place& where = Place::current()) {
  check_alignment(from, sizeof(float2), where);
  return {from[0], from[1]};
}
inline void store4(float* to, float4 value, const Place& where = Place::current()) {
  check_alignment(to, sizeof(float4), where);
  to[0] = value.x;
  to[1] = value.y;
  to[2] = value.z;
  to[3] = value.w;
}
inline void store2(float* to, float2 value, const Place& where = Place::current()) {
  check_alignment(to, sizeof(float2), where);
  to[0] = value.x;
  to[1] = value.y;
}

#endif

}  // namespace thimble::simt
