// Adam and AdamW: see adam.py, whose rule this is.
#include "rule.cuh"

struct Adam {
  static constexpr int KEPT = 2;  // exp_avg, exp_avg_sq
  static constexpr int NUMBERS = 7;
  wide beta1, rest1, beta2, rest2, eps, decay, shrink, rate, scale;

  __device__ Adam(const double* numbers, wide* const*, bool decoupled)
      : beta1(numbers[1]), rest1(1 - numbers[1]), beta2(numbers[2]), rest2(1 - numbers[2]), eps(numbers[3]),
        decay(decoupled ? 0 : numbers[4]), shrink(decoupled ? 1 - numbers[0] * numbers[4] : 1),
        rate(numbers[0] / numbers[5]), scale(1 / numbers[6]) {}

  __device__ wide operator()(wide p, wide g, wide (&kept)[KEPT]) const {
    if (decay != 0) g += decay * p;
    kept[0] = beta1 * kept[0] + rest1 * g;
    kept[1] = beta2 * kept[1] + rest2 * (g * g);
    return p * shrink - rate * kept[0] / (sqrt(kept[1] * scale) + eps);
  }
};

extern "C" __global__ void __launch_bounds__(256)
adam(const unsigned long long* table, int rows, int most, const double* numbers, const unsigned long long* position,
     bool decoupled) {
  update<Adam>(table, rows, most, numbers, position, decoupled);
}
