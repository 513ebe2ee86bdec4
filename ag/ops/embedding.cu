// embedding: rows of a table, and their gradient: see embedding.py.
//
// The gradient adds the rows of g that came from one row of the table in the order in which they stand. Their positions
// are sorted by index, 8 bits at a time, stable; then the sorted ones are cut into pieces of equal length, so that a
// frequent index is the work of many blocks. A piece adds up its runs of one index. Those that lie in it wholly go to the
// table; of those that reach into other pieces it keeps the part, and the parts are added in order.
#include "common.cuh"
#include "indices.cuh"

constexpr int DIGITS = 256;

template <int N>
__device__ inline void copy_row(const real* from, real* to, int beta, int width) {
  for (int column = threadIdx.x * N; column < width; column += blockDim.x * N) {
    const Pack<N> pack = from ? load<N>(from + column) : Pack<N>();
    wide values[N];
#pragma unroll
    for (int i = 0; i < N; i++) values[i] = from ? widen(pack.at[i]) : wide(0);
    store<N>(to + column, values, beta);
  }
}

// A row of threads for each index.
extern "C" __global__ void __launch_bounds__(256)
look_up(const void* indices, int kind, long long size, const real* table, real* out, int beta, int count,
        int width, bool packs) {
  const long long row = blockIdx.x * static_cast<long long>(blockDim.y) + threadIdx.y;
  if (row >= count) return;
  const Indices all = {indices, kind, size};
  const long long index = all.raw(row);
  const real* from = all.has(index) ? table + index * width : nullptr;
  if (packs) copy_row<FULL>(from, out + row * width, beta, width);
  else copy_row<1>(from, out + row * width, beta, width);
}

constexpr int OF_LANE = 16;  // keys that a lane reads before it needs the first

// What is sorted: keys and positions as the last pass left them, or, before the first, indices as they stand.
struct Unsorted {
  Indices indices;
  const int *keys, *positions;

  // body(i, key, position) for each of first ... end - 1 by a whole warp, of which lanes may have an i beyond. A lane keeps
  // what it reads in shared memory, where it finds it by a number: in registers, all would be written out 16 times.
  template <class F> __device__ void each(int first, int end, F body) const {
    __shared__ int found[OF_LANE][WARP], stood[OF_LANE][WARP];
    for (int start = first; start < end; start += OF_LANE * WARP) {
      const int own = start + threadIdx.x;
      if (keys) read(own, end, found, [&](int i) { return keys[i]; });
      else indices.typed([&](const auto* all) { read(own, end, found, [&](int i) { return key_of(all[i]); }); });
      read(own, end, stood, [&](int i) { return positions ? positions[i] : i; });
#pragma unroll 1
      for (int k = 0; k < OF_LANE && start + k * WARP < end; k++) {
        body(own + k * WARP, found[k][threadIdx.x], stood[k][threadIdx.x]);
      }
    }
  }
  template <class F> __device__ static void read(int own, int end, int (&to)[OF_LANE][WARP], F at) {
    int here[OF_LANE];
#pragma unroll
    for (int k = 0; k < OF_LANE; k++) here[k] = own + k * WARP < end ? at(own + k * WARP) : 0;
#pragma unroll
    for (int k = 0; k < OF_LANE; k++) to[k][threadIdx.x] = here[k];
  }
  // One past the last, for what is out of range.
  __device__ int key_of(long long index) const { return indices.has(index) ? index : indices.size; }
};

// How often each digit comes in each tile, counts (digit, tile). Blocks: tiles, of one warp each.
extern "C" __global__ void __launch_bounds__(32)
count_digits(const void* indices, int kind, int size, const int* keys, int* counts, int count, int tile, int shift) {
  __shared__ int found[DIGITS];
  const Unsorted from = {{indices, kind, size}, keys, nullptr};
  for (int digit = threadIdx.x; digit < DIGITS; digit += WARP) found[digit] = 0;
  __syncwarp();  // barrier kept: from wrong counts come places outside the arrays
  const int first = blockIdx.x * tile, end = min(first + tile, count);
  from.each(first, end, [&](int i, int key, int) {
    if (i < end) atomicAdd(&found[key >> shift & (DIGITS - 1)], 1);
  });
  __syncwarp();  // barrier kept: from wrong counts come places outside the arrays
  for (int digit = threadIdx.x; digit < DIGITS; digit += WARP) counts[digit * gridDim.x + blockIdx.x] = found[digit];
}

