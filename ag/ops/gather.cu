// gather: elements by their places along an axis: see gather.py. Strides in the names of which is `along` are those of
// this axis, which the others, Axes, leave out. An index out of range is nowhere.
#include "along.cuh"
#include "indices.cuh"

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

// Which of two numbers comes first: the larger, or else the smaller; NaN counts as larger than any.
struct First {
  bool largest;

  __device__ bool before(wide a, wide b) const {
    return largest ? a > b || (a != a && b == b) : a < b || (a == a && b != b);
  }
  __device__ wide operator()(wide a, wide b) const { return before(b, a) ? b : a; }
};

// The places of the k numbers that come first along an axis, equals in their order: each round a group looks for what
// comes next after what it found, so that it keeps no list. Nothing is written between rounds that others read.
extern "C" __global__ void __launch_bounds__(256)
top(const real* x, Axes x_kept, Axes x_along, bool largest, int k, long long* out, Axes out_kept, Axes out_along,
    Axes kept, Axes along) {
  const Group group = {kept, along};
  if (group.idle()) return;
  const Line<real> line = group.line(x, x_kept, x_along);
  const First first = {largest};
  const long long none = along.count();
  long long* to = out + Place(group.result(), kept).in(out_kept);
  wide last = 0;
  long long last_at = -1;
  for (int round = 0; round < k; round++) {
    wide best = 0;
    long long at = none;
    group.each([&](long long i, const Place& place) {
      const wide value = line.at(place);
      const bool found = last_at >= 0 && !first.before(last, value) && (first.before(value, last) || i <= last_at);
      if (!found && (at == none || first.before(value, best))) best = value, at = i;
    });
    const wide worst = largest ? -infinity() : wide(nanf(""));
    last = group_reduce(first, at == none ? worst : best);
    const bool same = at != none && !first.before(last, best) && !first.before(best, last);
    last_at = group_reduce(Min(), same ? at : none);
    if (threadIdx.x == 0) to[round * out_along.at[3]] = last_at;
  }
}
