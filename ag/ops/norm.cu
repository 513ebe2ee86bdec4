// layer_norm and rms_norm: see norm.py, whose kernels these are.
//
// A row has a group of threads, a warp, several to a block, or a whole block, which holds it in registers if it fits:
// memory is read once, see columns.cuh. What a thread has beyond the row is 0, as are its differences from the mean.
#include "columns.cuh"

template <class C>
__device__ inline void normalize(const real* from, const real* gain, const real* shift, real* out, int beta, int width,
                                 wide eps, bool centred) {
  const Row<C::N, C::COUNT> row(from, width), gains(gain, width, 1), shifts(shift, width);
  const wide share = wide(1) / width;
  wide sum = 0, squares = 0;
  C::each(width, [&](int k, int c) {
    const auto x = row.at(k, c);
#pragma unroll
    for (int i = 0; i < C::N; i++) sum += x.at[i];
  });
  const wide mean = centred ? group_sum(sum) * share : wide(0);
  C::each(width, [&](int k, int c) {
    const auto x = row.at(k, c);
    const wide centre = c < width ? mean : wide(0);
#pragma unroll
    for (int i = 0; i < C::N; i++) squares += (x.at[i] - centre) * (x.at[i] - centre);
  });
  const wide inverse = rsqrt(group_sum(squares) * share + eps);
  C::each(width, [&](int k, int c) {
    const auto x = row.at(k, c), scales = gains.at(k, c), starts = shifts.at(k, c);
    wide values[C::N];
#pragma unroll
    for (int i = 0; i < C::N; i++) values[i] = (x.at[i] - mean) * inverse * scales.at[i] + starts.at[i];
    if (c < width) store<C::N>(out + c, values, beta);
  });
}

extern "C" __global__ void __launch_bounds__(512, 2)
norm_forward(const real* x, const real* gain, const real* shift, real* out, int beta, int rows, int width, wide eps,
             bool centred) {
  const long long row = blockIdx.x * static_cast<long long>(blockDim.y) + threadIdx.y;
  if (row >= rows) return;  // a whole group
  x += row * width, out += row * width;
  by_columns(aligned(x, gain, shift, out), width, [&](auto columns) {
    normalize<decltype(columns)>(x, gain, shift, out, beta, width, eps, centred);
  });
}

// Sums over the rows of a group, of g h and of g, for a thread's columns: in registers, or, if there are too many, in
// the block's part of all sums (2, width), which is its one group's then. Without a part they are not wanted.
template <class C> struct Sums {
  using Wide = Pack<C::N, wide>;
  wide* part;
  int width;
  Wide held[2][C::COUNT ? C::COUNT : 1] = {};

  __device__ Sums(wide* place, int columns) : part(place), width(columns) {
    if (part && !C::COUNT) C::each(width, [&](int k, int c) { at(0, k, c) = at(1, k, c) = Wide(); });
  }

  __device__ Wide& at(int which, int k, int c) {
    if constexpr (C::COUNT) return held[which][k];
    else return *reinterpret_cast<Wide*>(part + which * width + c);
  }

  __device__ void add(int k, int c, const Wide& g, const Wide& h) {
    if (!part && !C::COUNT) return;
    Wide &along = at(0, k, c), &plain = at(1, k, c);
#pragma unroll
    for (int i = 0; i < C::N; i++) along.at[i] += g.at[i] * h.at[i], plain.at[i] += g.at[i];
  }

  // Write the block's part: the sums of its groups, joined in shared memory.
  __device__ void write(wide* shared) {
    if (!part || !C::COUNT) return;
#pragma unroll
    for (int which = 0; which < 2; which++) {
      wide *to = part + which * width, *own = blockDim.y == 1 ? to : shared + threadIdx.y * width;
      C::each(width, [&](int k, int c) {
        if (c < width) store<C::N>(own + c, at(which, k, c));
      });
      if (blockDim.y == 1) continue;
      __syncthreads();
      for (int c = threadIdx.y * blockDim.x + threadIdx.x; c < width; c += blockDim.x * blockDim.y) {
        wide sum = 0;
        for (int group = 0; group < blockDim.y; group++) sum += shared[group * width + c];
        to[c] = sum;
      }
      __syncthreads();  // the other sums take the same places
    }
  }
};

