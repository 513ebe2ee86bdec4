// Functions of the numbers at one place of several arrays, however these lie: broadcast, transposed, parts of others.
//
//   extern "C" __global__ void mul(const real* a, Axes a_strides, const real* b, Axes b_strides, wide number, real* out,
//                                  Axes out_strides, int beta, Axes sizes) {
//     strided([](wide a, wide b) { return a * b; }, out, out_strides, beta, sizes, operand(a, a_strides, number),
//             operand(b, b_strides, number));
//   }
//
// ownt/cuda_strided.py makes of shapes and strides as few axes as there can be: the last is the nearest in memory of
// `out`, and the first have size 1. What is contiguous has but one, 16 bytes of which are read at a time; a row that
// repeats, or a column, makes it two.
#pragma once
#include "vector.cuh"

// Sizes along four axes, or strides in elements.
struct Axes {
  long long at[4];

  __device__ long long count() const { return at[0] * at[1] * at[2] * at[3]; }
  __device__ bool is_line() const { return at[0] == 1 && at[1] == 1 && at[2] == 1; }
};

// The place of element number i. (Of a line i may be large; else it is below 2^32, as binders see to, and division is
// faster.)
struct Place {
  long long at[4] = {0, 0, 0, 0};
  bool on_line;

  __device__ Place(long long i, const Axes& sizes) : on_line(sizes.is_line()) {
    if (on_line) {
      at[3] = i;
      return;
    }
    const int first = sizes.at[0] > 1 ? 0 : sizes.at[1] > 1 ? 1 : 2;
    unsigned int rest = static_cast<unsigned int>(i);
#pragma unroll
    for (int axis = 3; axis > 0; axis--) {
      const unsigned int size = axis > first ? static_cast<unsigned int>(sizes.at[axis]) : 0xffffffffu;
      const unsigned int whole = axis > first ? rest / size : 0;
      at[axis] = rest - whole * size;
      rest = whole;
    }
    at[0] = rest;
  }

  __device__ long long in(const Axes& strides) const {
    const long long last = at[3] * strides.at[3];
    return on_line ? last : at[0] * strides.at[0] + at[1] * strides.at[1] + at[2] * strides.at[2] + last;
  }
};

// An array; or, where there is none, a number that stands for one.
template <class T> struct Operand {
  const T* from;
  Axes strides;
  wide number;
};

template <class T> __device__ inline Operand<T> operand(const T* from, const Axes& strides, wide number = 0) {
  return {from, strides, number};
}

template <int N> struct Numbers {
  wide at[N];
};

// N numbers along the last axis, where the array has them side by side or one for all.
template <int N, class T> __device__ inline Numbers<N> numbers(const Operand<T>& x, const Place& place, long long) {
  Numbers<N> found;
  if (x.from && (N == 1 || x.strides.at[3] == 1)) {
    const auto pack = widen(load<N>(x.from + place.in(x.strides)));
#pragma unroll
    for (int i = 0; i < N; i++) found.at[i] = static_cast<wide>(pack.at[i]);
  } else {
    const wide one = x.from ? static_cast<wide>(widen(x.from[place.in(x.strides)])) : x.number;
#pragma unroll
    for (int i = 0; i < N; i++) found.at[i] = one;
  }
  return found;
}

// Whether FULL numbers along the last axis can be read at once wherever they begin at a multiple of FULL.
template <class T> __device__ inline bool in_packs(const T* from, const Axes& strides) {
  if (!from || strides.at[3] == 0) return true;
  const bool rows = strides.at[0] % FULL == 0 && strides.at[1] % FULL == 0 && strides.at[2] % FULL == 0;
  return strides.at[3] == 1 && rows && reinterpret_cast<unsigned long long>(from) % alignof(Pack<FULL, T>) == 0;
}

template <class T> __device__ inline bool in_packs(const Operand<T>& x) { return in_packs(x.from, x.strides); }

template <int N, class F, class... X>
__device__ inline void strided_pack(F function, real* out, const Axes& out_strides, int beta, const Axes& sizes,
                                    long long first, const X&... inputs) {
  const Place place(first, sizes);
  wide values[N];
  auto each = [&](const auto&... packs) {
#pragma unroll
    for (int i = 0; i < N; i++) values[i] = function(packs.at[i]...);
  };
  each(numbers<N>(inputs, place, first)...);
  store<N>(out + place.in(out_strides), values, beta);
}

// out = function(inputs...) at each place, by all threads of all blocks along x. An input is an Operand, or has functions
// `in_packs` and `numbers` of its own, the latter given the place and, of the first number, how many come before it.
template <class F, class... X>
__device__ inline void strided(F function, real* out, const Axes& out_strides, int beta, const Axes& sizes,
                               const X&... inputs) {
  const long long thread = blockIdx.x * static_cast<long long>(blockDim.x) + threadIdx.x;
  const long long threads = gridDim.x * static_cast<long long>(blockDim.x), count = sizes.count();
  const bool rows = out_strides.at[3] == 1 && (sizes.is_line() || sizes.at[3] % FULL == 0);
  const bool full = rows && in_packs(out, out_strides) && (in_packs(inputs) && ... && true);
  const long long packs = full ? count / FULL : 0;
  for (long long i = thread; i < packs; i += threads) {
    strided_pack<FULL>(function, out, out_strides, beta, sizes, i * FULL, inputs...);
  }
  for (long long i = packs * FULL + thread; i < count; i += threads) {
    strided_pack<1>(function, out, out_strides, beta, sizes, i, inputs...);
  }
}
