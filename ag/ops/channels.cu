// Sums over all but the channels: the gradient of a convolution's bias.
#include "channels.cuh"

struct Total {
  wide sum;

  __device__ void add(const Total& other) { sum += other.sum; }
};

// Of the parts of each channel: parts (gridDim.y, width).
extern "C" __global__ void __launch_bounds__(256)
channel_sums(const real* x, wide* parts, int rows, int width, int pixels) {
  Total* all = reinterpret_cast<Total*>(parts) + blockIdx.y * static_cast<long long>(width);
  by_channel({rows, width, pixels}, aligned(x), [&](auto walk) {
    constexpr int N = walk.SIZE;
    Total found[N] = {};
    walk.each([&](long long at) {
      const Pack<N> pack = load<N>(x + at);
#pragma unroll
      for (int i = 0; i < N; i++) found[i].sum += widen(pack.at[i]);
    });
    if (!collect(walk, found)) return;
#pragma unroll
    for (int i = 0; i < walk.CHANNELS; i++) all[walk.channel + i] = found[i];
  });
}

extern "C" __global__ void __launch_bounds__(256)
channel_sums_of_parts(const wide* parts, real* out, int beta, int count, int width) {
  const Column column(count, width);
  Total all;
  if (column.sum(parts, all)) store(out + column.channel, all.sum, beta);
}
