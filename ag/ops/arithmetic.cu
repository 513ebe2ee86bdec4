// Arithmetic with broadcasting: see arithmetic.py. `number` stands for the operand that is one.
#include "strided.cuh"

extern "C" __global__ void add(const real* a, Axes a_strides, const real* b, Axes b_strides, wide number, real* out,
                               Axes out_strides, int beta, Axes sizes) {
  strided([](wide a, wide b) { return a + b; }, out, out_strides, beta, sizes, operand(a, a_strides, number),
          operand(b, b_strides, number));
}

extern "C" __global__ void sub(const real* a, Axes a_strides, const real* b, Axes b_strides, wide number, real* out,
                               Axes out_strides, int beta, Axes sizes) {
  strided([](wide a, wide b) { return a - b; }, out, out_strides, beta, sizes, operand(a, a_strides, number),
          operand(b, b_strides, number));
}

extern "C" __global__ void mul(const real* a, Axes a_strides, const real* b, Axes b_strides, wide number, real* out,
                               Axes out_strides, int beta, Axes sizes) {
  strided([](wide a, wide b) { return a * b; }, out, out_strides, beta, sizes, operand(a, a_strides, number),
          operand(b, b_strides, number));
}

extern "C" __global__ void divide(const real* a, Axes a_strides, const real* b, Axes b_strides, wide number, real* out,
                                  Axes out_strides, int beta, Axes sizes) {
  strided([](wide a, wide b) { return a / b; }, out, out_strides, beta, sizes, operand(a, a_strides, number),
          operand(b, b_strides, number));
}

extern "C" __global__ void divide_vjp(const real* g, Axes g_strides, const real* a, Axes a_strides, const real* b,
                                      Axes b_strides, wide number, real* out, Axes out_strides, int beta, Axes sizes) {
  strided([](wide g, wide a, wide b) { return -g * (a / b / b); }, out, out_strides, beta, sizes,
          operand(g, g_strides), operand(a, a_strides, number), operand(b, b_strides, number));
}

extern "C" __global__ void negate(const real* x, Axes x_strides, wide number, real* out, Axes out_strides, int beta,
                               Axes sizes) {
  strided([](wide x) { return -x; }, out, out_strides, beta, sizes, operand(x, x_strides, number));
}

// The square, which is the power that networks have most often, without logarithms.
__device__ inline wide raised(wide a, wide b) { return b == 2 ? a * a : b == 1 ? a : pow(a, b); }

extern "C" __global__ void power(const real* a, Axes a_strides, const real* b, Axes b_strides, wide number, real* out,
                                 Axes out_strides, int beta, Axes sizes) {
  strided([](wide a, wide b) { return raised(a, b); }, out, out_strides, beta, sizes, operand(a, a_strides, number),
          operand(b, b_strides, number));
}

extern "C" __global__ void power_vjp_base(const real* g, Axes g_strides, const real* a, Axes a_strides, const real* b,
                                          Axes b_strides, wide number, real* out, Axes out_strides, int beta,
                                          Axes sizes) {
  strided([](wide g, wide a, wide b) { return b == 0 ? wide(0) : g * b * raised(a, b - 1); }, out, out_strides, beta,
          sizes, operand(g, g_strides), operand(a, a_strides, number), operand(b, b_strides, number));
}

extern "C" __global__ void power_vjp_exponent(const real* g, Axes g_strides, const real* a, Axes a_strides,
                                              const real* b, Axes b_strides, const real* y, Axes y_strides,
                                              wide number, real* out, Axes out_strides, int beta, Axes sizes) {
  auto slope = [](wide g, wide a, wide b, wide y) { return a == 0 && b >= 0 ? wide(0) : g * y * log(a); };
  strided(slope, out, out_strides, beta, sizes, operand(g, g_strides), operand(a, a_strides, number),
          operand(b, b_strides, number), operand(y, y_strides));
}
