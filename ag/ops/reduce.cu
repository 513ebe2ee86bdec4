// Products along axes, and running sums: see reduce.py. (sum and mean are made of kernels.cu.)
#include "along.cuh"

struct Product {
  template <class T> __device__ T operator()(T a, T b) const { return a * b; }
};

extern "C" __global__ void __launch_bounds__(256)
product(const real* x, Axes x_kept, Axes x_along, Axes kept, Axes along, real* out, wide* parts, int beta) {
  const Group group = {kept, along};
  if (group.idle()) return;
  const Line<real> line = group.line(x, x_kept, x_along);
  wide all = 1;
  group.each([&](long long, const Place& place) { all *= line.at(place); });
  all = group_reduce(Product(), all);
  if (threadIdx.x) return;
  if (out) store(out + group.to(), all, beta);
  else parts[group.to()] = all;
}

// Over the lanes of a warp: each has its own number joined with those of the lanes before it.
template <class F> __device__ inline wide scan(F join, wide value) {
#pragma unroll
  for (int apart = 1; apart < WARP; apart *= 2) {
    const wide before = __shfl_up_sync(ALL_LANES, value, apart);
    if (threadIdx.x >= apart) value = join(before, value);
  }
  return value;
}

// A warp for each line, 32 numbers of it at a time.
extern "C" __global__ void __launch_bounds__(256)
running_sum(const real* x, Axes x_kept, Axes x_along, real* out, Axes out_kept, Axes out_along, int beta, Axes kept,
            Axes along) {
  const Group group = {kept, along};
  if (group.idle()) return;
  const Line<real> line = group.line(x, x_kept, x_along);
  real* to = out + Place(group.result(), kept).in(out_kept);
  wide before = 0;
  for (long long first = 0, count = along.count(); first < count; first += WARP) {
    const long long i = first + threadIdx.x;
    const Place place(i < count ? i : 0, along);
    const wide sum = before + scan(Sum(), i < count ? line.at(place) : 0);
    if (i < count) store(to + place.in(out_along), sum, beta);
    before = __shfl_sync(ALL_LANES, sum, WARP - 1);
  }
}

// out = g times the product of the other elements: of those before, which is kept in `work` (results, elements), and of
// those after. A warp for each result.
extern "C" __global__ void __launch_bounds__(256)
product_vjp(const real* g, Axes g_kept, Axes g_along, const real* x, Axes x_kept, Axes x_along, real* out,
            Axes out_kept, Axes out_along, wide* work, int beta, Axes kept, Axes along) {
  const Group group = {kept, along};
  if (group.idle()) return;
  const long long count = along.count();
  const Line<real> line = group.line(x, x_kept, x_along);
  const wide slope = widen(g[Place(group.result(), kept).in(g_kept)]);
  real* to = out + Place(group.result(), kept).in(out_kept);
  work += group.result() * count;
  for (int backwards = 0; backwards < 2; backwards++) {
    wide before = 1;
    for (long long first = 0; first < count; first += WARP) {
      const long long i = first + threadIdx.x, at = backwards ? count - 1 - i : i;
      const Place place(i < count ? at : 0, along);
      const wide all = scan(Product(), i < count ? line.at(place) : 1);
      const wide others = __shfl_up_sync(ALL_LANES, all, 1), own = threadIdx.x ? before * others : before;
      if (i < count && backwards) store(to + place.in(out_along), slope * work[at] * own, beta);
      else if (i < count) work[at] = own;
      before *= __shfl_sync(ALL_LANES, all, WARP - 1);
    }
    __syncwarp();  // barrier kept: what a lane kept another reads, and shuffles order no memory
  }
}
