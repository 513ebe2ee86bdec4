// Attention of new positions to all before them, whose keys and values are kept: see cached_attention_kernel. Where the
// new ones begin is read from memory, so that a recorded launch serves every position; the result is NaN, and nothing
// is kept, if they have no room. All arrays are without gaps.
#include "common.cuh"

constexpr int THREADS = 256, EACH = 8;  // of a block; columns of a head that a thread holds

__device__ inline bool has_room(long long start, int count, int room) { return start >= 0 && start + count <= room; }

// keys, values (B, H, S, D) from `start` on, of the last two thirds of qkv (B, T, 3 H D). A thread for each number.
extern "C" __global__ void __launch_bounds__(256) cached_attention_keep(
    const real* qkv, const long long* start, real* keys, real* values, long long size, int count, int heads, int room,
    int depth) {
  const long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= size || !has_room(*start, count, room)) return;
  const int width = heads * depth, column = i % width;
  const long long row = i / width, batch = row / count, place = *start + row % count;
  const long long to = ((batch * heads + column / depth) * room + place) * depth + column % depth;
  const real* from = qkv + 3 * row * width + column;
  keys[to] = from[width];
  values[to] = from[2 * width];
}

// A row of a head shared out among so many lanes, N columns side by side to each, and again from the first lane on.
template <int N> struct Lanes {
  int count, own, depth;

  __device__ Lanes(int depth) : count(WARP), depth(depth) {
    while (count / 2 * N >= depth) count /= 2;
    own = threadIdx.x % count;
  }
  __device__ int column(int i) const { return (i / N * count + own) * N + i % N; }

  __device__ void load(const real* row, wide (&to)[EACH]) const {
#pragma unroll
    for (int i = 0; i < EACH; i += N) {
      const bool inside = column(i) < depth;
      const Pack<N> pack = inside ? ::load<N>(row + column(i)) : Pack<N>();
#pragma unroll
      for (int k = 0; k < N; k++) to[i + k] = inside ? widen(pack.at[k]) : wide(0);
    }
  }
  __device__ wide sum(wide value) const {
    for (int apart = count / 2; apart; apart /= 2) value += __shfl_xor_sync(ALL_LANES, value, apart);
    return value;
  }
};

// What a worker, the lanes that share a row, has found in its keys: the largest score, and sums of e^(score - largest)
// and of that times the values.
struct Found {
  wide top = 0, total = 0, sum[EACH] = {};

  __device__ void add(wide score, const wide (&value)[EACH]) {
    const wide largest = total == 0 ? score : Max()(top, score), p = exp(score - largest);
    const wide shrink = total == 0 ? 0 : exp(top - largest);
    top = largest;
    total = total * shrink + p;
#pragma unroll
    for (int i = 0; i < EACH; i++) sum[i] = (shrink == 0 ? 0 : sum[i] * shrink) + p * value[i];
  }
};

template <int N>
__device__ inline void attend_to_row(const real* query, const real* keys, const real* values, real* y, long long seen,
                                     int depth, wide scale) {
  __shared__ wide tops[THREADS], totals[THREADS], sums[THREADS * EACH];
  const Lanes<N> lanes(depth);
  const int workers = THREADS / lanes.count, worker = threadIdx.x / lanes.count, room = lanes.count * EACH;
  wide q[EACH];
  lanes.load(query, q);
  Found found;
  for (long long first = 0; first < seen; first += workers) {
    const long long key = first + worker;
    wide k[EACH] = {}, value[EACH] = {}, score = 0;
    if (key < seen) {
      lanes.load(keys + key * depth, k);
      lanes.load(values + key * depth, value);
    }
#pragma unroll
    for (int i = 0; i < EACH; i++) score += q[i] * k[i];
    score = lanes.sum(score) * scale;
    if (key < seen) found.add(score, value);
  }
  if (lanes.own == 0) tops[worker] = found.top, totals[worker] = found.total;
#pragma unroll
  for (int i = 0; i < EACH; i++) sums[worker * room + lanes.column(i)] = found.sum[i];
  __syncthreads();
  const int busy = seen < workers ? seen : workers;
  wide largest = tops[0];
  for (int other = 1; other < busy; other++) largest = Max()(tops[other], largest);
  for (int column = threadIdx.x; column < depth; column += THREADS) {
    wide all = 0, sum = 0;
    for (int other = 0; other < busy; other++) {
      const wide share = exp(tops[other] - largest);
      all += share * totals[other];
      sum += share * sums[other * room + column];
    }
    y[column] = narrow<real>(sum / all);  // 0 / 0 where there is no room
  }
}

// y (B, T, H D). Blocks: (new position, sequence and head)
extern "C" __global__ void __launch_bounds__(256) cached_attention(
    const real* qkv, const long long* start, const real* keys, const real* values, real* y, int count, int heads,
    int room, int depth, double scale) {
  const int width = heads * depth;
  const long long batch = blockIdx.y / heads, head = blockIdx.y % heads, row = batch * count + blockIdx.x;
  const long long seen = has_room(*start, count, room) ? *start + blockIdx.x + 1 : 0;
  qkv += 3 * row * width + head * depth;
  keys += static_cast<long long>(blockIdx.y) * room * depth;
  values += static_cast<long long>(blockIdx.y) * room * depth;
  y += row * width + head * depth;
  by_pack(aligned(qkv, keys, values), depth, [&](auto size) {
    attend_to_row<size.VALUE>(qkv, keys, values, y, seen, depth, static_cast<wide>(scale));
  });
}
