// Rows of an array by up to three arrays of indices for its first axes, counted from the end if negative: see shape.py.
#include "common.cuh"
#include "indices.cuh"
#include "strided.cuh"

struct Along {  // indices for one axis
  Indices all;
  Axes strides;

  // Where on the axis; -1 for nowhere.
  __device__ long long at(const Place& place) const {
    const long long index = all.raw(place.in(strides)), from_start = index < 0 ? index + all.size : index;
    return all.has(from_start) ? from_start : -1;
  }
};

// out = the row that the indices at a place mean together, -1 if there is none. Axes that have no indices have size 0.
extern "C" __global__ void row_numbers(const void* first, int first_kind, Axes first_strides,
                                       long long first_size, const void* second, int second_kind,
                                       Axes second_strides, long long second_size, const void* third,
                                       int third_kind, Axes third_strides, long long third_size, long long* out,
                                       Axes sizes) {
  const Along axes[3] = {{{first, first_kind, first_size}, first_strides},
                         {{second, second_kind, second_size}, second_strides},
                         {{third, third_kind, third_size}, third_strides}};
  const long long threads = gridDim.x * static_cast<long long>(blockDim.x), count = sizes.count();
  for (long long i = blockIdx.x * static_cast<long long>(blockDim.x) + threadIdx.x; i < count; i += threads) {
    const Place place(i, sizes);
    long long row = 0;
    for (int axis = 0; axis < 3 && axes[axis].all.from; axis++) {
      const long long at = axes[axis].at(place);
      row = row < 0 || at < 0 ? -1 : row * axes[axis].all.size + at;
    }
    out[i] = row;
  }
}
