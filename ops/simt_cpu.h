// The shim behind simt.h for g++: a block runs on one worker, its CUDA threads are fibers that change only where a
// thread has to wait. Everything that looks at other threads is here; simt_intrinsics.h has the rest. No CUDA header,
// so it builds where no toolkit is.
#pragma once

#include <cstdint>
#include <string>
#include <type_traits>

#include "simt_intrinsics.h"

namespace thimble::simt {

/// Line of a barrier, a warp operation or a declaration. Not std::source_location, which clang 14 does not know.
struct Place {
  static constexpr Place current(const char* file = __builtin_FILE(), const char* function = __builtin_FUNCTION(),
                                 int line = __builtin_LINE()) {
    return {file, function, line};
  }
  std::string text() const { return std::string(file) + ":" + std::to_string(line) + " in " + function; }

  const char* file = "";
  const char* function = "";
  int line = 0;
};

/// Who runs first among the threads that can, the lanes of a warp and the blocks of a grid.
enum class Order { forward, reverse, random };
struct Schedule {
  Order order = Order::forward;
  std::uint64_t seed = 0;  // of Order::random
  int workers = 0;         // 0: as many as TBB has, 16 at most; blocks keep their order only with 1
};
/// From now on; returns what was. At the start SIMT_ORDER=forward|reverse|random, SIMT_SEED and SIMT_WORKERS of the
/// environment hold.
Schedule set_order(Schedule schedule);

/// What the last launch that ended well was made of.
struct LaunchCounts {
  std::int64_t blocks = 0;
  std::int64_t threads = 0;
  std::int64_t switches = 0;      // from one fiber to another
  std::int64_t shared_bytes = 0;  // of the block with the most
};
LaunchCounts last_launch();

struct Launch {
  dim3 grid, block;
  std::size_t shared_bytes;
  const char* file;  // of the launch
  int line;
  void (*thread)(const void* body);
  const void* body;
};
void run_blocks(const Launch& launch);

enum class WarpOp {
  sync,
  shuffle,
  shuffle_up,
  shuffle_down,
  shuffle_xor,
  ballot,
  any,
  all,
  add,
  min_signed,
  max_signed,
  min_unsigned,
  max_unsigned,
  bits_and,
  bits_or,
  bits_xor
};
struct WarpCall {
  WarpOp op;
  unsigned mask;
  std::uint64_t value = 0;
  int lane = 0;  // or distance, of shuffles
  int width = 32;
};
/// Waits until every lane of the mask has made the same call at the same place.
std::uint64_t warp_operation(const WarpCall& call, const Place& where);

/// Waits for the whole block.
void block_barrier(const Place& where);
/// And says how many threads came with a predicate that holds.
int block_vote(bool predicate, const Place& where);

/// The block's array of the declaration that `tag` stands for; made when the first thread comes by.
void* shared_array(const void* tag, const char* name, std::size_t bytes, std::size_t alignment, const Place& where);
void* dynamic_shared();

void check_alignment(const void* pointer, std::size_t bytes, const Place& where);
void thread_fence();

template <class T>
concept Shuffled = std::is_arithmetic_v<T> &&(sizeof(T) == 4 || sizeof(T) == 8);

template <Shuffled T>
T shuffle(WarpOp op, unsigned mask, T value, int lane, int width, const Place& where) {
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  const std::uint64_t moved = warp_operation({op, mask, std::bit_cast<Bits>(value), lane, width}, where);
  return std::bit_cast<T>(static_cast<Bits>(moved));
}

}  // namespace thimble::simt

