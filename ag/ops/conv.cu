// Convolution, see conv.py, where cuDNN does not serve: products of matrices that are never made.
//
// A block computes a tile of the product, of rows and columns that it finds in images and weights as it goes. Weights
// are contiguous (O, C / G, KH, KW); images have their channels last in memory or first.
#include "channels.cuh"
#include "window.cuh"

constexpr int TILE = 64;  // rows, and columns, of a product that are a block's
constexpr int DEPTH = 16;  // of the sums, how much is taken at a time
constexpr int SIDE = 16;  // threads along rows, and along columns
constexpr int EACH = TILE / SIDE;
constexpr int OUTSIDE = -(1 << 30);  // where no pixel is

typedef wide Sums[EACH][EACH];

__device__ inline int row_of(int i) { return threadIdx.x / SIDE + SIDE * i; }
__device__ inline int column_of(int j) { return threadIdx.x % SIDE + SIDE * j; }

// A convolution of one group of channels: x (N, C, H, W), w and y (N, O, OH, OW), whichever of these there are.
struct Conv {
  Window window;
  Layout x_layout, y_layout;
  int width, outputs, group;  // channels of a group, of x and of y, and its number
  const real *x, *w, *y;

  __device__ Conv(const Window& window, const real* x, bool x_last, const real* w, const real* y, bool y_last,
                  int width, int outputs, int groups, int group)
      : window(window), x_layout(x_last, width, window.down.pixels, window.across.pixels),
        y_layout(y_last, outputs, window.down.places, window.across.places), width(width / groups),
        outputs(outputs / groups), group(group), x(x), w(w), y(y) {}

  __device__ int elements() const { return window.down.size * window.across.size; }
  __device__ long long weights() const { return static_cast<long long>(width) * elements(); }  // of an output channel
};

struct Place {  // of a window: its image, the group's first channel, and the pixel where it begins
  long long start;
  int row, column;
};

struct Tap {  // an element of a window, of a channel: how far from there, and which weight
  long long start, weight;
  int down, across;
};

struct Seeing : Conv {  // what reads x
  __device__ Place place(int number, int count) const {
    if (number >= count) return {0, OUTSIDE, OUTSIDE};
    const int columns = window.across.places, line = number / columns, rows = window.down.places;
    return {x_layout.at(line / rows, group * width, 0, 0), line % rows * window.down.stride - window.down.padding,
            number % columns * window.across.stride - window.across.padding};
  }

  __device__ Tap tap(int number) const {
    if (number >= weights()) return {0, 0, OUTSIDE, OUTSIDE};
    const int channel = number % width, element = number / width;
    const int i = element / window.across.size, j = element % window.across.size;
    return {channel * static_cast<long long>(x_layout.channel), channel * static_cast<long long>(elements()) + element,
            i * window.down.dilation, j * window.across.dilation};
  }

  __device__ wide see(const Place& place, const Tap& tap) const {
    const int row = place.row + tap.down, column = place.column + tap.across;
    if (row < 0 || row >= window.down.pixels || column < 0 || column >= window.across.pixels) return 0;
    return widen(x[place.start + tap.start + x_layout.at(0, 0, row, column)]);
  }
};

struct Forward : Seeing {  // places times weights
  int places;
  typedef Place Row;
  typedef long long Column;  // where an output channel's weights begin, or -1

  __device__ Row row(int number) const { return place(number, places); }
  __device__ Column column(int number) const { return number < outputs ? (group * outputs + number) * weights() : -1; }
  __device__ Tap step(int number) const { return tap(number); }
  __device__ wide left(const Row& row, const Tap& tap) const { return see(row, tap); }
  __device__ wide right(const Tap& tap, Column start) const {
    return start < 0 || tap.down == OUTSIDE ? wide(0) : widen(w[start + tap.weight]);
  }
};

struct WeightGradient : Seeing {  // output channels times what the windows saw
  int places;
  struct Step {
    long long start;  // of g, without its channel; -1 beyond its end
    Place place;
  };
  typedef long long Row;  // an output channel of g, or -1
  typedef Tap Column;

