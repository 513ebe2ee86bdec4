// Random numbers as operands of `strided`.
#pragma once
#include "random.cuh"
#include "strided.cuh"

constexpr int DRAWN_BITS = 24;

// An operand of `strided`: a whole number below 2^DRAWN_BITS for each place. Each output of the stream gives two: one of
// its highest bits, the next of those below its middle.
struct Draws {
  unsigned long long key, offset;

  __device__ unsigned int number(unsigned long long drawn, bool next) const {
    const unsigned int half = next ? drawn : drawn >> 32;
    return half >> (32 - DRAWN_BITS);
  }
};

template <int N> struct Drawn {
  unsigned int at[N];
};

// From `offset` on; or so far from the place that `base` (key, offset) says, where it is there: see random.anchored.
__device__ inline Draws draws(const unsigned long long* base, unsigned long long key, unsigned long long offset) {
  return base ? Draws{base[0], base[1] + offset} : Draws{key, offset};
}

__device__ inline bool in_packs(const Draws&) { return true; }

template <int N> __device__ inline Drawn<N> numbers(const Draws& draws, const Place&, long long first) {
  Drawn<N> found;
  const unsigned long long output = draws.offset + first / 2;
  if (N == 1) found.at[0] = draws.number(random_bits(draws.key, output), first % 2);
#pragma unroll
  for (int i = 0; i + 1 < N; i += 2) {  // packs begin at even numbers
    const unsigned long long drawn = random_bits(draws.key, output + i / 2);
    found.at[i] = draws.number(drawn, false);
    found.at[i + 1] = draws.number(drawn, true);
  }
  return found;
}
