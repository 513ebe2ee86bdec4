// gather: elements by their places along an axis: see gather.py. Strides in the names of which is `along` are those of
// this axis, which the others, Axes, leave out. An index out of range is nowhere.
#include "indices.cuh"
#include "strided.cuh"

extern "C" __global__ void gather(const real* x, Axes x_strides, long long along, const void* index, int kind,
                                  long long size, Axes index_strides, real* out, Axes out_strides, int beta,
                                  Axes sizes) {
  const Indices all = {index, kind, size};
  const long long threads = gridDim.x * static_cast<long long>(blockDim.x), count = sizes.count();
  for (long long i = blockIdx.x * static_cast<long long>(blockDim.x) + threadIdx.x; i < count; i += threads) {
    const Place place(i, sizes);
    const long long from = all.raw(place.in(index_strides));
    const wide value = all.has(from) ? widen(x[place.in(x_strides) + from * along]) : wide(0);
    store(out + place.in(out_strides), value, beta);
  }
}

// A thread for each line along the axis, of which no two add to the same elements: in the order of the line. Adds to what
// is there.
extern "C" __global__ void gather_vjp(const real* g, Axes g_strides, long long g_along, const void* index,
                                      int kind, long long size, Axes index_strides, long long index_along,
                                      wide* out, Axes out_strides, long long out_along, Axes lines, int length) {
  const Indices all = {index, kind, size};
  const long long threads = gridDim.x * static_cast<long long>(blockDim.x), count = lines.count();
  for (long long i = blockIdx.x * static_cast<long long>(blockDim.x) + threadIdx.x; i < count; i += threads) {
    const Place place(i, lines);
    const real* from = g + place.in(g_strides);
    const long long first = place.in(index_strides);
    wide* to = out + place.in(out_strides);
    for (int k = 0; k < length; k++) {
      const long long at = all.raw(first + k * index_along);
      if (all.has(at)) store(to + at * out_along, widen(from[k * g_along]), 1);
    }
  }
}
