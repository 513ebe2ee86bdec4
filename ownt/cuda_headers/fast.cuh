// What kernels of half precision need not wait for: the GPU's own functions, whose error is a few units of float32's
// last digit. float32 and double have the exact ones.
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

// e^x - 1; of half precision 2 * 10^-6 of it off at most: near 0, where a difference would lose digits, by its series
__device__ inline wide power_of_e_less_1(wide x) {
  if constexpr (IS_HALF) {
    const wide series = x * (1 + x * (wide(0.5) + x * (wide(0.16666667) + x * wide(0.041666667))));
    return fabs(x) < wide(0.125) ? series : power_of_e(x) - 1;
  } else return expm1(x);
}

// ln(1 + x) of x from 0 to 1; of half precision by the series of twice artanh(x / (2 + x)), 2 * 10^-5 of it off at most
__device__ inline wide log_of_1_and(wide x) {
  if constexpr (IS_HALF) {
    const wide s = quotient(x, 2 + x), z = s * s;
    return 2 * s * (1 + z * (wide(0.33333333) + z * (wide(0.2) + z * wide(0.14285714))));
  } else return log1p(x);
}
