// Launches of simt_kernels.cu, for simt_test.cpp: a .cpp sees no kernel.
#pragma once

#include <cstdint>
#include <vector>

namespace thimble {

/// Sum of values by shuffles, shared memory and one atomicAdd per block.
float simt_sum(const std::vector<float>& values, int blocks, int threads);
/// out[i] = a[i] + factor b[i], without anything to wait for.
std::vector<float> simt_axpy(const std::vector<float>& a, const std::vector<float>& b, float factor);
std::vector<float> simt_transpose(const std::vector<float>& matrix, int rows, int columns);

enum class SimtShuffle { index, up, down, by_xor };
/// What 32 lanes get, each with its number.
std::vector<std::int64_t> simt_shuffle(SimtShuffle kind, int operand, int width);

struct SimtVotes {
  unsigned ballot, any, none_of, all, not_all;
  int sum, least, most;
  unsigned least_unsigned, bits_and, bits_or, bits_xor;
};
/// Of lanes 0 to 31, whose predicate is bit `lane` of the word and whose value is lane - 16.
SimtVotes simt_votes(unsigned predicates);
/// __syncthreads_count, _or and _and over 100 threads of which `holding` say yes.
std::vector<int> simt_block_votes(int holding);
/// add, max, min, or, exchange with 100 threads from several blocks.
std::vector<double> simt_atomics();
/// x + 10 y + 100 z of threads and blocks, in the order of linear indices.
std::vector<unsigned> simt_indices();
/// Threads of some blocks in the order in which they ran.
std::vector<unsigned> simt_order_of_threads();
/// How many floats of fresh shared memory are NaN, of 64 static and 64 dynamic ones.
int simt_fresh_nans();
/// Two instances of one template have arrays of their own.
bool simt_instances_have_their_own_arrays();
/// Each of the last blocks sums what all blocks wrote.
float simt_last_block_sums(int blocks);
std::vector<float> simt_vectors(const std::vector<float>& values);

void simt_wrong_mask();
void simt_two_operations();
void simt_wrong_width();
void simt_absent_lane();
void simt_warp_against_block();
void simt_launch_shape(std::int64_t grid, int block, std::size_t shared_bytes);
void simt_write_before_shared();
void simt_fails_in_block(unsigned block, int blocks);

}  // namespace thimble
