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

template <int N> __device__ inline void store(real* to, const Pack<N>& values) {
  *reinterpret_cast<Pack<N>*>(to) = values;
}

// Write N numbers, or add them to what is there if beta is 1.
template <int N> __device__ inline void store(real* to, const wide (&values)[N], int beta) {
  Pack<N> pack;
  if (beta) {
    pack = load<N>(to);
#pragma unroll
    for (int i = 0; i < N; i++) pack.at[i] = narrow<real>(widen(pack.at[i]) + values[i]);
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
