// Indices: of any integers, and never trusted. What is out of range is reported by check_range (ag/ops/ranges.py) when
// the host next waits; until then kernels read and write nothing for it.
#pragma once

struct Indices {
  const void* from;
  int kind;  // the number of their dtype: see ownt/cuda_indices.py
  long long size;  // they are to be from 0 to size - 1

  __device__ long long raw(long long i) const {
    if (kind == 0) return as<long long>(i);
    if (kind == 1) return as<int>(i);
    if (kind == 2) return as<unsigned int>(i);
    if (kind == 3) return as<unsigned short>(i);
    if (kind == 4) return as<short>(i);
    return kind == 5 ? as<unsigned char>(i) : as<signed char>(i);
  }
  template <class T> __device__ T as(long long i) const { return static_cast<const T*>(from)[i]; }
  __device__ bool has(long long index) const { return index >= 0 && index < size; }
};
