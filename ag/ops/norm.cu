// layer_norm and rms_norm: see norm.py, whose kernels these are.
//
// A row has a group of threads: a warp, several to a block, or a whole block. A thread sees the same columns in every
// pass, so what it keeps of them in shared memory is its own and needs no barrier; memory is read once.
#include "common.cuh"

__device__ inline int padded(int width) { return (width + FULL - 1) / FULL * FULL; }

// A row's normalisation.
struct Normal {
  wide mean, inverse;  // inverse: 1 / deviation

  __device__ wide of(real x) const { return (widen(x) - mean) * inverse; }
};

// That of a row, which is copied to `kept` unless that is null.
template <int N>
__device__ inline Normal measure(const real* x, real* kept, int width, wide eps, bool centred) {
  wide sum = 0, squares = 0;
  for (int c = threadIdx.x * N; c < width; c += blockDim.x * N) {
    const Pack<N> pack = load<N>(x + c);
    if (kept) store<N>(kept + c, pack);
#pragma unroll
    for (int i = 0; i < N; i++) sum += widen(pack.at[i]);
  }
  const wide mean = centred ? group_sum(sum) / width : wide(0);
  for (int c = threadIdx.x * N; c < width; c += blockDim.x * N) {
    const Pack<N> pack = load<N>((kept ? kept : x) + c);
#pragma unroll
    for (int i = 0; i < N; i++) squares += (widen(pack.at[i]) - mean) * (widen(pack.at[i]) - mean);
  }
  return {mean, 1 / sqrt(group_sum(squares) / width + eps)};
}

template <int N>
__device__ inline void normalize(const real* x, real* kept, const real* gain, const real* shift, real* out, int beta,
                                 int width, wide eps, bool centred) {
  const Normal normal = measure<N>(x, kept, width, eps, centred);
  for (int c = threadIdx.x * N; c < width; c += blockDim.x * N) {
    const Pack<N> pack = load<N>((kept ? kept : x) + c);
    const Pack<N> gains = gain ? load<N>(gain + c) : pack, shifts = shift ? load<N>(shift + c) : pack;
    wide values[N];
#pragma unroll
    for (int i = 0; i < N; i++) {
      wide h = normal.of(pack.at[i]);
      if (gain) h *= widen(gains.at[i]);
      if (shift) h += widen(shifts.at[i]);
      values[i] = h;
    }
    store<N>(out + c, values, beta);
  }
}

extern "C" __global__ void __launch_bounds__(256)
norm_forward(const real* x, const real* gain, const real* shift, real* out, int beta, int rows, int width, wide eps,
             bool centred, bool keep) {
  DYNAMIC_SHARED(real, shared);
  const long long row = blockIdx.x * static_cast<long long>(blockDim.y) + threadIdx.y;
  if (row >= rows) return;  // a whole group
  real* kept = keep ? shared + threadIdx.y * padded(width) : nullptr;
  const bool packs = width % FULL == 0 && aligned(x, gain, shift, out);
  x += row * width, out += row * width;
  if (packs) normalize<FULL>(x, kept, gain, shift, out, beta, width, eps, centred);
  else normalize<1>(x, kept, gain, shift, out, beta, width, eps, centred);
}

// What a group keeps in shared memory while it walks through its rows; null for what is not wanted.
struct Kept {
  wide *along, *plain;  // sums over rows: of g h, and of g
  real *g, *x;          // of the row at hand

  // Where the sums of column c + i are, of which a thread has c to c + N - 1: side by side with those of other threads,
  // in banks of their own.
  __device__ static int place(int c, int i, int n) { return c - threadIdx.x * n + i * blockDim.x + threadIdx.x; }
};

// How many places that takes for a row: FULL for each thread in every turn.
__device__ inline int sums_of(int width) {
  const int turn = blockDim.x * FULL;
  return (width + turn - 1) / turn * turn;
}

