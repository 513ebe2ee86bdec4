// The largest and the smallest along axes, and where they are: see extremes.py. The smallest is the largest by sign -1.
#include "along.cuh"

extern "C" __global__ void __launch_bounds__(256)
extreme(const real* x, Axes x_kept, Axes x_along, wide sign, Axes kept, Axes along, real* out, int beta) {
  const Group group = {kept, along};
  if (group.idle()) return;
  const Line<real> line = group.line(x, x_kept, x_along);
  wide largest = -infinity();
  group.each([&](long long, const Place& place) { largest = Max()(sign * line.at(place), largest); });
  largest = group_reduce(Max(), largest);
  if (threadIdx.x == 0) store(out + group.to(), sign * largest, beta);
}

// Places are counted along the axes; `places`, if there are any, says which to choose from: (candidates, results).
extern "C" __global__ void __launch_bounds__(256)
extreme_place(const real* x, Axes x_kept, Axes x_along, wide sign, const long long* places, int candidates, Axes kept,
              Axes along, long long* out) {
  const Group group = {kept, along};
  if (group.idle()) return;
  const Line<real> line = group.line(x, x_kept, x_along);
  wide largest = -infinity();
  long long at = along.count();
  auto consider = [&](long long i) {
    const wide value = sign * line.at(Place(i, along));
    const bool first = at == along.count();
    if (first || value > largest || (value != value && largest == largest)) largest = value, at = i;
  };
  if (places) {
    for (int k = threadIdx.x; k < candidates; k += blockDim.x) consider(places[k * kept.count() + group.result()]);
  } else {
    group.each([&](long long i, const Place&) { consider(i); });
  }
  const wide top = group_reduce(Max(), largest);
  at = group_reduce(Min(), largest == top || (largest != largest && top != top) ? at : along.count());
  if (threadIdx.x == 0) out[group.to()] = at;
}

// How many are the extreme y.
extern "C" __global__ void __launch_bounds__(256)
count_extremes(const real* x, Axes x_kept, Axes x_along, const real* y, Axes y_kept, Axes y_along, Axes kept,
               Axes along, wide* out) {
  const Group group = {kept, along};
  if (group.idle()) return;
  group.sum([](wide x, wide y) { return x == y ? wide(1) : wide(0); }, out, group.line(x, x_kept, x_along),
            group.line(y, y_kept, y_along));
}

// NaN where there is none that equals the extreme, which is NaN.
extern "C" __global__ void share_out(const real* g, Axes g_strides, const real* x, Axes x_strides, const real* y,
                                     Axes y_strides, const wide* count, Axes count_strides, real* out,
                                     Axes out_strides, int beta, Axes sizes) {
  strided([](wide g, wide x, wide y, wide count) { return (x == y ? wide(1) : wide(0)) * (g / count); }, out,
          out_strides, beta, sizes, operand(g, g_strides), operand(x, x_strides), operand(y, y_strides),
          operand(count, count_strides));
}
