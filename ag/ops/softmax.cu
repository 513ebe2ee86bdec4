// softmax, log_softmax and logsumexp along rows: see softmax.py, whose kernels these are.
// (Four blocks at once are asked for, since compilers that are free to choose spill doubles for Hopper.)
#include "rows.cuh"

extern "C" __global__ void __launch_bounds__(256, 4)
softmax_forward(const real* x, real* out, int beta, int rows, int width) {
  const long long row = group_row();
  if (row >= rows) return;  // a whole group
  x += row * width, out += row * width;
  const Exponentials all = exponentials(x, width);
  map_row([&](wide value) { return quotient(power_of_e(value - all.top), all.sum); }, out, beta, width, x);
}

extern "C" __global__ void __launch_bounds__(256, 4)
softmax_backward(const real* g, const real* y, real* out, int beta, int rows, int width) {
  const long long row = group_row();
  if (row >= rows) return;
  g += row * width, y += row * width, out += row * width;
  const wide along = sum_row([](wide slope, wide share) { return slope * share; }, width, g, y);
  map_row([&](wide slope, wide share) { return share * (slope - along); }, out, beta, width, g, y);
}

extern "C" __global__ void __launch_bounds__(256, 4)
log_softmax_forward(const real* x, real* out, int beta, int rows, int width) {
  const long long row = group_row();
  if (row >= rows) return;
  x += row * width, out += row * width;
  const Exponentials all = exponentials(x, width);
  const wide rest = log(all.sum);
  map_row([&](wide value) { return (value - all.top) - rest; }, out, beta, width, x);
}

extern "C" __global__ void __launch_bounds__(256, 4)
log_softmax_backward(const real* g, const real* y, real* out, int beta, int rows, int width) {
  const long long row = group_row();
  if (row >= rows) return;
  g += row * width, y += row * width, out += row * width;
  const wide total = sum_row([](wide slope) { return slope; }, width, g);
  map_row([&](wide slope, wide value) { return slope - power_of_e(value) * total; }, out, beta, width, g, y);
}

extern "C" __global__ void __launch_bounds__(256, 4)
logsumexp_forward(const real* x, real* out, int beta, int rows, int width) {
  const long long row = group_row();
  if (row >= rows) return;
  x += row * width;
  const Exponentials all = exponentials(x, width);
  wide value = all.top + log(all.sum);
  if (isinf(all.top)) value = sum_row([](wide x) { return fabs(x); }, width, x);  // Inf of Inf, but NaN if there is one
  if (threadIdx.x == 0) store(out + row, value, beta);
}

// g and y are of rows.
extern "C" __global__ void __launch_bounds__(256, 4)
logsumexp_backward(const real* g, const real* x, const real* y, real* out, int beta, int rows, int width) {
  const long long row = group_row();
  if (row >= rows) return;
  const wide slope = widen(g[row]), sum = widen(y[row]);
  const wide subtracted = isinf(sum) && sum < 0 ? wide(0) : sum;  // of no number but -Inf
  x += row * width, out += row * width;
  map_row([&](wide value) { return slope * power_of_e(value - subtracted); }, out, beta, width, x);
}
