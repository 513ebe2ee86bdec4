// var and std: see moments.py. `sum` is that of x along the axes, `share` one over how many there are.
#include "along.cuh"

extern "C" __global__ void __launch_bounds__(256)
squared_deviations(const real* x, Axes x_kept, Axes x_along, const wide* sum, Axes sum_kept, Axes sum_along, wide share,
                   Axes kept, Axes along, wide* out) {
  const Group group = {kept, along};
  if (group.idle()) return;
  auto squared = [share](wide x, wide sum) {
    const wide d = x - sum * share;
    return d * d;
  };
  group.sum(squared, out, group.line(x, x_kept, x_along), group.line(sum, sum_kept, sum_along));
}

extern "C" __global__ void spread(const wide* squares, Axes squares_strides, wide factor, bool root, real* out,
                                  Axes out_strides, int beta, Axes sizes) {
  strided([=](wide squares) { return root ? sqrt(squares * factor) : squares * factor; }, out, out_strides, beta, sizes,
          operand(squares, squares_strides));
}

extern "C" __global__ void var_vjp(const real* g, Axes g_strides, const real* x, Axes x_strides, const wide* sum,
                                   Axes sum_strides, wide share, wide factor, real* out, Axes out_strides, int beta,
                                   Axes sizes) {
  strided([=](wide g, wide x, wide sum) { return (x - sum * share) * (g * (2 * factor)); }, out, out_strides, beta,
          sizes, operand(g, g_strides), operand(x, x_strides), operand(sum, sum_strides));
}

// Where the deviation y is 0 its slope is 0.
extern "C" __global__ void std_vjp(const real* g, Axes g_strides, const real* x, Axes x_strides, const real* y,
                                   Axes y_strides, const wide* sum, Axes sum_strides, wide share, wide factor,
                                   real* out, Axes out_strides, int beta, Axes sizes) {
  auto slope = [=](wide g, wide x, wide y, wide sum) {
    return (x - sum * share) * (y == 0 ? wide(0) : g * factor / y);
  };
  strided(slope, out, out_strides, beta, sizes, operand(g, g_strides), operand(x, x_strides), operand(y, y_strides),
          operand(sum, sum_strides));
}
