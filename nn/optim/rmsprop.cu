// RMSprop: see rmsprop.py, whose rule this is.
#include "rule.cuh"

struct Rmsprop {
  static constexpr int KEPT = 3;  // square_avg, and momentum_buffer and grad_avg or none
  static constexpr int NUMBERS = 5;
  wide rate, alpha, rest, eps, decay, momentum;
  bool momentous, centered;

  __device__ Rmsprop(const double* numbers, wide* const* state)
      : rate(numbers[0]), alpha(numbers[1]), rest(1 - numbers[1]), eps(numbers[2]), decay(numbers[3]),
        momentum(numbers[4]), momentous(state[1] != nullptr), centered(state[2] != nullptr) {}

  __device__ wide operator()(wide p, wide g, wide (&kept)[KEPT]) const {
    if (decay != 0) g += decay * p;
    kept[0] = alpha * kept[0] + rest * (g * g);
    wide variance = kept[0];
    if (centered) {
      kept[2] += rest * (g - kept[2]);
      variance -= kept[2] * kept[2];
    }
    g /= sqrt(variance) + eps;
    if (momentous) g = kept[1] = momentum * kept[1] + g;
    return p - rate * g;
  }
};

extern "C" __global__ void __launch_bounds__(256)
rmsprop(const unsigned long long* table, int rows, int most, const double* numbers,
        const unsigned long long* position) {
  update<Rmsprop>(table, rows, most, numbers, position);
}
