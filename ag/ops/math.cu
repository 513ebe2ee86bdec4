// Functions of one number and their gradients: see math.py.
#include "elementwise.cuh"

extern "C" __global__ void exp_forward(const real* x, real* out, int beta, long long count) {
  elementwise([](wide x) { return exp(x); }, out, beta, count, x);
}

extern "C" __global__ void exp_vjp(const real* g, const real* y, real* out, int beta, long long count) {
  elementwise([](wide g, wide y) { return g * y; }, out, beta, count, g, y);
}

extern "C" __global__ void expm1_forward(const real* x, real* out, int beta, long long count) {
  elementwise([](wide x) { return expm1(x); }, out, beta, count, x);
}

extern "C" __global__ void expm1_vjp(const real* g, const real* y, real* out, int beta, long long count) {
  elementwise([](wide g, wide y) { return g * (y + 1); }, out, beta, count, g, y);
}

extern "C" __global__ void log_forward(const real* x, real* out, int beta, long long count) {
  elementwise([](wide x) { return log(x); }, out, beta, count, x);
}

extern "C" __global__ void log_vjp(const real* g, const real* x, real* out, int beta, long long count) {
  elementwise([](wide g, wide x) { return g / x; }, out, beta, count, g, x);
}

extern "C" __global__ void log1p_forward(const real* x, real* out, int beta, long long count) {
  elementwise([](wide x) { return log1p(x); }, out, beta, count, x);
}

extern "C" __global__ void log1p_vjp(const real* g, const real* x, real* out, int beta, long long count) {
  elementwise([](wide g, wide x) { return g / (x + 1); }, out, beta, count, g, x);
}

extern "C" __global__ void log2_forward(const real* x, real* out, int beta, long long count) {
  elementwise([](wide x) { return log2(x); }, out, beta, count, x);
}

extern "C" __global__ void log2_vjp(const real* g, const real* x, real* out, int beta, long long count) {
  elementwise([](wide g, wide x) { return g / (x * wide(0.69314718055994530942)); }, out, beta, count, g, x);
}

extern "C" __global__ void sqrt_forward(const real* x, real* out, int beta, long long count) {
  elementwise([](wide x) { return sqrt(x); }, out, beta, count, x);
}

extern "C" __global__ void sqrt_vjp(const real* g, const real* y, real* out, int beta, long long count) {
  elementwise([](wide g, wide y) { return wide(0.5) * g / y; }, out, beta, count, g, y);
}

extern "C" __global__ void rsqrt_forward(const real* x, real* out, int beta, long long count) {
  elementwise([](wide x) { return 1 / sqrt(x); }, out, beta, count, x);
}

extern "C" __global__ void rsqrt_vjp(const real* g, const real* y, real* out, int beta, long long count) {
  elementwise([](wide g, wide y) { return wide(-0.5) * g * y * y * y; }, out, beta, count, g, y);
}

extern "C" __global__ void abs_forward(const real* x, real* out, int beta, long long count) {
  elementwise([](wide x) { return fabs(x); }, out, beta, count, x);
}

extern "C" __global__ void abs_vjp(const real* g, const real* x, real* out, int beta, long long count) {
  elementwise([](wide g, wide x) { return g * sign_of(x); }, out, beta, count, g, x);
}

extern "C" __global__ void sign_forward(const real* x, real* out, int beta, long long count) {
  elementwise([](wide x) { return sign_of(x); }, out, beta, count, x);
}

extern "C" __global__ void sign_vjp(const real* g, const real* x, real* out, int beta, long long count) {
  elementwise([](wide, wide) { return wide(0); }, out, beta, count, g, x);
}

extern "C" __global__ void sin_forward(const real* x, real* out, int beta, long long count) {
  elementwise([](wide x) { return sin(x); }, out, beta, count, x);
}

extern "C" __global__ void sin_vjp(const real* g, const real* x, real* out, int beta, long long count) {
  elementwise([](wide g, wide x) { return g * cos(x); }, out, beta, count, g, x);
}

extern "C" __global__ void cos_forward(const real* x, real* out, int beta, long long count) {
  elementwise([](wide x) { return cos(x); }, out, beta, count, x);
}

extern "C" __global__ void cos_vjp(const real* g, const real* x, real* out, int beta, long long count) {
  elementwise([](wide g, wide x) { return -g * sin(x); }, out, beta, count, g, x);
}

