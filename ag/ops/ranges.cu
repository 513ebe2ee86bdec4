// Whether indices are in range: see ranges.py.
#include "common.cuh"
#include "indices.cuh"

extern "C" __global__ void first_out_of_range(const void* indices, int kind, long long least,
                                              long long size, bool ignores, long long ignored, long long* out,
                                              long long count) {
  const Indices all = {indices, kind, size};
  const long long threads = gridDim.x * static_cast<long long>(blockDim.x);
  for (long long i = blockIdx.x * static_cast<long long>(blockDim.x) + threadIdx.x; i < count; i += threads) {
    const long long index = all.raw(i);
    if ((index >= least && index < size) || (ignores && index == ignored)) continue;
    const long long low = -2147483648ll, high = 2147483647ll, value = min(max(index, low), high);
    atomicMax(out, (high - i) << 32 | (value & 0xffffffffll));
  }
}
