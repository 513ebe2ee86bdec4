// The element type `real`, which a file is compiled for; `wide`, in which it computes; and how numbers go between them.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

template <class T> struct Wide { using type = float; };
template <> struct Wide<double> { using type = double; };
using wide = Wide<real>::type;

constexpr wide LOWEST = sizeof(wide) == 8 ? -1.7976931348623157e308 : -3.4028234663852886e38;  // that is finite

__device__ inline wide infinity() {
  const wide zero = 0;
  return 1 / zero;
}

__device__ inline wide sign_of(wide x) { return x > 0 ? 1 : x < 0 ? -1 : 0; }  // 0 of NaN

__device__ inline float widen(float x) { return x; }
__device__ inline double widen(double x) { return x; }
__device__ inline float widen(__half x) { return __half2float(x); }
__device__ inline float widen(__nv_bfloat16 x) { return __bfloat162float(x); }

// A number as T, rounded to the nearest.
template <class T> __device__ inline T narrow(wide x) { return static_cast<T>(x); }
template <> __device__ inline __half narrow<__half>(wide x) { return __float2half_rn(static_cast<float>(x)); }
template <> __device__ inline __nv_bfloat16 narrow<__nv_bfloat16>(wide x) {
  return __float2bfloat16_rn(static_cast<float>(x));
}

// Write, or add to what is there if beta is 1. (What is not initialised is not read: 0 times it may be NaN.)
template <class T> __device__ inline void store(T* at, wide value, int beta) {
  *at = narrow<T>(beta ? widen(*at) + value : value);
}

// `T* name`: shared memory of as many bytes as the launch says, aligned to 16.
#ifndef DYNAMIC_SHARED
#define DYNAMIC_SHARED(T, name)                              \
  extern __shared__ __align__(16) unsigned char name##_raw[]; \
  T* name = reinterpret_cast<T*>(name##_raw)
#endif
