// Random bits that depend on a key and a number alone: those of ownt/random.py, where their source is named.
#pragma once

// Output number `number` of the stream of a key.
__device__ inline unsigned long long random_bits(unsigned long long key, unsigned long long number) {
  unsigned long long z = (number + 1) * 0x9E3779B97F4A7C15ull + key;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}
