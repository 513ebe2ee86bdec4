// Functions of one number: see math.py.
#include "elementwise.cuh"

extern "C" __global__ void tanh_forward(const real* x, real* out, int beta, long long count) {
  elementwise([](wide x) { return tanh(x); }, out, beta, count, x);
}

extern "C" __global__ void tanh_vjp(const real* g, const real* y, real* out, int beta, long long count) {
  elementwise([](wide g, wide y) { return g * (1 - y * y); }, out, beta, count, g, y);
}