// The slope of one row: dx = inverse (s - mean(s) - h mean(s h)) with s = g gain, and its share of both sums.
template <int N>
__device__ inline void slope(const real* g, const real* x, Kept kept, const real* gain, real* dx, int beta, int width,
                             wide eps, bool centred) {
  const Normal normal = measure<N>(x, kept.x, width, eps, centred);
  if (kept.x) x = kept.x;
  wide total = 0, along = 0;
  for (int c = threadIdx.x * N; c < width; c += blockDim.x * N) {
    const Pack<N> gs = load<N>(g + c), xs = load<N>(x + c), gains = gain ? load<N>(gain + c) : gs;
    if (kept.g) store<N>(kept.g + c, gs);
#pragma unroll
    for (int i = 0; i < N; i++) {
      const wide h = normal.of(xs.at[i]), slope = widen(gs.at[i]);
      const wide scaled = gain ? slope * widen(gains.at[i]) : slope;
      total += scaled;
      along += scaled * h;
      if (!kept.along) continue;
      const int place = Kept::place(c, i, N);
      kept.along[place] += slope * h, kept.plain[place] += slope;
    }
  }
  if (!dx) return;
  total = centred ? group_sum(total) / width : wide(0);
  along = group_sum(along) / width;
  for (int c = threadIdx.x * N; c < width; c += blockDim.x * N) {
    const Pack<N> gs = load<N>((kept.g ? kept.g : g) + c), xs = load<N>(x + c);
    const Pack<N> gains = gain ? load<N>(gain + c) : gs;
    wide values[N];
#pragma unroll
    for (int i = 0; i < N; i++) {
      const wide h = normal.of(xs.at[i]);
      const wide scaled = gain ? widen(gs.at[i]) * widen(gains.at[i]) : widen(gs.at[i]);
      values[i] = normal.inverse * (scaled - total - h * along);
    }
    store<N>(dx + c, values, beta);
  }
}

template <int N>
__device__ inline void slopes(const real* g, const real* x, const real* gain, real* dx, int beta, wide* parts, int rows,
                              int width, wide eps, bool centred, Kept kept) {
  const int group = blockIdx.x * blockDim.y + threadIdx.y, groups = gridDim.x * blockDim.y;
  for (int c = threadIdx.x * N; parts && c < width; c += blockDim.x * N) {
    for (int i = 0; i < N; i++) kept.along[Kept::place(c, i, N)] = kept.plain[Kept::place(c, i, N)] = 0;
  }
  for (long long row = group; row < rows; row += groups) {
    const long long at = row * width;
    slope<N>(g + at, x + at, kept, gain, dx ? dx + at : nullptr, beta, width, eps, centred);
  }
  wide* part = parts + group * 2ll * width;
  for (int c = threadIdx.x * N; parts && c < width; c += blockDim.x * N) {
    for (int i = 0; i < N; i++) {
      part[c + i] = kept.along[Kept::place(c, i, N)];
      part[width + c + i] = kept.plain[Kept::place(c, i, N)];
    }
  }
}

// dx, and each group's sums over its rows in `parts` (groups, 2, width), unless that is null.
extern "C" __global__ void __launch_bounds__(256)
norm_backward(const real* g, const real* x, const real* gain, real* dx, int beta, wide* parts, int rows, int width,
              wide eps, bool centred, bool keep) {
  DYNAMIC_SHARED(wide, shared);
  const int stride = padded(width), sums = sums_of(width);
  Kept kept = {nullptr, nullptr, nullptr, nullptr};
  if (parts) {
    kept.along = shared + threadIdx.y * 2 * sums;
    kept.plain = kept.along + sums;
  }
  if (keep) {
    real* rows_kept = reinterpret_cast<real*>(shared + (parts ? blockDim.y * 2 * sums : 0));
    kept.x = rows_kept + threadIdx.y * (dx ? 2 : 1) * stride;
    if (dx) kept.g = kept.x + stride;
  }
  if (width % FULL == 0 && aligned(g, x, gain, dx)) {
    slopes<FULL>(g, x, gain, dx, beta, parts, rows, width, eps, centred, kept);
  } else {
    slopes<1>(g, x, gain, dx, beta, parts, rows, width, eps, centred, kept);
  }
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
