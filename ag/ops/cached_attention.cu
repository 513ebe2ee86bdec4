// Attention of new positions to all before them, whose keys and values are kept: see cached_attention_kernel. Where the
// new ones begin is read from memory, so that a recorded launch serves every position; the result is NaN, and nothing
// is kept, if they have no room. All arrays are without gaps.
#include "common.cuh"

constexpr int WARPS = 8, EACH = 8;  // warps of a block; columns of a head at most that a lane holds

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

// y (B, T, H D). Blocks: (new position, sequence and head). Each warp takes every eighth of the keys, a lane every
// 32nd of the columns; what they found is put together in the end.
extern "C" __global__ void __launch_bounds__(256) cached_attention(
    const real* qkv, const long long* start, const real* keys, const real* values, real* y, int count, int heads,
    int room, int depth, double scale) {
  __shared__ wide tops[WARPS], totals[WARPS], sums[WARPS][EACH * WARP];
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, width = heads * depth;
  const long long batch = blockIdx.y / heads, head = blockIdx.y % heads, row = batch * count + blockIdx.x;
  const bool fits = has_room(*start, count, room);
  const long long seen = fits ? *start + blockIdx.x + 1 : 0;
  qkv += 3 * row * width + head * depth;
  keys += static_cast<long long>(blockIdx.y) * room * depth;
  values += static_cast<long long>(blockIdx.y) * room * depth;
  wide q[EACH], sum[EACH] = {}, top = 0, total = 0;
#pragma unroll
  for (int i = 0; i < EACH; i++) {
    const int column = i * WARP + lane;
    q[i] = column < depth ? widen(qkv[column]) * static_cast<wide>(scale) : 0;
  }
  for (long long key = warp; key < seen; key += WARPS) {
    wide score = 0;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
      const int column = i * WARP + lane;
      if (column < depth) score += q[i] * widen(keys[key * depth + column]);
    }
    score = warp_sum(score);
    const wide largest = total == 0 ? score : Max()(top, score), shrink = exp(top - largest), p = exp(score - largest);
    top = largest;
    total = total == 0 ? p : total * shrink + p;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
      const int column = i * WARP + lane;
      const wide value = column < depth ? p * widen(values[key * depth + column]) : 0;
      sum[i] = key == warp ? value : sum[i] * shrink + value;
    }
  }
  if (lane == 0) tops[warp] = top, totals[warp] = total;
#pragma unroll
  for (int i = 0; i < EACH; i++) sums[warp][i * WARP + lane] = sum[i];
  __syncthreads();
  const int warps = seen < WARPS ? seen : WARPS;  // that saw a key
  wide largest = tops[0];
  for (int other = 1; other < warps; other++) largest = Max()(tops[other], largest);
  for (int column = threadIdx.x; column < depth; column += blockDim.x) {
    wide all = 0, found = 0;
    for (int other = 0; other < warps; other++) {
      const wide share = exp(tops[other] - largest);
      all += share * totals[other];
      found += share * sums[other][column];
    }
    y[row * width + head * depth + column] = narrow<real>(found / all);  // 0 / 0 where there is no room
  }
}
