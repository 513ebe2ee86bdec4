// batch_norm: see batch_norm.py, whose kernels these are.
//
// Sums over a batch are of parts, each a block's, which are then added up in an order that depends on shapes alone.
#include "channels.cuh"

// How many numbers there were, their mean, and the sum of the squares of their distances from it.
struct Moments {
  wide count, mean, square;

  __device__ void add(const Moments& other) {
    if (other.count == 0) return;
    const wide total = count + other.count, apart = other.mean - mean, share = other.count / total;
    mean += apart * share;
    square += other.square + apart * apart * count * share;
    count = total;
  }
};

// Moments of the parts of each channel: parts (gridDim.y, width).
extern "C" __global__ void __launch_bounds__(256)
batch_norm_measure(const real* x, wide* parts, int rows, int width, int pixels) {
  Moments* all = reinterpret_cast<Moments*>(parts) + blockIdx.y * static_cast<long long>(width);
  by_channel({rows, width, pixels}, aligned(x), [&](auto walk) {
    constexpr int N = walk.SIZE;
    wide count = 0;
    Moments found[N] = {};
    walk.each([&](long long at) {
      const Pack<N> pack = load<N>(x + at);
      const wide share = 1 / ++count;
#pragma unroll
      for (int i = 0; i < N; i++) {
        const wide value = widen(pack.at[i]), apart = value - found[i].mean;
        found[i].mean += apart * share;
        found[i].square += apart * (value - found[i].mean);
      }
    });
#pragma unroll
    for (int i = 0; i < N; i++) found[i].count = count;
    if (!collect(walk, found)) return;
#pragma unroll
    for (int i = 0; i < walk.CHANNELS; i++) all[walk.channel + i] = found[i];
  });
}

// stats (2, width) = mean and 1 / deviation; and the variance
extern "C" __global__ void __launch_bounds__(256)
batch_norm_statistics(const wide* parts, wide* stats, wide* variance, int count, int width, wide eps) {
  const Column column(count, width);
  Moments all;
  if (!column.sum(parts, all)) return;
  stats[column.channel] = all.mean;
  stats[width + column.channel] = 1 / sqrt(all.square / all.count + eps);
  variance[column.channel] = all.square / all.count;
}

// The same of running statistics.
extern "C" __global__ void batch_norm_running(const real* mean, const real* variance, wide* stats, int width,
                                              wide eps) {
  const int channel = blockIdx.x * blockDim.x + threadIdx.x;
  if (channel >= width) return;
  stats[channel] = widen(mean[channel]);
  stats[width + channel] = 1 / sqrt(widen(variance[channel]) + eps);
}

// Both move towards what a batch has: its mean, and its variance by `factor`.
extern "C" __global__ void batch_norm_track(const wide* mean, const wide* variance, real* running_mean,
                                            real* running_variance, int width, wide momentum, wide factor) {
  const int channel = blockIdx.x * blockDim.x + threadIdx.x;
  if (channel >= width) return;
  const wide before = widen(running_mean[channel]), spread = widen(running_variance[channel]);
  running_mean[channel] = narrow<real>(before + momentum * (mean[channel] - before));
  running_variance[channel] = narrow<real>(spread + momentum * (factor * variance[channel] - spread));
}

// What is done to a channel; gain, shift and residual may be null.
struct Channel {
  wide mean, inverse, slope, start;

  __device__ wide normalized(wide x) const { return (x - mean) * inverse; }
  __device__ wide before_relu(wide x) const { return (x - mean) * slope + start; }
};

struct Norm {
  const wide* stats;
  const real *gain, *shift, *residual;
  bool relu;
  int width;

  __device__ Channel of(int channel) const {
    const wide inverse = stats[width + channel];
    return {stats[channel], inverse, gain ? inverse * widen(gain[channel]) : inverse,
            shift ? widen(shift[channel]) : wide(0)};
  }

  template <class W> __device__ void channels_of(const W& walk, Channel (&found)[W::CHANNELS]) const {
#pragma unroll
    for (int i = 0; i < W::CHANNELS; i++) found[i] = walk.inside() ? of(walk.channel + i) : Channel{};
  }

  // N numbers of g, 0 where the ReLU let nothing through
  template <int N, int CHANNELS>
  __device__ void masked(wide (&slopes)[N], const real* g, const Pack<N>& x, const Channel (&channels)[CHANNELS],
                         long long at) const {
    const Pack<N> gs = load<N>(g + at), others = relu && residual ? load<N>(residual + at) : gs;
#pragma unroll
    for (int i = 0; i < N; i++) {
      slopes[i] = widen(gs.at[i]);
      if (!relu) continue;
      const wide y = channels[i % CHANNELS].before_relu(widen(x.at[i])) + (residual ? widen(others.at[i]) : wide(0));
      if (y <= 0) slopes[i] = 0;
    }
  }
};

