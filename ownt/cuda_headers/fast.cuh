// What kernels of half precision need not wait for: the GPU's own functions, whose error is a few units of float32's last
// digit. float32 and double have the exact ones.
#pragma once
#include "types.cuh"

constexpr bool IS_HALF = sizeof(real) == 2;

// e^x. Of large |x| the error is |x| units: at most 10^-5 of a number that float32 can hold.
__device__ inline wide power_of_e(wide x) {
  if constexpr (IS_HALF) return __expf(x);
  else return exp(x);
}

// a / b, for b below 2^126
__device__ inline wide quotient(wide a, wide b) {
  if constexpr (IS_HALF) return __fdividef(a, b);
  else return a / b;
}