// The sum of the values of a warp's lanes up to this one.
__device__ inline int sum_up_to_lane(int value) {
  const int lane = threadIdx.x % WARP;
  for (int apart = 1; apart < WARP; apart *= 2) {
    const int other = __shfl_up_sync(ALL_LANES, value, apart);
    if (lane >= apart) value += other;
  }
  return value;
}

// In place of each count, of which there is a multiple of 4, the sum of those before it. One block; each warp has a
// stretch and goes through it 16 bytes a lane at a time.
extern "C" __global__ void __launch_bounds__(1024) add_counts_before(int* counts, int count) {
  using Four = Pack<4, int>;
  __shared__ int of_warps[WARP];
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
  const int each = (count / 4 + warps - 1) / warps * 4, first = min(count, warp * each), end = min(count, first + each);
  int total = 0;
  for (int i = first + lane * 4; i < end; i += WARP * 4) {
    const Four here = load<4>(counts + i);
    total += here.at[0] + here.at[1] + here.at[2] + here.at[3];
  }
  total = warp_sum(total);
  if (lane == 0) of_warps[warp] = total;
  __syncthreads();  // barrier kept: from wrong counts come places outside the arrays
  int before = 0;
  for (int other = 0; other < warp; other++) before += of_warps[other];
  for (int start = first; start < end; start += WARP * 4) {
    const int i = start + lane * 4;
    Four here = i < end ? load<4>(counts + i) : Four();
    const int own = here.at[0] + here.at[1] + here.at[2] + here.at[3], up_to = sum_up_to_lane(own);
    int sum = before + up_to - own;
#pragma unroll
    for (int n = 0; n < 4; n++) {
      const int one = here.at[n];
      here.at[n] = sum;
      sum += one;
    }
    if (i < end) *reinterpret_cast<Four*>(counts + i) = here;
    before += __shfl_sync(ALL_LANES, up_to, WARP - 1);
  }
}

// Keys and positions in the order of a digit, those of one digit as they were. Blocks: tiles, of one warp each.
extern "C" __global__ void __launch_bounds__(32)
sort_by_digit(const void* indices, int kind, int size, const int* keys, const int* positions, const int* counts,
              int* sorted_keys, int* sorted_positions, int count, int tile, int shift) {
  __shared__ int next[DIGITS];
  const Unsorted from = {{indices, kind, size}, keys, positions};
  for (int digit = threadIdx.x; digit < DIGITS; digit += WARP) next[digit] = counts[digit * gridDim.x + blockIdx.x];
  __syncwarp();  // barrier kept: that ballots come between writing and reading does not order memory
  const int first = blockIdx.x * tile, end = min(first + tile, count);
  const unsigned int lanes_before = (1u << threadIdx.x) - 1;
  from.each(first, end, [&](int i, int key, int position) {
    const int digit = key >> shift & (DIGITS - 1);
    unsigned int alike = __ballot_sync(ALL_LANES, i < end);  // lanes with this digit
    for (int bit = 1; bit < DIGITS; bit *= 2) {
      const unsigned int ones = __ballot_sync(ALL_LANES, digit & bit);
      alike &= digit & bit ? ones : ~ones;
    }
    const int before = __popc(alike & lanes_before), at = next[digit] + before;
    __syncwarp();  // barrier kept: two in one place leave another empty, and what is read there is no position
    if (i < end) {
      sorted_keys[at] = key;
      sorted_positions[at] = position;
      if (before == 0) next[digit] += __popc(alike);
    }
    __syncwarp();  // barrier kept: likewise
  });
}

// Sorted keys (count) cut into pieces.
struct Pieces {
  const int* keys;
  int count, length;

