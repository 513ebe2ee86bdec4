// Loops of which a thread asks for several packs before it needs the first: memory is far away, and threads are few.
#pragma once
#include "vector.cuh"

constexpr int AHEAD = sizeof(real) == 8 ? 1 : 4;  // packs of all inputs at once: more doubles do not fit registers

// Where COUNT packs of N numbers begin, `step` apart.
template <int N, int COUNT> struct Places {
  static constexpr int NUMBERS = N, PACKS = COUNT;
  int first, step;
  __device__ int operator[](int k) const { return first + k * step; }
};
template <int N, int COUNT, class T> struct Packs {
  Pack<N, T> at[COUNT];
};

// Rows of a matrix as something to load from: `rows + i` is where row i is.
template <class T> struct Rows {
  const T* from;
  long long stride;
  __device__ const T* operator+(int row) const { return from + row * stride; }
};

template <class T> __device__ inline Rows<T> rows_of(const T* from, long long stride) { return {from, stride}; }

template <class T> __device__ T number_at(const T*);
template <class X> using NumberAt = decltype(number_at(X() + 0));

template <int N, int COUNT, class X>
__device__ inline Packs<N, COUNT, NumberAt<X>> load_packs(const X& from, const Places<N, COUNT>& places) {
  Packs<N, COUNT, NumberAt<X>> packs;
#pragma unroll
  for (int k = 0; k < COUNT; k++) packs.at[k] = load<N>(from + places[k]);
  return packs;
}

// each(places, packs of each input...) for the packs at i, i + step ... before `end`, in this order: COUNT at a time,
// then half as many. An input is a pointer or Rows.
template <int N, int COUNT, class F, class... X>
__device__ inline void over_packs(const F& each, int i, int end, int step, const X&... inputs) {
#pragma unroll 1
  for (; end - i > (COUNT - 1) * step; i += COUNT * step) {
    const Places<N, COUNT> places = {i, step};
    each(places, load_packs(inputs, places)...);
  }
  if constexpr (COUNT > 1) over_packs<N, COUNT / 2>(each, i, end, step, inputs...);
}

template <int N, class F, class... X>
__device__ inline void over_packs(const F& each, int i, int end, int step, const X&... inputs) {
  over_packs<N, (AHEAD + sizeof...(X) - 1) / sizeof...(X)>(each, i, end, step, inputs...);
}
