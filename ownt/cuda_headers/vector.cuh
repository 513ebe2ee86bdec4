// Numbers that are read and written together, 16 bytes by one instruction.
#pragma once
#include "types.cuh"

constexpr int FULL = 16 / sizeof(real);  // numbers in 16 bytes

// N numbers side by side: FULL of them where memory is aligned to 16 bytes, else 1.
template <int N, class T = real> struct __align__(N * sizeof(T) < 16 ? N * sizeof(T) : 16) Pack {
  T at[N];
};

template <int N, class T> __device__ inline Pack<N, T> load(const T* from) {
  return *reinterpret_cast<const Pack<N, T>*>(from);
}

template <int N, class T> __device__ inline void store(T* to, const Pack<N, T>& values) {
  *reinterpret_cast<Pack<N, T>*>(to) = values;
}

// All numbers of a pack.
template <int N, class T> __device__ inline Pack<N, decltype(widen(T()))> widen(const Pack<N, T>& pack) {
  Pack<N, decltype(widen(T()))> wider;
#pragma unroll
  for (int i = 0; i < N; i++) wider.at[i] = widen(pack.at[i]);
  return wider;
}

// A bfloat16 is the upper half of a float: two are made of 32 bits by an instruction each.
template <int N> __device__ inline Pack<N, float> widen(const Pack<N, __nv_bfloat16>& pack) {
  Pack<N, float> wider;
#pragma unroll
  for (int i = 0; i < N; i++) {
    if constexpr (N == 1) {
      wider.at[i] = widen(pack.at[i]);
    } else {
      const unsigned int pair = reinterpret_cast<const unsigned int*>(&pack)[i / 2];
      wider.at[i] = __uint_as_float(i % 2 ? pair & 0xffff0000u : pair << 16);
    }
  }
  return wider;
}

// Write N numbers, or add them to what is there if beta is 1.
template <int N> __device__ inline void store(real* to, const wide (&values)[N], int beta) {
  Pack<N> pack;
  if (beta) {
    const auto old = widen(load<N>(to));
#pragma unroll
    for (int i = 0; i < N; i++) pack.at[i] = narrow<real>(old.at[i] + values[i]);
  } else {
#pragma unroll
    for (int i = 0; i < N; i++) pack.at[i] = narrow<real>(values[i]);
  }
  store<N>(to, pack);
}

// Whether Pack<FULL> may be read at all of these addresses; no address is as good as any.
template <class... P> __device__ inline bool aligned(const P*... pointers) {
  return ((reinterpret_cast<unsigned long long>(pointers) | ... | 0ull) & 15) == 0;
}

template <int N> struct Size {
  static constexpr int VALUE = N;
};

// body(Size<N>()) with as many numbers as may be read together, of rows of `width`, FULL or 1
template <class F> __device__ inline void by_pack(bool aligned, int width, F body) {
  aligned && width % FULL == 0 ? body(Size<FULL>()) : body(Size<1>());
}
