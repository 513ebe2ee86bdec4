// Random numbers as operands of `strided`.
#pragma once
#include "random.cuh"
#include "strided.cuh"

constexpr int DRAWN_BITS = 24;  // of a number that fits a float

// An operand of `strided`: a whole number below 2^DRAWN_BITS for each place, of one output each.
struct Draws {
  unsigned long long key, offset;
};

// From `offset` on; or so far from the place that `base` (key, offset) says, where it is there: see random.anchored.
__device__ inline Draws draws(const unsigned long long* base, unsigned long long key, unsigned long long offset) {
  return base ? Draws{base[0], base[1] + offset} : Draws{key, offset};
}

__device__ inline bool in_packs(const Draws&) { return true; }

template <int N> __device__ inline Numbers<N> numbers(const Draws& draws, const Place&, long long first) {
  Numbers<N> found;
#pragma unroll
  for (int i = 0; i < N; i++) {
    const unsigned int drawn = random_bits(draws.key, draws.offset + first + i) >> (64 - DRAWN_BITS);
    found.at[i] = static_cast<wide>(drawn);  // of 32 bits: of 64 it would take a GPU four times as long
  }
  return found;
}