  __device__ Row row(int number) const {
    return number < outputs ? (group * outputs + number) * static_cast<long long>(y_layout.channel) : -1;
  }
  __device__ Column column(int number) const { return tap(number); }
  __device__ Step step(int number) const {
    const int columns = window.across.places, line = number / columns, rows = window.down.places;
    return {number < places ? y_layout.at(line / rows, 0, line % rows, number % columns) : -1, place(number, places)};
  }
  __device__ wide left(Row channel, const Step& step) const {
    return channel < 0 || step.start < 0 ? wide(0) : widen(y[channel + step.start]);
  }
  __device__ wide right(const Step& step, const Tap& tap) const { return see(step.place, tap); }
};

struct InputGradient : Conv {  // pixels times weights
  int pixels;
  struct Row {
    long long start;  // of the pixel's image in g
    int row, column;
  };
  struct Step {
    long long start, weight;  // weight: -1 beyond the end
    int i, j;
  };
  typedef long long Column;  // where an input channel's weights begin, or -1

  __device__ Row row(int number) const {
    const int columns = window.across.pixels, rows = window.down.pixels, line = number / columns;
    if (number >= pixels) return {0, OUTSIDE, OUTSIDE};
    return {y_layout.at(line / rows, group * outputs, 0, 0), line % rows, number % columns};
  }
  __device__ Column column(int number) const {
    return number < width ? group * outputs * weights() + number * static_cast<long long>(elements()) : -1;
  }
  __device__ Step step(int number) const {
    const int channel = number % outputs, element = number / outputs;
    if (element >= elements()) return {0, -1, 0, 0};
    return {channel * static_cast<long long>(y_layout.channel), channel * weights() + element,
            element / window.across.size, element % window.across.size};
  }
  __device__ wide left(const Row& at, const Step& step) const {
    if (step.weight < 0 || at.row == OUTSIDE) return 0;
    const int p = window.down.place(at.row, step.i), q = window.across.place(at.column, step.j);
    return p < 0 || q < 0 ? wide(0) : widen(y[at.start + step.start + y_layout.at(0, 0, p, q)]);
  }
  __device__ wide right(const Step& step, Column start) const {
    return start < 0 || step.weight < 0 ? wide(0) : widen(w[start + step.weight]);
  }
};

// The block's tile of a product, of steps `from` ... `end` - 1 of its sums.
template <class P> __device__ inline void product(const P& of, int from, int end, Sums& sums) {
  __shared__ wide left[DEPTH][TILE + 1], right[DEPTH][TILE + 1];
  const int depth = threadIdx.x % DEPTH, line = threadIdx.x / DEPTH;
  typename P::Row rows[EACH];
  typename P::Column columns[EACH];
#pragma unroll
  for (int i = 0; i < EACH; i++) {
    rows[i] = of.row(blockIdx.x * TILE + line + SIDE * i);
    columns[i] = of.column(blockIdx.y * TILE + line + SIDE * i);
  }
  for (; from < end; from += DEPTH) {
    const auto step = of.step(from + depth);
    const bool inside = from + depth < end;
    __syncthreads();  // the tiles' last readers are done
#pragma unroll
    for (int i = 0; i < EACH; i++) {
      left[depth][line + SIDE * i] = inside ? of.left(rows[i], step) : wide(0);
      right[depth][line + SIDE * i] = inside ? of.right(step, columns[i]) : wide(0);
    }
    __syncthreads();
#pragma unroll 4
    for (int k = 0; k < DEPTH; k++) {
#pragma unroll
      for (int i = 0; i < EACH; i++) {
#pragma unroll
        for (int j = 0; j < EACH; j++) sums[i][j] += left[k][row_of(i)] * right[k][column_of(j)];
      }
    }
  }
}

// body(row, column, sum) for the thread's numbers of the block's tile that are in a matrix of this size.
template <class F> __device__ inline void each_sum(const Sums& sums, int rows, int columns, F body) {
#pragma unroll
  for (int i = 0; i < EACH; i++) {
#pragma unroll
    for (int j = 0; j < EACH; j++) {
      const int row = blockIdx.x * TILE + row_of(i), column = blockIdx.y * TILE + column_of(j);
      if (row < rows && column < columns) body(row, column, sums[i][j]);
    }
  }
}

