// Sums and maxima over the lanes of a warp and over a block. Every lane and thread gets the result.
//
// Threads are counted along x: of a block of several rows, each row of threads, a warp or a whole block, has its own.
#pragma once
#include "types.cuh"

constexpr int WARP = 32;
constexpr unsigned int ALL_LANES = 0xffffffffu;

struct Sum {
  template <class T> __device__ T operator()(T a, T b) const { return a + b; }
};
struct Max {  // NaN where there is one
  template <class T> __device__ T operator()(T a, T b) const { return a > b || a != a ? a : b; }
};

struct Min {  // of whole numbers
  __device__ long long operator()(long long a, long long b) const { return a < b ? a : b; }
};

// Two sums that are waited for together.
struct Pair {
  wide a, b;

  __device__ Pair operator+(const Pair& other) const { return {a + other.a, b + other.b}; }
};

// What the lane has whose number differs in these bits.
template <class T> __device__ inline T across(T value, int bits) { return __shfl_xor_sync(ALL_LANES, value, bits); }
__device__ inline Pair across(Pair value, int bits) { return {across(value.a, bits), across(value.b, bits)}; }

template <class F, class T> __device__ inline T warp_reduce(F join, T value) {
#pragma unroll
  for (int apart = WARP / 2; apart; apart /= 2) value = join(value, across(value, apart));
  return value;
}

// Over the threads of a block of one row, whose number 32 divides.
template <class F, class T> __device__ inline T block_reduce(F join, T value) {
  __shared__ T of_warps[WARP];
  const int warps = blockDim.x / WARP;
  value = warp_reduce(join, value);
  __syncthreads();  // of_warps may still be read for the reduction before this one
  if (threadIdx.x % WARP == 0) of_warps[threadIdx.x / WARP] = value;
  __syncthreads();
  value = of_warps[0];
  for (int warp = 1; warp < warps; warp++) value = join(value, of_warps[warp]);
  return value;
}

// Over a row of threads: a warp, or else the whole block.
template <class F, class T> __device__ inline T group_reduce(F join, T value) {
  return blockDim.x == WARP ? warp_reduce(join, value) : block_reduce(join, value);
}

template <class T> __device__ inline T warp_sum(T value) { return warp_reduce(Sum(), value); }
template <class T> __device__ inline T warp_max(T value) { return warp_reduce(Max(), value); }
template <class T> __device__ inline T group_sum(T value) { return group_reduce(Sum(), value); }
