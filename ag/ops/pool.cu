// Pooling of images (N, C, H, W): see pool.py, whose kernels these are.
//
// Each array has its channels last in memory or first. Where they lie last in all, a thread takes as many as 16 bytes
// hold. Gradients are gathered, pixel by pixel, from the windows that see it: always in the same order.
#include "common.cuh"
#include "window.cuh"

// The part that each pixel has of a window's mean.
__device__ inline wide share_of(const Window& window, int p, int q, bool padded) {
  const int size = window.down.size * window.across.size;
  return wide(1) / (padded ? size : window.down.seen(p) * window.across.seen(q));
}

// body(image, channel, row, column) for each N channels of each pixel; blockIdx.y goes over lines of pixels.
template <int N, class F> __device__ inline void each_pixel(int images, int width, int rows, int columns, F body) {
  const int packs = width / N;
  for (int line = blockIdx.y; line < images * rows; line += gridDim.y) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < columns * packs; i += gridDim.x * blockDim.x) {
      body(line / rows, i % packs * N, line % rows, i / packs);
    }
  }
}

// body(i, j, row, column) for each element of a window at a place that is on a pixel
template <class F> __device__ inline void each_seen(const Window& window, int p, int q, F body) {
  for (int i = 0; i < window.down.size; i++) {
    const int row = window.down.pixel(p, i);
    for (int j = 0; row >= 0 && j < window.across.size; j++) {
      const int column = window.across.pixel(q, j);
      if (column >= 0) body(i, j, row, column);
    }
  }
}

// body(i, j, p, q) for each element of a window, and place, that is on a pixel
template <class F> __device__ inline void each_seeing(const Window& window, int row, int column, F body) {
  for (int i = 0; i < window.down.size; i++) {
    const int p = window.down.place(row, i);
    for (int j = 0; p >= 0 && j < window.across.size; j++) {
      const int q = window.across.place(column, j);
      if (q >= 0) body(i, j, p, q);
    }
  }
}

// N numbers of elements of windows, read and written together.
template <int N, class T> struct __align__(N * sizeof(T) < 16 ? N * sizeof(T) : 16) Numbers {
  T at[N];
};

template <int N, class T> __device__ inline Numbers<N, T> load_numbers(const T* from) {
  return *reinterpret_cast<const Numbers<N, T>*>(from);
}

template <int N, class T> __device__ inline void store_numbers(T* to, const int (&which)[N]) {
  Numbers<N, T> numbers;
#pragma unroll
  for (int k = 0; k < N; k++) numbers.at[k] = static_cast<T>(which[k]);
  *reinterpret_cast<Numbers<N, T>*>(to) = numbers;
}

// sums += those of g whose window is largest at its element `number`
template <int N, class T>
__device__ inline void add_largest(wide (&sums)[N], const Pack<N>& g, const T* taps, int number) {
  const Numbers<N, T> numbers = load_numbers<N>(taps);
#pragma unroll
  for (int k = 0; k < N; k++) sums[k] += numbers.at[k] == number ? widen(g.at[k]) : wide(0);
}

// The largest of each window and which of its elements that is, row by row: the first of equals, or NaN. In all that
// follows one of tap_bytes and tap_numbers is null, and a window's height and width have size, stride, padding and
// dilation.
extern "C" __global__ void __launch_bounds__(256, 2)
pool_largest(const real* x, bool x_last, real* out, int beta, bool out_last, unsigned char* tap_bytes, int* tap_numbers,
             int images, int width, int height, int breadth, int tall, int broad, int down, int across, int above,
             int left, int apart, int aside) {
  const Window window = {{tall, down, above, apart, height}, {broad, across, left, aside, breadth}};
  const int rows = window.down.places, columns = window.across.places;
  const Layout from(x_last, width, height, breadth), to(out_last, width, rows, columns);
  by_pack(x_last && out_last && aligned(x, out, tap_bytes, tap_numbers), width, [&](auto size) {
    constexpr int N = size.VALUE;
    each_pixel<N>(images, width, rows, columns, [&](int image, int channel, int p, int q) {
      wide best[N];
      int which[N];
#pragma unroll
      for (int k = 0; k < N; k++) which[k] = -1;
      each_seen(window, p, q, [&](int i, int j, int row, int column) {
        const Pack<N> pack = load<N>(x + from.at(image, channel, row, column));
#pragma unroll
        for (int k = 0; k < N; k++) {
          const wide value = widen(pack.at[k]);
          if (which[k] >= 0 && !(value > best[k] || (value != value && best[k] == best[k]))) continue;
          best[k] = value, which[k] = i * broad + j;
        }
      });
      const long long at = to.at(image, channel, p, q);
      store<N>(out + at, best, beta);
      if (tap_bytes) store_numbers<N>(tap_bytes + at, which);
      else store_numbers<N>(tap_numbers + at, which);
    });
  });
}