// The tag's address tells declarations, and instances of a template, apart.
#define SIMT_SHARED(type, name, extents)                                                     \
  using simt_type_of_##name = type extents;                                                  \
  static constexpr char simt_tag_of_##name = 0;                                              \
  auto& name = *static_cast<simt_type_of_##name*>(                                           \
      ::thimble::simt::shared_array(&simt_tag_of_##name, #name, sizeof(simt_type_of_##name), \
                                    alignof(simt_type_of_##name), ::thimble::simt::Place::current()))
#define SIMT_DYN_SHARED(type, name)   \
  static_assert(alignof(type) <= 16); \
  type* const name = static_cast<type*>(::thimble::simt::dynamic_shared())

// A fiber never leaves its worker, so the built-in variables are the worker's; they are rewritten at each switch.
extern constinit thread_local uint3 threadIdx;
extern constinit thread_local uint3 blockIdx;
extern constinit thread_local dim3 blockDim;
extern constinit thread_local dim3 gridDim;
constexpr int warpSize = 32;

inline void __syncthreads(const thimble::simt::Place& where = thimble::simt::Place::current()) {
  thimble::simt::block_barrier(where);
}
inline int __syncthreads_count(int predicate, const thimble::simt::Place& where = thimble::simt::Place::current()) {
  return thimble::simt::block_vote(predicate != 0, where);
}
inline int __syncthreads_or(int predicate, const thimble::simt::Place& where = thimble::simt::Place::current()) {
  return thimble::simt::block_vote(predicate != 0, where) > 0;
}
inline int __syncthreads_and(int predicate, const thimble::simt::Place& where = thimble::simt::Place::current()) {
  return thimble::simt::block_vote(predicate == 0, where) == 0;
}
inline void __threadfence() { thimble::simt::thread_fence(); }
inline void __threadfence_block() { thimble::simt::thread_fence(); }

inline void __syncwarp(unsigned mask = 0xffffffffU,
                       const thimble::simt::Place& where = thimble::simt::Place::current()) {
  thimble::simt::warp_operation({thimble::simt::WarpOp::sync, mask}, where);
}
template <thimble::simt::Shuffled T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32,
              const thimble::simt::Place& where = thimble::simt::Place::current()) {
  return thimble::simt::shuffle(thimble::simt::WarpOp::shuffle, mask, value, lane, width, where);
}
template <thimble::simt::Shuffled T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance, int width = 32,
                 const thimble::simt::Place& where = thimble::simt::Place::current()) {
  return thimble::simt::shuffle(thimble::simt::WarpOp::shuffle_up, mask, value, static_cast<int>(distance), width,
                                where);
}
template <thimble::simt::Shuffled T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance, int width = 32,
                   const thimble::simt::Place& where = thimble::simt::Place::current()) {
  return thimble::simt::shuffle(thimble::simt::WarpOp::shuffle_down, mask, value, static_cast<int>(distance), width,
                                where);
}
template <thimble::simt::Shuffled T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32,
                  const thimble::simt::Place& where = thimble::simt::Place::current()) {
  return thimble::simt::shuffle(thimble::simt::WarpOp::shuffle_xor, mask, value, bits, width, where);
}
inline unsigned __ballot_sync(unsigned mask, int predicate,
                              const thimble::simt::Place& where = thimble::simt::Place::current()) {
  return static_cast<unsigned>(
      thimble::simt::warp_operation({thimble::simt::WarpOp::ballot, mask, predicate != 0}, where));
}
inline int __any_sync(unsigned mask, int predicate,
                      const thimble::simt::Place& where = thimble::simt::Place::current()) {
  return static_cast<int>(thimble::simt::warp_operation({thimble::simt::WarpOp::any, mask, predicate != 0}, where));
}
inline int __all_sync(unsigned mask, int predicate,
                      const thimble::simt::Place& where = thimble::simt::Place::current()) {
  return static_cast<int>(thimble::simt::warp_operation({thimble::simt::WarpOp::all, mask, predicate != 0}, where));
}

template <class T>
concept SimtReduced = std::is_same_v<T, int> || std::is_same_v<T, unsigned>;
template <SimtReduced T>
T simt_reduce(thimble::simt::WarpOp op, unsigned mask, T value, const thimble::simt::Place& where) {
  return static_cast<T>(thimble::simt::warp_operation({op, mask, static_cast<unsigned>(value)}, where));
}
template <SimtReduced T>
T __reduce_add_sync(unsigned mask, T value, const thimble::simt::Place& where = thimble::simt::Place::current()) {
  return simt_reduce(thimble::simt::WarpOp::add, mask, value, where);
}
template <SimtReduced T>
T __reduce_min_sync(unsigned mask, T value, const thimble::simt::Place& where = thimble::simt::Place::current()) {
  using enum thimble::simt::WarpOp;
  return simt_reduce(std::is_signed_v<T> ? min_signed : min_unsigned, mask, value, where);
}
template <SimtReduced T>
T __reduce_max_sync(unsigned mask, T value, const thimble::simt::Place& where = thimble::simt::Place::current()) {
  using enum thimble::simt::WarpOp;
  return simt_reduce(std::is_signed_v<T> ? max_signed : max_unsigned, mask, value, where);
}
inline unsigned __reduce_and_sync(unsigned mask, unsigned value,
                                  const thimble::simt::Place& where = thimble::simt::Place::current()) {
  return simt_reduce(thimble::simt::WarpOp::bits_and, mask, value, where);
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned value,
                                 const thimble::simt::Place& where = thimble::simt::Place::current()) {
  return simt_reduce(thimble::simt::WarpOp::bits_or, mask, value, where);
}
inline unsigned __reduce_xor_sync(unsigned mask, unsigned value,
                                  const thimble::simt::Place& where = thimble::simt::Place::current()) {
  return simt_reduce(thimble::simt::WarpOp::bits_xor, mask, value, where);
}
