// Results, each of all that lies along some axes of arrays, by a group of threads: a warp, several to a block, or a block.
// Where results are few they are made in parts, one for each blockIdx.y. The other half is ag/along_cuda.py.
#pragma once
#include "reduce.cuh"
#include "strided.cuh"

// An array as a group sees it: its numbers for one result; or a number in its place.
template <class T> struct Line {
  const T* from;
  Axes strides;
  wide number;

  __device__ wide at(const Place& place) const { return from ? widen(from[place.in(strides)]) : number; }
};

struct Group {
  Axes kept, along;  // sizes: of the results, and of what each is made of

  __device__ long long result() const { return blockIdx.x * static_cast<long long>(blockDim.y) + threadIdx.y; }
  __device__ bool idle() const { return result() >= kept.count(); }  // all of its threads, or none
  __device__ long long first() const { return along.count() * blockIdx.y / gridDim.y; }
  __device__ long long end() const { return along.count() * (blockIdx.y + 1ll) / gridDim.y; }
  __device__ long long to() const { return blockIdx.y * kept.count() + result(); }

  template <class T>
  __device__ Line<T> line(const T* x, const Axes& x_kept, const Axes& x_along, wide number = 0) const {
    return {x ? x + Place(result(), kept).in(x_kept) : nullptr, x_along, number};
  }

  // body(i, place) for each of this thread's elements, in ascending order
  template <class F> __device__ void each(F body) const {
    for (long long i = first() + threadIdx.x, last = end(); i < last; i += blockDim.x) body(i, Place(i, along));
  }

  // out (parts, results) = the sum of function(lines...)
  template <class F, class... L> __device__ void sum(F function, wide* out, const L&... lines) const {
    wide sum = 0;
    each([&](long long, const Place& place) { sum += function(lines.at(place)...); });
    sum = group_sum(sum);
    if (threadIdx.x == 0) out[to()] = sum;
  }
};