extern "C" __global__ void tan_forward(const real* x, real* out, int beta, long long count) {
  elementwise([](wide x) { return tan(x); }, out, beta, count, x);
}

extern "C" __global__ void tan_vjp(const real* g, const real* y, real* out, int beta, long long count) {
  elementwise([](wide g, wide y) { return g * (1 + y * y); }, out, beta, count, g, y);
}

extern "C" __global__ void asin_forward(const real* x, real* out, int beta, long long count) {
  elementwise([](wide x) { return asin(x); }, out, beta, count, x);
}

extern "C" __global__ void asin_vjp(const real* g, const real* x, real* out, int beta, long long count) {
  elementwise([](wide g, wide x) { return g / sqrt(1 - x * x); }, out, beta, count, g, x);
}

extern "C" __global__ void acos_forward(const real* x, real* out, int beta, long long count) {
  elementwise([](wide x) { return acos(x); }, out, beta, count, x);
}

extern "C" __global__ void acos_vjp(const real* g, const real* x, real* out, int beta, long long count) {
  elementwise([](wide g, wide x) { return -g / sqrt(1 - x * x); }, out, beta, count, g, x);
}

extern "C" __global__ void atan_forward(const real* x, real* out, int beta, long long count) {
  elementwise([](wide x) { return atan(x); }, out, beta, count, x);
}

extern "C" __global__ void atan_vjp(const real* g, const real* x, real* out, int beta, long long count) {
  elementwise([](wide g, wide x) { return g / (1 + x * x); }, out, beta, count, g, x);
}

extern "C" __global__ void sinh_forward(const real* x, real* out, int beta, long long count) {
  elementwise([](wide x) { return sinh(x); }, out, beta, count, x);
}

extern "C" __global__ void sinh_vjp(const real* g, const real* x, real* out, int beta, long long count) {
  elementwise([](wide g, wide x) { return g * cosh(x); }, out, beta, count, g, x);
}

extern "C" __global__ void cosh_forward(const real* x, real* out, int beta, long long count) {
  elementwise([](wide x) { return cosh(x); }, out, beta, count, x);
}

extern "C" __global__ void cosh_vjp(const real* g, const real* x, real* out, int beta, long long count) {
  elementwise([](wide g, wide x) { return g * sinh(x); }, out, beta, count, g, x);
}

extern "C" __global__ void tanh_forward(const real* x, real* out, int beta, long long count) {
  elementwise([](wide x) { return tanh(x); }, out, beta, count, x);
}

extern "C" __global__ void tanh_vjp(const real* g, const real* y, real* out, int beta, long long count) {
  elementwise([](wide g, wide y) { return g * (1 - y * y); }, out, beta, count, g, y);
}

extern "C" __global__ void asinh_forward(const real* x, real* out, int beta, long long count) {
  elementwise([](wide x) { return asinh(x); }, out, beta, count, x);
}

extern "C" __global__ void asinh_vjp(const real* g, const real* x, real* out, int beta, long long count) {
  elementwise([](wide g, wide x) { return g / sqrt(x * x + 1); }, out, beta, count, g, x);
}

extern "C" __global__ void acosh_forward(const real* x, real* out, int beta, long long count) {
  elementwise([](wide x) { return acosh(x); }, out, beta, count, x);
}

extern "C" __global__ void acosh_vjp(const real* g, const real* x, real* out, int beta, long long count) {
  elementwise([](wide g, wide x) { return g / sqrt(x * x - 1); }, out, beta, count, g, x);
}

extern "C" __global__ void atanh_forward(const real* x, real* out, int beta, long long count) {
  elementwise([](wide x) { return atanh(x); }, out, beta, count, x);
}

extern "C" __global__ void atanh_vjp(const real* g, const real* x, real* out, int beta, long long count) {
  elementwise([](wide g, wide x) { return g / (1 - x * x); }, out, beta, count, g, x);
}

extern "C" __global__ void erf_forward(const real* x, real* out, int beta, long long count) {
  elementwise([](wide x) { return erf(x); }, out, beta, count, x);
}

extern "C" __global__ void erf_vjp(const real* g, const real* x, real* out, int beta, long long count) {
  elementwise([](wide g, wide x) { return g * wide(1.12837916709551257390) * exp(-x * x); }, out, beta, count, g, x);
}
