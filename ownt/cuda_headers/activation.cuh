// The formulas of activations, for the kernels of activations and for those that are fused with one.
#pragma once
#include "fast.cuh"

// 1 / (1 + e^-x), by powers of e^-|x|, which never overflow
__device__ inline wide logistic(wide x) {
  const wide e = power_of_e(-fabs(x));
  return quotient(x >= 0 ? wide(1) : e, 1 + e);
}

// ln(1 + e^x), likewise; NaN of NaN
__device__ inline wide log_of_1_and_exp(wide x) { return (x < 0 ? wide(0) : x) + log_of_1_and(power_of_e(-fabs(x))); }

// tanh(ln(1 + e^x)), which is e (e + 2) / (e (e + 2) + 2), e = e^x, likewise
__device__ inline wide tanh_of_softplus(wide x) {
  const wide e = power_of_e(-fabs(x)), above = x < 0 ? e * (e + 2) : 1 + 2 * e;
  return quotient(above, above + (x < 0 ? wide(2) : 2 * e * e));
}

// The density of a standard normal Z at x
__device__ inline wide normal_density(wide x) {
  return power_of_e(wide(-0.5) * x * x) * wide(0.39894228040143267794);
}

// P(Z < x); of half precision by 26.2.17 of Abramowitz and Stegun, 7.5e-8 off at most, in half the instructions
__device__ inline wide normal_below(wide x) {
  if constexpr (IS_HALF) {
    const wide t = quotient(wide(1), 1 + wide(0.2316419) * fabs(x));
    wide p = wide(1.330274429);
    p = p * t - wide(1.821255978);
    p = p * t + wide(1.781477937);
    p = p * t - wide(0.356563782);
    p = p * t + wide(0.319381530);
    const wide beyond = normal_density(x) * p * t;
    return x < 0 ? beyond : 1 - beyond;
  }
  return wide(0.5) * erfc(x * wide(-0.70710678118654752440));
}

// GELU by tanh is x times this: (1 + tanh u) / 2, the logistic function of 2u, u = sqrt(2 / pi) (x + 0.044715 x³)
__device__ inline wide share_by_tanh(wide x) {
  return logistic(wide(1.59576912160573071176) * x * (1 + wide(0.044715) * x * x));
}

__device__ inline wide slope_by_tanh(wide x) {
  const wide s = share_by_tanh(x);
  return s + x * s * (1 - s) * wide(1.59576912160573071176) * (1 + wide(0.134145) * x * x);
}