extern "C" __global__ void __launch_bounds__(256, 2)
pool_largest_vjp(const real* g, bool g_last, const unsigned char* tap_bytes, const int* tap_numbers, bool tap_last,
                 real* out, int beta, bool out_last, int images, int width, int height, int breadth, int tall,
                 int broad, int down, int across, int above, int left, int apart, int aside) {
  const Window window = {{tall, down, above, apart, height}, {broad, across, left, aside, breadth}};
  const int rows = window.down.places, columns = window.across.places;
  const Layout from(g_last, width, rows, columns), taps(tap_last, width, rows, columns);
  const Layout to(out_last, width, height, breadth);
  const bool alike = g_last && tap_last && out_last;
  by_pack(alike && aligned(g, out, tap_bytes, tap_numbers), width, [&](auto size) {
    constexpr int N = size.VALUE;
    each_pixel<N>(images, width, height, breadth, [&](int image, int channel, int row, int column) {
      wide sums[N] = {};
      each_seeing(window, row, column, [&](int i, int j, int p, int q) {
        const Pack<N> pack = load<N>(g + from.at(image, channel, p, q));
        const long long at = taps.at(image, channel, p, q);
        if (tap_bytes) add_largest<N>(sums, pack, tap_bytes + at, i * broad + j);
        else add_largest<N>(sums, pack, tap_numbers + at, i * broad + j);
      });
      store<N>(out + to.at(image, channel, row, column), sums, beta);
    });
  });
}

// The mean of each window: of its pixels, or, if padded, with its padding as zeros.
extern "C" __global__ void __launch_bounds__(256, 2)
pool_mean(const real* x, bool x_last, bool padded, real* out, int beta, bool out_last, int images, int width,
          int height, int breadth, int tall, int broad, int down, int across, int above, int left, int apart,
          int aside) {
  const Window window = {{tall, down, above, apart, height}, {broad, across, left, aside, breadth}};
  const int rows = window.down.places, columns = window.across.places;
  const Layout from(x_last, width, height, breadth), to(out_last, width, rows, columns);
  by_pack(x_last && out_last && aligned(x, out), width, [&](auto size) {
    constexpr int N = size.VALUE;
    each_pixel<N>(images, width, rows, columns, [&](int image, int channel, int p, int q) {
      wide sums[N] = {};
      each_seen(window, p, q, [&](int, int, int row, int column) {
        const Pack<N> pack = load<N>(x + from.at(image, channel, row, column));
#pragma unroll
        for (int k = 0; k < N; k++) sums[k] += widen(pack.at[k]);
      });
      const wide share = share_of(window, p, q, padded);
#pragma unroll
      for (int k = 0; k < N; k++) sums[k] *= share;
      store<N>(out + to.at(image, channel, p, q), sums, beta);
    });
  });
}

extern "C" __global__ void __launch_bounds__(256, 2)
pool_mean_vjp(const real* g, bool g_last, bool padded, real* out, int beta, bool out_last, int images, int width,
              int height, int breadth, int tall, int broad, int down, int across, int above, int left, int apart,
              int aside) {
  const Window window = {{tall, down, above, apart, height}, {broad, across, left, aside, breadth}};
  const Layout from(g_last, width, window.down.places, window.across.places);
  const Layout to(out_last, width, height, breadth);
  by_pack(g_last && out_last && aligned(g, out), width, [&](auto size) {
    constexpr int N = size.VALUE;
    each_pixel<N>(images, width, height, breadth, [&](int image, int channel, int row, int column) {
      wide sums[N] = {};
      each_seeing(window, row, column, [&](int, int, int p, int q) {
        const Pack<N> pack = load<N>(g + from.at(image, channel, p, q));
        const wide share = share_of(window, p, q, padded);
#pragma unroll
        for (int k = 0; k < N; k++) sums[k] += widen(pack.at[k]) * share;
      });
      store<N>(out + to.at(image, channel, row, column), sums, beta);
    });
  });
}
