// Rows of numbers, each gone through by a group of threads: those of a block along x; see ownt/cuda_rows.py.
#pragma once
#include "ahead.cuh"
#include "fast.cuh"
#include "reduce.cuh"

// The row that is this thread's group's.
__device__ inline long long group_row() { return blockIdx.x * static_cast<long long>(blockDim.y) + threadIdx.y; }

// each(places, packs of each input...) until all `width` numbers of a row were given to a thread of the group: packs of
// FULL where 16-byte boundaries of these rows, and of the one at `lies`, are at the same numbers, one by one before and
// after. A thread's numbers are in ascending order but for those; which they are depends on width and boundaries alone.
template <class F, class... P>
__device__ inline void over_row(const F& each, int width, const real* lies, const P*... inputs) {
  const unsigned long long address = reinterpret_cast<unsigned long long>(lies);
  const bool alike = (((address ^ reinterpret_cast<unsigned long long>(inputs)) | ... | 0ull) & 15) == 0;
  const int to_boundary = (0 - address) % 16 / sizeof(real);
  const int head = alike && to_boundary < width ? to_boundary : width;
  const int tail = head + (width - head) / FULL * FULL;
  over_packs<FULL>(each, head + threadIdx.x * FULL, tail, blockDim.x * FULL, inputs...);
  for (int i = threadIdx.x; i < head + width - tail; i += blockDim.x) {
    const Places<1, 1> place = {i < head ? i : i - head + tail, 0};
    each(place, load_packs(inputs, place)...);
  }
}

// out[c] = function(inputs[c]...) along a row, added to what is there if beta is 1. `out` may be one of the inputs.
template <class F, class... P>
__device__ inline void map_row(F function, real* out, int beta, int width, const P*... inputs) {
  over_row(
      [&](auto places, const auto&... packs) {
        constexpr int N = decltype(places)::NUMBERS;
#pragma unroll
        for (int k = 0; k < decltype(places)::PACKS; k++) {
          wide values[N];
          auto apply = [&](const auto&... given) {
#pragma unroll
            for (int i = 0; i < N; i++) values[i] = function(given.at[i]...);
          };
          apply(widen(packs.at[k])...);
          store<N>(out + places[k], values, beta);
        }
      },
      width, out, inputs...);
}

// The sum of function(inputs[c]...) along a row, for all threads of the group.
template <class F, class P, class... Q>
__device__ inline wide sum_row(F function, int width, const P* first, const Q*... others) {
  wide sum = 0;
  over_row(
      [&](auto places, const auto&... packs) {
#pragma unroll
        for (int k = 0; k < decltype(places)::PACKS; k++) {
          auto add = [&](const auto&... values) {
#pragma unroll
            for (int i = 0; i < decltype(places)::NUMBERS; i++) sum += function(values.at[i]...);
          };
          add(widen(packs.at[k])...);
        }
      },
      width, first, first, others...);
  return group_sum(sum);
}

struct Larger {  // of a number and NaN the number, by one instruction
  __device__ wide operator()(wide a, wide b) const { return fmax(a, b); }
};

// The largest of numbers but NaN, and the sum of all their e^(x - largest), at one reading. The sum is NaN where a
// number is NaN or +Inf. (It begins with the lowest finite number, from which -Inf may be subtracted.)
struct Exponentials {
  wide top = LOWEST, sum = 0;

  template <int N, int COUNT> __device__ void add(const Packs<N, COUNT, real>& packs) {
    Pack<N, wide> values[COUNT];
    wide larger = top, added = 0;
#pragma unroll
    for (int k = 0; k < COUNT; k++) values[k] = widen(packs.at[k]);
#pragma unroll
    for (int i = 0; i < N * COUNT; i++) larger = Larger()(larger, values[i / N].at[i % N]);
#pragma unroll
    for (int i = 0; i < N * COUNT; i++) added += power_of_e(values[i / N].at[i % N] - larger);
    sum = sum * power_of_e(top - larger) + added;
    top = larger;
  }
};

// Of a row, for all threads of the group.
__device__ inline Exponentials exponentials(const real* row, int width) {
  Exponentials own, all;
  over_row([&](auto, const auto& packs) { own.add(packs); }, width, row, row);
  all.top = group_reduce(Larger(), own.top);
  all.sum = group_sum(own.sum * power_of_e(own.top - all.top));
  return all;
}
