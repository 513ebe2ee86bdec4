// Indices: int64 or int32, and never trusted. What is out of range is reported by check_range (ag/ops/embedding.py) when
// the host next waits; until then kernels read and write nothing for it.
#pragma once

struct Indices {
  const void* from;
  bool in_64_bits;
  long long size;  // they are to be from 0 to size - 1

  __device__ long long raw(long long i) const {
    return in_64_bits ? static_cast<const long long*>(from)[i] : static_cast<const int*>(from)[i];
  }
  __device__ bool has(long long index) const { return index >= 0 && index < size; }
};
