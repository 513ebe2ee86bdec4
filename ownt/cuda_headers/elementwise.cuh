// Functions of the numbers at one place of several arrays, read and written 16 bytes at a time where that is possible.
//
//   extern "C" __global__ void silu(const real* x, real* out, int beta, long long count) {
//     elementwise([](wide x) { return x * logistic(x); }, out, beta, count, x);
//   }
#pragma once
#include "vector.cuh"

// Numbers first ... first + N - 1.
template <int N, class F, class... P>
__device__ inline void elementwise_pack(F function, real* out, int beta, long long first, const P*... inputs) {
  wide values[N];
  auto each = [&](const auto&... packs) {
#pragma unroll
    for (int i = 0; i < N; i++) values[i] = function(packs.at[i]...);
  };
  each(widen(load<N>(inputs + first))...);
  store<N>(out + first, values, beta);
}

// out = function(inputs...) at each of `count` places, by all threads of all blocks along x.
template <class F, class... P>
__device__ inline void elementwise(F function, real* out, int beta, long long count, const P*... inputs) {
  const long long thread = blockIdx.x * static_cast<long long>(blockDim.x) + threadIdx.x;
  const long long threads = gridDim.x * static_cast<long long>(blockDim.x);
  const long long packs = aligned(out, inputs...) ? count / FULL : 0;
  for (long long i = thread; i < packs; i += threads) elementwise_pack<FULL>(function, out, beta, i * FULL, inputs...);
  for (long long i = packs * FULL + thread; i < count; i += threads) {
    elementwise_pack<1>(function, out, beta, i, inputs...);
  }
}
