// Activations and their gradients: see activation.py. Where NaN has to come through, comparisons let it.
#include "activation.cuh"
#include "elementwise.cuh"

extern "C" __global__ void relu(const real* x, real* out, int beta, long long count) {
  elementwise([](wide x) { return x <= 0 ? wide(0) : x; }, out, beta, count, x);
}

extern "C" __global__ void relu_vjp(const real* g, const real* y, real* out, int beta, long long count) {
  elementwise([](wide g, wide y) { return y <= 0 ? wide(0) : g; }, out, beta, count, g, y);
}

extern "C" __global__ void sigmoid(const real* x, real* out, int beta, long long count) {
  elementwise([](wide x) { return logistic(x); }, out, beta, count, x);
}

extern "C" __global__ void sigmoid_vjp(const real* g, const real* y, real* out, int beta, long long count) {
  elementwise([](wide g, wide y) { return g * y * (1 - y); }, out, beta, count, g, y);
}

extern "C" __global__ void silu(const real* x, real* out, int beta, long long count) {
  elementwise([](wide x) { return x * logistic(x); }, out, beta, count, x);
}

extern "C" __global__ void silu_vjp(const real* g, const real* x, real* out, int beta, long long count) {
  auto slope = [](wide g, wide x) {
    const wide s = logistic(x);
    return g * s * (1 + x * (1 - s));
  };
  elementwise(slope, out, beta, count, g, x);
}

extern "C" __global__ void mish(const real* x, real* out, int beta, long long count) {
  elementwise([](wide x) { return x * tanh_of_softplus(x); }, out, beta, count, x);
}

extern "C" __global__ void mish_vjp(const real* g, const real* x, real* out, int beta, long long count) {
  auto slope = [](wide g, wide x) {
    const wide t = tanh_of_softplus(x);
    return g * (t + x * (1 - t * t) * logistic(x));
  };
  elementwise(slope, out, beta, count, g, x);
}

extern "C" __global__ void leaky_relu(const real* x, wide below, real* out, int beta, long long count) {
  elementwise([below](wide x) { return x > 0 ? x : below * x; }, out, beta, count, x);
}

extern "C" __global__ void leaky_relu_vjp(const real* g, const real* x, wide below, real* out, int beta,
                                          long long count) {
  elementwise([below](wide g, wide x) { return x > 0 ? g : below * g; }, out, beta, count, g, x);
}

extern "C" __global__ void elu(const real* x, wide alpha, real* out, int beta, long long count) {
  elementwise([alpha](wide x) { return x > 0 ? x : alpha * power_of_e_less_1(x); }, out, beta, count, x);
}

extern "C" __global__ void elu_vjp(const real* g, const real* x, wide alpha, real* out, int beta, long long count) {
  elementwise([alpha](wide g, wide x) { return x > 0 ? g : g * alpha * power_of_e(x); }, out, beta, count, g, x);
}

extern "C" __global__ void softplus(const real* x, wide steep, wide threshold, real* out, int beta, long long count) {
  const wide flat = 1 / steep;
  auto value = [=](wide x) { return steep * x > threshold ? x : log_of_1_and_exp(steep * x) * flat; };
  elementwise(value, out, beta, count, x);
}

extern "C" __global__ void softplus_vjp(const real* g, const real* x, wide steep, wide threshold, real* out, int beta,
                                        long long count) {
  auto slope = [=](wide g, wide x) { return steep * x > threshold ? g : g * logistic(steep * x); };
  elementwise(slope, out, beta, count, g, x);
}

extern "C" __global__ void hardtanh(const real* x, wide low, wide high, real* out, int beta, long long count) {
  elementwise([=](wide x) { return x < low ? low : x > high ? high : x; }, out, beta, count, x);
}

extern "C" __global__ void hardtanh_vjp(const real* g, const real* x, wide low, wide high, real* out, int beta,
                                        long long count) {
  elementwise([=](wide g, wide x) { return x <= low || x >= high ? wide(0) : g; }, out, beta, count, g, x);
}

extern "C" __global__ void gelu(const real* x, real* out, int beta, long long count) {
  elementwise([](wide x) { return x * normal_below(x); }, out, beta, count, x);
}

extern "C" __global__ void gelu_vjp(const real* g, const real* x, real* out, int beta, long long count) {
  auto slope = [](wide g, wide x) { return g * (normal_below(x) + x * normal_density(x)); };
  elementwise(slope, out, beta, count, g, x);
}

extern "C" __global__ void gelu_tanh(const real* x, real* out, int beta, long long count) {
  elementwise([](wide x) { return x * share_by_tanh(x); }, out, beta, count, x);
}

extern "C" __global__ void gelu_tanh_vjp(const real* g, const real* x, real* out, int beta, long long count) {
  elementwise([](wide g, wide x) { return g * slope_by_tanh(x); }, out, beta, count, g, x);
}