extern "C" __global__ void __launch_bounds__(256, 2)
batch_norm_forward(const real* x, const wide* stats, const real* gain, const real* shift, const real* residual,
                   bool relu, real* out, int beta, int rows, int width, int pixels) {
  const Norm norm = {stats, gain, shift, residual, relu, width};
  by_channel({rows, width, pixels}, aligned(x, residual, out), [&](auto walk) {
    constexpr int N = walk.SIZE;
    Channel channels[walk.CHANNELS];
    norm.channels_of(walk, channels);
    walk.each([&](long long at) {
      const Pack<N> pack = load<N>(x + at), others = residual ? load<N>(residual + at) : pack;
      wide values[N];
#pragma unroll
      for (int i = 0; i < N; i++) {
        const wide y = channels[i % walk.CHANNELS].before_relu(widen(pack.at[i])) +
                       (residual ? widen(others.at[i]) : wide(0));
        values[i] = relu && y <= 0 ? wide(0) : y;
      }
      store<N>(out + at, values, beta);
    });
  });
}

// Slopes of the parts of each channel: parts (gridDim.y, width).
extern "C" __global__ void __launch_bounds__(256)
batch_norm_slopes(const real* g, const real* x, const wide* stats, const real* gain, const real* shift,
                  const real* residual, bool relu, wide* parts, int rows, int width, int pixels) {
  const Norm norm = {stats, gain, shift, residual, relu, width};
  Slopes* all = reinterpret_cast<Slopes*>(parts) + blockIdx.y * static_cast<long long>(width);
  by_channel({rows, width, pixels}, aligned(g, x, residual), [&](auto walk) {
    constexpr int N = walk.SIZE;
    Channel channels[walk.CHANNELS];
    norm.channels_of(walk, channels);
    Slopes found[N] = {};
    walk.each([&](long long at) {
      const Pack<N> pack = load<N>(x + at);
      wide slopes[N];
      norm.masked(slopes, g, pack, channels, at);
#pragma unroll
      for (int i = 0; i < N; i++) {
        found[i].add({slopes[i], slopes[i] * channels[i % walk.CHANNELS].normalized(widen(pack.at[i]))});
      }
    });
    if (!collect(walk, found)) return;
#pragma unroll
    for (int i = 0; i < walk.CHANNELS; i++) all[walk.channel + i] = found[i];
  });
}

// dshift, dgain and the sums themselves, totals (width,), each unless it is null
extern "C" __global__ void __launch_bounds__(256)
batch_norm_totals(const wide* parts, real* dgain, int gain_beta, real* dshift, int shift_beta, wide* totals, int count,
                  int width) {
  const Column column(count, width);
  Slopes all;
  if (!column.sum(parts, all)) return;
  if (dgain) store(dgain + column.channel, all.along, gain_beta);
  if (dshift) store(dshift + column.channel, all.plain, shift_beta);
  if (totals) reinterpret_cast<Slopes*>(totals)[column.channel] = all;
}

// dx and dresidual, either or both; totals: null unless dx is wanted and the statistics are the batch's
extern "C" __global__ void __launch_bounds__(256, 2)
batch_norm_backward(const real* g, const real* x, const wide* stats, const real* gain, const real* shift,
                    const real* residual, bool relu, const wide* totals, real* dx, int beta, real* dresidual,
                    int residual_beta, int rows, int width, int pixels) {
  const Norm norm = {stats, gain, shift, residual, relu, width};
  by_channel({rows, width, pixels}, aligned(g, x, residual, dx, dresidual), [&](auto walk) {
    constexpr int N = walk.SIZE;
    Channel channels[walk.CHANNELS];
    Slopes means[walk.CHANNELS] = {};
    norm.channels_of(walk, channels);
#pragma unroll
    for (int i = 0; totals && walk.inside() && i < walk.CHANNELS; i++) {
      means[i] = reinterpret_cast<const Slopes*>(totals)[walk.channel + i];
      means[i].plain /= rows, means[i].along /= rows;
    }
    walk.each([&](long long at) {
      const Pack<N> pack = load<N>(x + at);
      wide slopes[N];
      norm.masked(slopes, g, pack, channels, at);
      if (dresidual) store<N>(dresidual + at, slopes, residual_beta);
      if (!dx) return;
#pragma unroll
      for (int i = 0; i < N; i++) {
        const Channel& channel = channels[i % walk.CHANNELS];
        const Slopes& mean = means[i % walk.CHANNELS];
        slopes[i] = channel.slope * (slopes[i] - mean.plain - channel.normalized(widen(pack.at[i])) * mean.along);
      }
      store<N>(dx + at, slopes, beta);
    });
  });
}