  __device__ int first(int piece) const { return piece * length; }
  __device__ int end(int piece) const { return min(count, first(piece) + length); }
  __device__ bool comes_from_before(int piece) const { return piece > 0 && keys[first(piece) - 1] == keys[first(piece)]; }
  __device__ bool goes_on(int piece) const { return end(piece) < count && keys[end(piece) - 1] == keys[end(piece)]; }
};

constexpr int AHEAD = 4;  // rows that are read before the first of them is needed

// The sums of the runs of a piece, for N columns.
template <int N>
__device__ inline void sum_piece(const real* g, const int* positions, const Pieces& pieces, real* table, wide* parts,
                                 int size, int width, int column) {
  const int piece = blockIdx.x, first = pieces.first(piece), end = pieces.end(piece);
  wide* part = parts + piece * 2ll * width + column;  // of the run that comes from before, then of that which goes on
  bool before = pieces.comes_from_before(piece);
  const bool on = pieces.goes_on(piece);
  wide sum[N] = {};
  for (int start = first; start < end; start += AHEAD) {
    Pack<N> rows[AHEAD];
#pragma unroll
    for (int k = 0; k < AHEAD; k++) {
      if (start + k < end) rows[k] = load<N>(g + positions[start + k] * static_cast<long long>(width) + column);
    }
#pragma unroll
    for (int k = 0; k < AHEAD; k++) {
      const int i = start + k;
      if (i >= end) break;
#pragma unroll
      for (int n = 0; n < N; n++) sum[n] += widen(rows[k].at[n]);
      const int key = pieces.keys[i];
      if (i + 1 < end && pieces.keys[i + 1] == key) continue;
      if (before || (i + 1 == end && on)) {
#pragma unroll
        for (int n = 0; n < N; n++) part[(before ? 0 : width) + n] = sum[n];
      } else if (key < size) {
        store<N>(table + key * static_cast<long long>(width) + column, sum, 1);
      }
      before = false;
#pragma unroll
      for (int n = 0; n < N; n++) sum[n] = 0;
    }
  }
}

// Blocks: (pieces, columns).
extern "C" __global__ void __launch_bounds__(128)
sum_pieces(const real* g, const int* keys, const int* positions, real* table, wide* parts, int count, int length,
           int size, int width, bool packs) {
  const int column = (blockIdx.y * blockDim.x + threadIdx.x) * (packs ? FULL : 1);
  if (column >= width) return;
  const Pieces pieces = {keys, count, length};
  if (packs) sum_piece<FULL>(g, positions, pieces, table, parts, size, width, column);
  else sum_piece<1>(g, positions, pieces, table, parts, size, width, column);
}

// The parts of a run that goes on from a piece to others, added to the table. Blocks: (pieces, columns).
extern "C" __global__ void __launch_bounds__(256)
join_pieces(const wide* parts, const int* keys, real* table, int count, int length, int size, int width) {
  __shared__ wide sums[8][WARP];
  const Pieces pieces = {keys, count, length};
  const int piece = blockIdx.x, column = blockIdx.y * WARP + threadIdx.x, key = keys[pieces.end(piece) - 1];
  const bool all = key == keys[pieces.first(piece)];  // then the run may have begun before
  if (key >= size || !pieces.goes_on(piece) || (all && pieces.comes_from_before(piece))) return;  // the whole block
  int last = piece + 1, after = gridDim.x;  // the last piece that begins with the key is in last ... after - 1
  while (after - last > 1) {
    const int middle = (last + after) / 2;
    if (keys[pieces.first(middle)] == key) last = middle;
    else after = middle;
  }
  wide sum = 0;
  for (int other = piece + 1 + threadIdx.y; column < width && other <= last; other += blockDim.y) {
    sum += parts[other * 2ll * width + column];
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y || column >= width) return;
  sum += parts[(piece * 2ll + 1) * width + column];
  for (int row = 1; row < blockDim.y; row++) sum += sums[row][threadIdx.x];
  store(table + key * static_cast<long long>(width) + column, sum, 1);
}
