// Indices: of any integers, and never trusted. What is out of range is reported by check_range (ag/ops/ranges.py) when
// the host next waits; until then kernels read and write nothing for it.
#pragma once

struct Indices {
  const void* from;
  int kind;  // the number of their dtype: see ownt/cuda_indices.py
  long long size;  // they are to be from 0 to size - 1

  // body(pointer to them): for several that are to be read at once
  template <class F> __device__ void typed(F body) const {
    if (kind == 0) body(static_cast<const long long*>(from));
    else if (kind == 1) body(static_cast<const int*>(from));
    else if (kind == 2) body(static_cast<const unsigned int*>(from));
    else if (kind == 3) body(static_cast<const unsigned short*>(from));
    else if (kind == 4) body(static_cast<const short*>(from));
    else if (kind == 5) body(static_cast<const unsigned char*>(from));
    else body(static_cast<const signed char*>(from));
  }
  __device__ long long raw(long long i) const {
    long long found;
    typed([&](const auto* all) { found = all[i]; });
    return found;
  }
  __device__ bool has(long long index) const { return index >= 0 && index < size; }
};
