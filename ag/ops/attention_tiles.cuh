// Tiles of attention's scores: what its kernels have in common. See attention.cu.
#pragma once
#include "reduce.cuh"

constexpr int TILE = 32;                   // queries, and keys, of a tile
constexpr int SIDE = 8;                    // a block is of SIDE x SIDE threads
constexpr int THREADS = SIDE * SIDE;
constexpr int EACH = TILE / SIDE;          // rows of a tile that are a thread's, and columns: SIDE apart
constexpr int CHUNK = 256 / sizeof(wide);  // columns of a result that are a block's
constexpr int MINE = CHUNK / SIDE;         // of them a thread's

typedef wide Tile[TILE][TILE + 1];  // a column more, so that the rows of a column lie in banks of their own

struct Matrix {
  const real* data;
  long long pitch;
  int rows, columns;
};

__device__ inline int row_of(int i) { return threadIdx.x / SIDE + SIDE * i; }
__device__ inline int column_of(int j) { return threadIdx.x % SIDE + SIDE * j; }

// Minus infinity: the score of a key that is not seen, and the lse of a query that sees none.
__device__ inline wide unseen() { return -infinity(); }
__device__ inline wide finite(wide x) { return x == unseen() ? 0 : x; }

struct Mask {  // what one head's queries see of the keys
  const real* bias;
  const bool* seen;
  long long start, query_stride, key_stride;
  int queries, keys, causal;
  wide scale;

  __device__ wide score(wide product, int query, int key) const {
    if (query >= queries || key >= keys || (causal && key > query)) return unseen();
    const long long place = start + query * query_stride + key * key_stride;
    if (seen && !seen[place]) return unseen();
    return product * scale + (bias ? widen(bias[place]) : 0);
  }

  __device__ int keys_of(int first) const {  // that a tile of queries may see
    return causal && first + TILE < keys ? first + TILE : keys;
  }
};

// Rows `first` ... and columns `from` ... of a matrix; zeros beyond its end.
__device__ inline void fetch(Tile& tile, const Matrix& m, int first, int from) {
  for (int i = threadIdx.x; i < TILE * TILE; i += THREADS) {
    const int row = first + i / TILE, column = from + i % TILE;
    const bool inside = row < m.rows && column < m.columns;
    tile[i / TILE][i % TILE] = inside ? widen(m.data[row * m.pitch + column]) : 0;
  }
}

// sums = a bᵀ for rows `first_a` ... of a and `first_b` ... of b
__device__ inline void dots(wide (&sums)[EACH][EACH], const Matrix& a, int first_a, const Matrix& b, int first_b,
                            Tile& left, Tile& right) {
#pragma unroll
  for (int i = 0; i < EACH; i++) {
#pragma unroll
    for (int j = 0; j < EACH; j++) sums[i][j] = 0;
  }
  for (int from = 0; from < a.columns; from += TILE) {
    __syncthreads();  // the tiles' last readers are done
    fetch(left, a, first_a, from);
    fetch(right, b, first_b, from);
    __syncthreads();
#pragma unroll 4
    for (int c = 0; c < TILE; c++) {
#pragma unroll
      for (int i = 0; i < EACH; i++) {
#pragma unroll
        for (int j = 0; j < EACH; j++) sums[i][j] += left[row_of(i)][c] * right[column_of(j)][c];
      }
    }
  }
}

// p, products of queries and keys, becomes weights, and slope, products of g and values, the gradient of the scores.
__device__ inline void differentiate(wide (&p)[EACH][EACH], wide (&slope)[EACH][EACH], const Mask& mask,
                                     const wide* lse, const wide* inner, int first_query, int first_key) {
#pragma unroll
  for (int i = 0; i < EACH; i++) {
    const int query = first_query + row_of(i);
    const wide row = query < mask.queries ? finite(lse[query]) : 0, mean = query < mask.queries ? inner[query] : 0;
#pragma unroll
    for (int j = 0; j < EACH; j++) {
      p[i][j] = exp(mask.score(p[i][j], query, first_key + column_of(j)) - row);
      slope[i][j] = p[i][j] * (slope[i][j] - mean);
    }
  }
}

// Each thread's numbers of a tile, to where all may read them.
__device__ inline void spread(Tile& tile, const wide (&values)[EACH][EACH], wide factor) {
#pragma unroll
  for (int i = 0; i < EACH; i++) {
#pragma unroll
    for (int j = 0; j < EACH; j++) tile[row_of(i)][column_of(j)] = values[i][j] * factor;
  }
}

// sums += weights m, or weightsᵀ m, for rows `first` ... of m and a chunk of its columns, `from` ...
template <bool TRANSPOSED>
__device__ inline void combine(wide (&sums)[EACH][MINE], const Tile& weights, const Matrix& m, int first, int from,
                               Tile& right) {
#pragma unroll
  for (int part = 0; part < CHUNK / TILE; part++) {
    if (from + part * TILE >= m.columns) break;
    __syncthreads();  // the weights are all there, and the tile's last readers done
    fetch(right, m, first, from + part * TILE);
    __syncthreads();
#pragma unroll 4
    for (int c = 0; c < TILE; c++) {
#pragma unroll
      for (int i = 0; i < EACH; i++) {
        const wide weight = TRANSPOSED ? weights[c][row_of(i)] : weights[row_of(i)][c];
#pragma unroll
        for (int j = 0; j < EACH; j++) sums[i][part * EACH + j] += weight * right[c][column_of(j)];
      }
    }
  }
}

// A chunk of columns to rows `first` ... of a result, or added to them.
__device__ inline void write(real* to, long long pitch, int rows, int columns, int first, int from,
                             const wide (&sums)[EACH][MINE], int beta) {
#pragma unroll
  for (int i = 0; i < EACH; i++) {
#pragma unroll
    for (int j = 0; j < MINE; j++) {
      const int row = first + row_of(i), column = from + column_of(j);
      if (row < rows && column < columns) store(to + row * pitch + column, sums[i][j], beta);
    }
  }
}

// Over the SIDE lanes that share the tile's rows.
template <class F> __device__ inline wide over_row(F join, wide value) {
#pragma unroll
  for (int apart = SIDE / 2; apart; apart /= 2) value = join(value, __shfl_xor_sync(ALL_LANES, value, apart));
  return value;
}