// The slope of a row, dx = inverse (s - mean(s) - h mean(s h)) with s = g gain, and its share of both sums.
template <class C>
__device__ inline void slope(const real* g_row, const real* x_row, const Row<C::N>& gains, real* dx, int beta,
                             Sums<C>& sums, int width, wide eps, bool centred) {
  const Row<C::N, C::COUNT> xs(x_row, width), gs(g_row, width), before(beta ? dx : nullptr, width);
  const wide share = wide(1) / width;
  Pair first = {0, 0}, second = {0, 0};  // of x and s; of their products with x - mean
  C::each(width, [&](int k, int c) {
    const auto g = gs.at(k, c), x = xs.at(k, c), gain = gains.at(k, c);
#pragma unroll
    for (int i = 0; i < C::N; i++) first.a += x.at[i], first.b += g.at[i] * gain.at[i];
  });
  first = group_sum(first);
  const wide mean = centred ? first.a * share : wide(0), total = centred ? first.b * share : wide(0);
  C::each(width, [&](int k, int c) {
    const auto g = gs.at(k, c), x = xs.at(k, c), gain = gains.at(k, c);
    const wide centre = c < width ? mean : wide(0);
#pragma unroll
    for (int i = 0; i < C::N; i++) {
      const wide far = x.at[i] - centre;
      second.a += far * far, second.b += far * (g.at[i] * gain.at[i]);
    }
  });
  second = group_sum(second);
  const wide inverse = rsqrt(second.a * share + eps), along = second.b * share * inverse;
  C::each(width, [&](int k, int c) {
    const auto g = gs.at(k, c), gain = gains.at(k, c);
    auto h = xs.at(k, c);
#pragma unroll
    for (int i = 0; i < C::N; i++) h.at[i] = (h.at[i] - mean) * inverse;
    sums.add(k, c, g, h);
    if (!dx || c >= width) return;
    wide values[C::N];
#pragma unroll
    for (int i = 0; i < C::N; i++) values[i] = inverse * (g.at[i] * gain.at[i] - total - h.at[i] * along);
    if (beta) {
      const auto old = before.at(k, c);
#pragma unroll
      for (int i = 0; i < C::N; i++) values[i] += old.at[i];
    }
    store<C::N>(dx + c, values, 0);
  });
}

// dx, and each block's sums over its rows in `parts` (blocks, 2, width), unless that is null.
extern "C" __global__ void __launch_bounds__(512)
norm_backward(const real* g, const real* x, const real* gain, real* dx, int beta, wide* parts, int rows, int width,
              wide eps, bool centred) {
  DYNAMIC_SHARED(wide, shared);
  const int group = blockIdx.x * blockDim.y + threadIdx.y, groups = gridDim.x * blockDim.y;
  by_columns(aligned(g, x, gain, dx), width, [&](auto columns) {
    using C = decltype(columns);
    const Row<C::N> gains(gain, width, 1);
    Sums<C> sums(parts ? parts + blockIdx.x * 2ll * width : nullptr, width);
    for (long long row = group; row < rows; row += groups) {
      const long long at = row * width;
      slope(g + at, x + at, gains, dx ? dx + at : nullptr, beta, sums, width, eps, centred);
    }
    sums.write(shared);
  });
}

// dgain and dshift, either or both, from the parts, always added up in the same order. Blocks: (columns, 2).
extern "C" __global__ void __launch_bounds__(1024)
norm_sum_parts(const wide* parts, real* dgain, int gain_beta, real* dshift, int shift_beta, int count, int width) {
  __shared__ wide sums[32][WARP];
  const int column = blockIdx.x * WARP + threadIdx.x, step = blockDim.y;
  real* out = blockIdx.y ? dshift : dgain;
  const int end = out && column < width ? count : 0;
  wide sum = 0;
#pragma unroll 8  // blocks are few: many reads have to be on their way
  for (int part = threadIdx.y; part < end; part += step) sum += parts[(part * 2ll + blockIdx.y) * width + column];
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y || !out || column >= width) return;
  for (int row = 1; row < blockDim.y; row++) sum += sums[row][threadIdx.x];
  store(out + column, sum, blockIdx.y ? shift_beta : gain_beta);
}
