// Rows held in registers by their groups of threads, each a warp or a whole block: ownt.cuda_rows.group_of says which.
//
//   by_columns(aligned(x), width, [&](auto columns) {
//     using C = decltype(columns);
//     const Row<C::N, C::COUNT> row(x, width);  // all that it reads is on its way before a number is waited for
//     wide sum = 0;
//     C::each(width, [&](int k, int c) {
//       const auto x = row.at(k, c);
//       for (int i = 0; i < C::N; i++) sum += x.at[i];
//     });
//   });
#pragma once
#include "reduce.cuh"
#include "vector.cuh"

constexpr int MOST_PACKS = 3;  // of 16 bytes, that a thread has of a row: with sums of all numbers, registers are full

// Whether packs are held: numbers one by one would take a register each, and of others there are too many.
template <int N, int COUNT> constexpr bool HELD = N == FULL && COUNT > 0;

// A thread's columns of a row: COUNT packs of N numbers, in unrolled loops, so that arrays of what is for each pack are
// registers; or, if COUNT is 0, as many packs as it takes.
template <int NUMBERS, int PACKS> struct Columns {
  static constexpr int N = NUMBERS, COUNT = PACKS;

  // body(k, c) for pack number k, of columns c ... c + N - 1. Of those held none is left out, though it be beyond the
  // row: without branches, instructions for all of them mix.
  template <class F> __device__ static void each(int width, F body) {
    if constexpr (COUNT) {
      const int first = (threadIdx.x / WARP * COUNT * WARP + threadIdx.x % WARP) * N;
#pragma unroll
      for (int k = 0; k < COUNT; k++) {
        if (HELD<N, COUNT> || first + k * WARP * N < width) body(k, first + k * WARP * N);
      }
    } else {
      for (int c = threadIdx.x * N; c < width; c += blockDim.x * N) body(0, c);
    }
  }
};

// What a pack of N numbers is held as: words, of which no halves are moved about.
template <int N> struct Bits { using Type = Pack<4, unsigned int>; };
template <> struct Bits<1> { using Type = Pack<1>; };

// A row of numbers, read at once and held; or, if COUNT is 0, read wherever it is asked for. Beyond it, and where there
// is none, all numbers are the same.
template <int N, int COUNT = 0> struct Row {
  using Held = typename Bits<N>::Type;
  const real* from;
  int width;
  Held otherwise, held[COUNT ? COUNT : 1];

  __device__ Row(const real* row, int columns, wide number = 0) : from(row), width(columns) {
    Pack<N> same;
#pragma unroll
    for (int i = 0; i < N; i++) same.at[i] = narrow<real>(number);
    otherwise = reinterpret_cast<const Held&>(same);
    if constexpr (HELD<N, COUNT>) Columns<N, COUNT>::each(width, [&](int k, int c) { held[k] = read(c); });
  }

  __device__ Held read(int c) const {
    Held found = otherwise;
    if (from && c < width) found = *reinterpret_cast<const Held*>(from + c);
    return found;
  }

  __device__ Pack<N, wide> at(int k, int c) const {
    Held found;
    if constexpr (HELD<N, COUNT>) {
      found = held[k];
      // Said to change, it is widened anew in each pass: kept from one to the next, that would be twice the registers.
#pragma unroll
      for (int i = 0; i < 4; i++) asm volatile("" : "+r"(found.at[i]));
    } else {
      found = read(c);
    }
    return widen(reinterpret_cast<const Pack<N>&>(found));
  }
};

// body(Columns<...>()) for rows of `width`, `packs` telling whether addresses allow for packs of FULL.
template <class F> __device__ inline void by_columns(bool packs, int width, F body) {
  const int turn = blockDim.x * FULL, turns = (width + turn - 1) / turn;
  packs = packs && width % FULL == 0;
  if (turns > MOST_PACKS) packs ? body(Columns<FULL, 0>()) : body(Columns<1, 0>());
  else if (!packs) body(Columns<1, MOST_PACKS * FULL>());
  else if (turns == 3) body(Columns<FULL, 3>());
  else if (turns == 2) body(Columns<FULL, 2>());
  else body(Columns<FULL, 1>());
}
