// The words of CUDA C++, and its functions, as the executor has them. Barriers are numbered before it is compiled.
#pragma once

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __constant__
#undef __forceinline__
#undef __launch_bounds__
#undef __align__
#define __global__
#define __device__
#define __host__
#define __shared__ EXECUTOR_SHARED
#define __constant__ static const
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define DYNAMIC_SHARED(T, name) T* name = reinterpret_cast<T*>(executor::state.dynamic)

#define threadIdx (executor::state.current->index)
#define blockIdx (executor::state.block_index)
#define blockDim (executor::state.block)
#define gridDim (executor::state.grid)

#define NUMBERED_SYNCTHREADS(site) executor::barrier(executor::BLOCK, site)
#define NUMBERED_SYNCWARP(site) executor::barrier(executor::WARP, site)
#define __threadfence() ((void)0)

template <class T> T __shfl_sync(unsigned, T value, int source, int width = 32) {
  return executor::shuffle(value, source, width);
}
template <class T> T __shfl_xor_sync(unsigned, T value, int mask, int width = 32) {
  return executor::shuffle_xor(value, mask, width);
}
template <class T> T __shfl_up_sync(unsigned, T value, unsigned by, int width = 32) {
  return executor::shuffle_up(value, by, width);
}
template <class T> T __shfl_down_sync(unsigned, T value, unsigned by, int width = 32) {
  return executor::shuffle_down(value, by, width);
}
inline unsigned __ballot_sync(unsigned, bool vote) { return executor::ballot(vote); }
inline bool __any_sync(unsigned, bool vote) { return executor::ballot(vote) != 0; }
inline bool __all_sync(unsigned, bool vote) { return executor::ballot(!vote) == 0; }

template <class T> T __ldg(const T* from) { return *from; }
template <class T> T __ldcs(const T* from) { return *from; }
template <class T> T __ldcg(const T* from) { return *from; }
template <class T> void __stcs(T* to, T value) { *to = value; }
template <class T> T atomicAdd(T* at, std::type_identity_t<T> value) { return executor::atomic_add<T>(at, value); }
template <class T> T atomicMax(T* at, std::type_identity_t<T> value) { return executor::atomic_max<T>(at, value); }

inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((uint64_t(a) * b) >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)(((unsigned __int128)a * b) >> 64);
}
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __clz(int bits) { return bits ? __builtin_clz(bits) : 32; }
inline unsigned __float_as_uint(float x) {
  unsigned bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}
inline float __uint_as_float(unsigned bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float rsqrt(float x) { return 1 / sqrtf(x); }
inline double rsqrt(double x) { return 1 / sqrt(x); }
inline float rsqrtf(float x) { return 1 / sqrtf(x); }
using std::max;
using std::min;
