// group_norm of x (N, C, L), contiguous: see group_norm.py, whose kernels these are.
//
// A group of a sample is a run of numbers, L of each of its channels, and has a block.
#include "channels.cuh"

// Blocks: one for each group of each sample.
extern "C" __global__ void __launch_bounds__(256)
group_norm_forward(const real* x, const real* gain, const real* shift, real* out, int beta, wide* stats, int groups,
                   int channels, int length, wide eps) {
  const int width = channels * length, first = blockIdx.x % groups * channels;  // of a group; its first channel
  const bool packs = aligned(x, out);
  x += blockIdx.x * static_cast<long long>(width), out += blockIdx.x * static_cast<long long>(width);
  by_pack(packs, length, [&](auto size) {
    constexpr int N = size.VALUE;
    wide sum = 0, squares = 0;
    for (int at = threadIdx.x * N; at < width; at += blockDim.x * N) {
      const Pack<N> pack = load<N>(x + at);
#pragma unroll
      for (int i = 0; i < N; i++) sum += widen(pack.at[i]);
    }
    const wide mean = block_reduce(Sum(), sum) / width;
    for (int at = threadIdx.x * N; at < width; at += blockDim.x * N) {
      const Pack<N> pack = load<N>(x + at);
#pragma unroll
      for (int i = 0; i < N; i++) squares += (widen(pack.at[i]) - mean) * (widen(pack.at[i]) - mean);
    }
    const wide inverse = 1 / sqrt(block_reduce(Sum(), squares) / width + eps);
    if (threadIdx.x == 0) stats[blockIdx.x * 2ll] = mean, stats[blockIdx.x * 2ll + 1] = inverse;
    for (int at = threadIdx.x * N; at < width; at += blockDim.x * N) {
      const int channel = first + at / length;
      const wide slope = gain ? inverse * widen(gain[channel]) : inverse;
      const wide start = shift ? widen(shift[channel]) : wide(0);
      const Pack<N> pack = load<N>(x + at);
      wide values[N];
#pragma unroll
      for (int i = 0; i < N; i++) values[i] = (widen(pack.at[i]) - mean) * slope + start;
      store<N>(out + at, values, beta);
    }
  });
}

// Slopes of each channel of each sample: sums (N, C). Blocks: one for each.
extern "C" __global__ void __launch_bounds__(256)
group_norm_slopes(const real* g, const real* x, const wide* stats, wide* sums, int channels, int length) {
  const wide *of_group = stats + blockIdx.x / channels * 2ll, mean = of_group[0], inverse = of_group[1];
  const bool packs = aligned(g, x);
  g += blockIdx.x * static_cast<long long>(length), x += blockIdx.x * static_cast<long long>(length);
  Slopes found = {};
  by_pack(packs, length, [&](auto size) {
    constexpr int N = size.VALUE;
    for (int at = threadIdx.x * N; at < length; at += blockDim.x * N) {
      const Pack<N> gs = load<N>(g + at), xs = load<N>(x + at);
#pragma unroll
      for (int i = 0; i < N; i++) {
        found.add({widen(gs.at[i]), widen(gs.at[i]) * (widen(xs.at[i]) - mean) * inverse});
      }
    }
  });
  found.plain = block_reduce(Sum(), found.plain);
  found.along = block_reduce(Sum(), found.along);
  if (threadIdx.x == 0) reinterpret_cast<Slopes*>(sums)[blockIdx.x] = found;
}

// dgain and dshift (C,), either or both
extern "C" __global__ void __launch_bounds__(256)
group_norm_totals(const wide* sums, real* dgain, int gain_beta, real* dshift, int shift_beta, int count, int width) {
  const Column column(count, width);
  Slopes all;
  if (!column.sum(sums, all)) return;
  if (dgain) store(dgain + column.channel, all.along, gain_beta);
  if (dshift) store(dshift + column.channel, all.plain, shift_beta);
}

// dx = inverse (s - mean(s) - h mean(s h)) with s = g gain. Blocks: one for each group of each sample.
extern "C" __global__ void __launch_bounds__(256)
group_norm_backward(const real* g, const real* x, const wide* stats, const wide* sums, const real* gain, real* dx,
                    int beta, int groups, int channels, int length) {
  const int width = channels * length, first = blockIdx.x % groups * channels;
  const wide mean = stats[blockIdx.x * 2ll], inverse = stats[blockIdx.x * 2ll + 1];
  const bool packs = aligned(g, x, dx);
  const long long start = blockIdx.x * static_cast<long long>(width);
  const Slopes* of_channels = reinterpret_cast<const Slopes*>(sums) + blockIdx.x * static_cast<long long>(channels);
  Slopes all = {};
  for (int c = threadIdx.x; c < channels; c += blockDim.x) {
    const wide scale = gain ? widen(gain[first + c]) : wide(1);
    all.add({scale * of_channels[c].plain, scale * of_channels[c].along});
  }
  const wide plain = block_reduce(Sum(), all.plain) / width, along = block_reduce(Sum(), all.along) / width;
  by_pack(packs, length, [&](auto size) {
    constexpr int N = size.VALUE;
    for (int at = threadIdx.x * N; at < width; at += blockDim.x * N) {
      const wide scale = gain ? widen(gain[first + at / length]) : wide(1);
      const Pack<N> gs = load<N>(g + start + at), xs = load<N>(x + start + at);
      wide values[N];
#pragma unroll
      for (int i = 0; i < N; i++) {
        const wide h = (widen(xs.at[i]) - mean) * inverse;
        values[i] = inverse * (widen(gs.at[i]) * scale - plain - h * along);
      }
      store<N>(dx + start + at, values, beta);
    }
  });
}
