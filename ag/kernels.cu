// Kernels that many ops share: see kernels.py.
#include "ahead.cuh"
#include "reduce.cuh"
#include "strided.cuh"

// A number, where there is no x: what fills an array.
extern "C" __global__ void copy(const real* x, Axes x_strides, wide number, real* out, Axes out_strides, int beta,
                                Axes sizes) {
  strided([](wide x) { return x; }, out, out_strides, beta, sizes, operand(x, x_strides, number));
}

// The factor is a number.
extern "C" __global__ void scale(const real* x, Axes x_strides, const real* factor, Axes factor_strides, wide number,
                                 real* out, Axes out_strides, int beta, Axes sizes) {
  strided([](wide x, wide factor) { return x * factor; }, out, out_strides, beta, sizes, operand(x, x_strides),
          operand(factor, factor_strides, number));
}

template <class T>
__device__ inline void cast_from(const void* x, const Axes& x_strides, wide factor, real* out, const Axes& out_strides,
                                 int beta, const Axes& sizes) {
  strided([=](wide x) { return x * factor; }, out, out_strides, beta, sizes,
          operand(static_cast<const T*>(x), x_strides));
}

// x times a factor, if there is one. kind: the number of x's dtype in FLOATS of ownt/cuda_signature.py
extern "C" __global__ void cast(const void* x, int kind, Axes x_strides, const wide* factor, real* out,
                                Axes out_strides, int beta, Axes sizes) {
  const wide by = factor ? *factor : wide(1);
  if (kind == 0) cast_from<float>(x, x_strides, by, out, out_strides, beta, sizes);
  else if (kind == 1) cast_from<double>(x, x_strides, by, out, out_strides, beta, sizes);
  else if (kind == 2) cast_from<__half>(x, x_strides, by, out, out_strides, beta, sizes);
  else cast_from<__nv_bfloat16>(x, x_strides, by, out, out_strides, beta, sizes);
}

// Where sums go: to `out`, or to `sums`, of which each part of the work has as many as there are results.
struct Results {
  real* out;
  wide* sums;
  int beta;

  __device__ void take(long long at, wide sum) const {
    if (out) store(out + at, sum, beta);
    else store(sums + at, sum, beta);
  }
};

// Sums of rows, of which each block takes a stretch and each thread up to FULL columns. Blocks: (columns, parts,
// stacks).
template <int N>
__device__ inline void sum_stretch(const real* x, long long row_stride, const Results& to, int rows, int width) {
  __shared__ Pack<N, wide> sums[256];
  const int across = blockDim.x * N, left = blockIdx.x * across, column = left + threadIdx.x * N;
  const int first = rows * static_cast<long long>(blockIdx.y) / gridDim.y;
  const int end = rows * static_cast<long long>(blockIdx.y + 1) / gridDim.y;
  Pack<N, wide> sum = {};
  auto add = [&](auto places, const auto& packs) {
#pragma unroll
    for (int k = 0; k < decltype(places)::PACKS; k++) {
#pragma unroll
      for (int i = 0; i < N; i++) sum.at[i] += widen(packs.at[k].at[i]);
    }
  };
  if (column < width) over_packs<N>(add, first + threadIdx.y, end, blockDim.y, rows_of(x + column, row_stride));
  sums[threadIdx.y * blockDim.x + threadIdx.x] = sum;
  __syncthreads();
  const long long results = (blockIdx.y * static_cast<long long>(gridDim.z) + blockIdx.z) * width;
  for (int i = threadIdx.y * blockDim.x + threadIdx.x; i < across && left + i < width; i += blockDim.x * blockDim.y) {
    wide whole = sums[i / N].at[i % N];
    for (int row = 1; row < blockDim.y; row++) whole += sums[row * blockDim.x + i / N].at[i % N];
    to.take(results + left + i, whole);
  }
}

extern "C" __global__ void __launch_bounds__(256, 5)
sum_rows(const real* x, long long stack_stride, long long row_stride, real* out, wide* sums, int beta, int rows,
         int width, bool packs) {
  const Results to = {out, sums, beta};
  x += blockIdx.z * stack_stride;
  if (packs) sum_stretch<FULL>(x, row_stride, to, rows, width);
  else sum_stretch<1>(x, row_stride, to, rows, width);
}

// A thread's share of the numbers first ... end - 1 of those that become one sum.
template <int N>
__device__ inline wide share(const Operand<real>& x, const Axes& summed, long long first, long long end) {
  wide sum = 0;
  for (long long i = first + threadIdx.x * N; i < end; i += blockDim.x * N) {
    const Numbers<N> values = numbers<N>(x, Place(i, summed), i);
#pragma unroll
    for (int k = 0; k < N; k++) sum += values.at[k];
  }
  return sum;
}

// Each result is the sum of all that lies along the axes `summed`: by a row of threads, or by one for each of its parts.
// Blocks: (results, parts)
extern "C" __global__ void __launch_bounds__(256)
sum_axes(const real* x, Axes kept, Axes kept_strides, Axes summed, Axes summed_strides, real* out, wide* sums, int beta) {
  const long long results = kept.count(), result = blockIdx.x * static_cast<long long>(blockDim.y) + threadIdx.y;
  if (result >= results) return;  // a whole row of threads
  const Operand<real> from = operand(x + Place(result, kept).in(kept_strides), summed_strides);
  const bool packs = (summed.is_line() || summed.at[3] % FULL == 0) && summed_strides.at[3] == 1 &&
                     in_packs(from.from, summed_strides);
  const long long count = summed.count(), units = packs ? count / FULL : count, unit = packs ? FULL : 1;
  const long long first = units * blockIdx.y / gridDim.y * unit, end = units * (blockIdx.y + 1ll) / gridDim.y * unit;
  wide sum = packs ? share<FULL>(from, summed, first, end) : share<1>(from, summed, first, end);
  if (blockIdx.y + 1 == gridDim.y) sum += share<1>(from, summed, units * unit, count);
  sum = blockDim.x == WARP ? warp_sum(sum) : block_reduce(Sum(), sum);
  if (threadIdx.x == 0) Results{out, sums, beta}.take(blockIdx.y * results + result, sum);
}

// The sums of parts (count, results), always added up in the same order.
extern "C" __global__ void __launch_bounds__(1024)
sum_parts(const wide* parts, real* out, wide* sums, int beta, int count, long long results) {
  __shared__ wide found[32][WARP];
  const long long at = blockIdx.x * static_cast<long long>(WARP) + threadIdx.x;
  const int end = at < results ? count : 0;
  wide sum = 0;
  auto add = [&](auto places, const auto& packs) {
#pragma unroll
    for (int k = 0; k < decltype(places)::PACKS; k++) sum += packs.at[k].at[0];
  };
  over_packs<1, 8>(add, threadIdx.y, end, blockDim.y, rows_of(parts + at, results));  // 8, since blocks are few
  found[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y || at >= results) return;
  for (int row = 1; row < blockDim.y; row++) sum += found[row][threadIdx.x];
  Results{out, sums, beta}.take(at, sum);
}
