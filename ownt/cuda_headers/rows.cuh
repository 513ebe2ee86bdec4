// Rows of numbers, each gone through by a group of threads: those of a block along x; see ownt/cuda_rows.py.
#pragma once
#include "elementwise.cuh"
#include "fast.cuh"
#include "reduce.cuh"

// The row that is this thread's group's.
__device__ inline long long group_row() { return blockIdx.x * static_cast<long long>(blockDim.y) + threadIdx.y; }

template <int N> struct Count { static constexpr int value = N; };

// each(Count<N>(), c) for the numbers c ... c + N - 1 of a row, until all `width` were given to a thread of the group:
// FULL at a time where 16-byte boundaries of all these rows are at the same numbers, one by one before and after.
template <class F, class... P>
__device__ inline void over_row(F each, int width, const real* first, const P*... others) {
  const unsigned long long address = reinterpret_cast<unsigned long long>(first);
  const bool alike = (((address ^ reinterpret_cast<unsigned long long>(others)) | ... | 0ull) & 15) == 0;
  const int to_boundary = (0 - address) % 16 / sizeof(real);
  const int head = alike && to_boundary < width ? to_boundary : width;
  const int tail = head + (width - head) / FULL * FULL;
  for (int c = head + threadIdx.x * FULL; c < tail; c += blockDim.x * FULL) each(Count<FULL>(), c);
  for (int i = threadIdx.x; i < head + width - tail; i += blockDim.x) each(Count<1>(), i < head ? i : i - head + tail);
}

// out[c] = function(inputs[c]...) along a row, added to what is there if beta is 1. `out` may be one of the inputs.
template <class F, class... P>
__device__ inline void map_row(F function, real* out, int beta, int width, const P*... inputs) {
  over_row([&](auto n, int c) { elementwise_pack<decltype(n)::value>(function, out, beta, c, inputs...); }, width, out,
           inputs...);
}

// The sum of function(inputs[c]...) along a row, for all threads of the group.
template <class F, class... P> __device__ inline wide sum_row(F function, int width, const P*... inputs) {
  wide sum = 0;
  over_row(
      [&](auto n, int c) {
        constexpr int N = decltype(n)::value;
        auto add = [&](const auto&... packs) {
#pragma unroll
          for (int i = 0; i < N; i++) sum += function(packs.at[i]...);
        };
        add(widen(load<N>(inputs + c))...);
      },
      width, inputs...);
  return group_sum(sum);
}

// The largest of numbers and the sum of their e^(x - largest), at one reading. NaN of NaN, and where one is infinite.
// (It begins with the lowest finite number, from which -Inf may be subtracted.)
struct Exponentials {
  wide top = LOWEST, sum = 0;

  template <int N> __device__ void add(const Pack<N, wide>& pack) {
    wide larger = top, added = 0;
#pragma unroll
    for (int i = 0; i < N; i++) larger = Max()(larger, pack.at[i]);
#pragma unroll
    for (int i = 0; i < N; i++) added += power_of_e(pack.at[i] - larger);
    sum = sum * exp(top - larger) + added;
    top = larger;
  }
};

// Of a row, for all threads of the group.
__device__ inline Exponentials exponentials(const real* row, int width) {
  Exponentials own, all;
  over_row([&](auto n, int c) { own.add(widen(load<decltype(n)::value>(row + c))); }, width, row);
  all.top = group_reduce(Max(), own.top);
  all.sum = group_sum(own.sum * exp(own.top - all.top));
  return all;
}