// out = x * w + b. Blocks: (tiles of places, tiles of a group's outputs, groups).
extern "C" __global__ void __launch_bounds__(256, 2)
conv_forward(const real* x, bool x_last, const real* w, const real* b, real* out, bool out_last, int beta, int outputs,
             int groups, int images, int width, int height, int breadth, int tall, int broad, int down, int across,
             int above, int left, int apart, int aside) {
  const Window window = {{tall, down, above, apart, height}, {broad, across, left, aside, breadth}};
  const Conv conv(window, x, x_last, w, nullptr, out_last, width, outputs, groups, blockIdx.z);
  const int rows = window.down.places, columns = window.across.places, places = images * rows * columns;
  Sums sums = {};
  product(Forward{{conv}, places}, 0, conv.weights(), sums);
  each_sum(sums, places, conv.outputs, [&](int place, int channel, wide sum) {
    const int output = conv.group * conv.outputs + channel, line = place / columns;
    const long long at = conv.y_layout.at(line / rows, output, line % rows, place % columns);
    store(out + at, b ? sum + widen(b[output]) : sum, beta);
  });
}

// out, the gradient of x. Blocks: (tiles of pixels, tiles of a group's channels, groups).
extern "C" __global__ void __launch_bounds__(256, 2)
conv_inputs_vjp(const real* g, bool g_last, const real* w, real* out, bool out_last, int beta, int outputs, int groups,
                int images, int width, int height, int breadth, int tall, int broad, int down, int across, int above,
                int left, int apart, int aside) {
  const Window window = {{tall, down, above, apart, height}, {broad, across, left, aside, breadth}};
  const Conv conv(window, nullptr, out_last, w, g, g_last, width, outputs, groups, blockIdx.z);
  const int pixels = images * height * breadth;
  Sums sums = {};
  product(InputGradient{conv, pixels}, 0, conv.outputs * conv.elements(), sums);
  each_sum(sums, pixels, conv.width, [&](int pixel, int channel, wide sum) {
    const int line = pixel / breadth;
    const long long at =
        conv.x_layout.at(line / height, conv.group * conv.width + channel, line % height, pixel % breadth);
    store(out + at, sum, beta);
  });
}

// The gradient of w: to `out`, or of each of several parts of the places to its part of `parts`, which is then not
// null. Blocks: (tiles of a group's outputs, tiles of its weights, groups times parts).
extern "C" __global__ void __launch_bounds__(256, 2)
conv_weights_vjp(const real* g, bool g_last, const real* x, bool x_last, wide* parts, real* out, int beta, int outputs,
                 int groups, int images, int width, int height, int breadth, int tall, int broad, int down, int across,
                 int above, int left, int apart, int aside) {
  const Window window = {{tall, down, above, apart, height}, {broad, across, left, aside, breadth}};
  const Conv conv(window, x, x_last, nullptr, g, g_last, width, outputs, groups, blockIdx.z % groups);
  const int part = blockIdx.z / groups, count = gridDim.z / groups;
  const int places = images * window.down.places * window.across.places;
  Sums sums = {};
  const WeightGradient gradient = {{conv}, places};
  product(gradient, places * static_cast<long long>(part) / count, places * (part + 1ll) / count, sums);
  each_sum(sums, conv.outputs, conv.weights(), [&](int channel, int column, wide sum) {
    const long long at = (conv.group * conv.outputs + channel) * conv.weights() + gradient.tap(column).weight;
    if (parts) parts[part * (outputs * conv.weights()) + at] = sum;
    else store(out + at, sum, beta);
  });
}

// out = the sum of `parts` (count, size)
extern "C" __global__ void __launch_bounds__(256)
conv_add_parts(const wide* parts, real* out, int beta, int count, long long size) {
  const long long i = blockIdx.x * 256ll + threadIdx.x;
  if (i >= size) return;
  wide sum = 0;
  for (int part = 0; part < count; part++) sum += parts[part * size + i];
  store(out + i, sum, beta);
}
