// Many arrays in one launch: their addresses are in a table in device memory; see table_cuda.py.
//
// A block works on one piece of one row. What it computes for a number depends on nothing but that number's place, so
// its bits are the same however the work is cut.
#pragma once
#include "common.cuh"
#include "random.cuh"

using word = unsigned long long;

// The part of a table's row that a block works on. A row of the table: the pieces of all rows up to its end, its size,
// the numbers of all rows before it, and the addresses of its arrays.
struct Piece {
  static constexpr int HEAD = 3;
  const word* entries;
  int row;
  long long first, size;  // numbers before it in the row, and in it

  __device__ Piece(const word* table, int rows, int columns, int most) {
    int low = 0, high = rows - 1;
    while (low < high) {  // the first row that ends after this piece
      const int middle = (low + high) / 2;
      if (table[static_cast<long long>(middle) * columns] > blockIdx.x) high = middle;
      else low = middle + 1;
    }
    row = low;
    entries = table + static_cast<long long>(row) * columns;
    const word before = row ? entries[-columns] : 0;
    first = static_cast<long long>(blockIdx.x - before) * most;
    size = min(static_cast<long long>(most), static_cast<long long>(entries[1]) - first);
  }

  // Where it begins in the array of a column; null if the table has none.
  template <class T> __device__ T* at(int column) const {
    T* whole = reinterpret_cast<T*>(entries[HEAD + column]);
    return whole ? whole + first : nullptr;
  }

  // The number of its first number among those of all rows.
  __device__ word number() const { return entries[2] + first; }
};

// function(integral constant N, i) for each pack of N numbers of a piece: of MOST where memory is aligned, else of 1.
template <int N> struct Count { static constexpr int value = N; };
template <int MOST, class F> __device__ inline void each_pack(long long size, bool is_aligned, F function) {
  const long long packs = is_aligned ? size / MOST : 0;
  for (long long i = threadIdx.x; i < packs; i += blockDim.x) function(Count<MOST>(), i * MOST);
  for (long long i = packs * MOST + threadIdx.x; i < size; i += blockDim.x) function(Count<1>(), i);
}
