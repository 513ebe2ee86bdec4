// Random bits that depend on a key and a counter alone, the same as on the CPU: see ownt/random.py.
#pragma once
#include "strided.cuh"

constexpr int DRAWN_BITS = 24;  // of a number that fits a float

// Output number i of the stream of a key: SplitMix64.
__device__ inline unsigned long long random_bits(unsigned long long key, unsigned long long i) {
  unsigned long long z = (i + 1) * 0x9E3779B97F4A7C15ull + key;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

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
    found.at[i] = static_cast<wide>(random_bits(draws.key, draws.offset + first + i) >> (64 - DRAWN_BITS));
  }
  return found;
}
