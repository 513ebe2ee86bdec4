// The formulas of activations, for the kernels of activations and for those that are fused with one.
#pragma once
#include "fast.cuh"

// 1 / (1 + e^-x), by powers of e^-|x|, which never overflow
__device__ inline wide logistic(wide x) {
  const wide e = power_of_e(-fabs(x));
  return quotient(x >= 0 ? wide(1) : e, 1 + e);
}

// ln(1 + e^x), likewise; NaN of NaN
__device__ inline wide log_of_1_and_exp(wide x) { return (x < 0 ? wide(0) : x) + log1p(exp(-fabs(x))); }

// P(Z < x) of a standard normal Z, and its density
__device__ inline wide normal_below(wide x) { return wide(0.5) * erfc(x * wide(-0.70710678118654752440)); }
__device__ inline wide normal_density(wide x) { return exp(wide(-0.5) * x * x) * wide(0.39894228040143267794); }

// GELU by tanh is x times this: (1 + tanh u) / 2, the logistic function of 2u, u = sqrt(2 / pi) (x + 0.044715 x³)
__device__ inline wide share_by_tanh(wide x) {
  return logistic(wide(1.59576912160573071176) * x * (1 + wide(0.044715) * x * x));
}

__device__ inline wide slope_by_tanh(wide x) {
  const wide s = share_by_tanh(x);
  return s + x * s * (1 - s) * wide(1.59576912160573071176) * (1 + wide(0.134145) * x * x);
}
