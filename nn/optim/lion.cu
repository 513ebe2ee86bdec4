// Lion: see lion.py, whose rule this is.
#include "rule.cuh"

struct Lion {
  static constexpr int KEPT = 1;  // exp_avg
  static constexpr int NUMBERS = 4;
  wide rate, beta1, rest1, beta2, rest2, shrink;

  __device__ Lion(const double* numbers, wide* const*)
      : rate(numbers[0]), beta1(numbers[1]), rest1(1 - numbers[1]), beta2(numbers[2]), rest2(1 - numbers[2]),
        shrink(1 - numbers[0] * numbers[3]) {}

  __device__ wide operator()(wide p, wide g, wide (&kept)[KEPT]) const {
    const wide direction = beta1 * kept[0] + rest1 * g;
    const wide sign = direction > 0 ? wide(1) : direction < 0 ? wide(-1) : direction;  // 0, or NaN
    kept[0] = beta2 * kept[0] + rest2 * g;
    return p * shrink - rate * sign;
  }
};

extern "C" __global__ void __launch_bounds__(256)
lion(const unsigned long long* table, int rows, int most, const double* numbers, const unsigned long long* position) {
  update<Lion>(table, rows, most, numbers, position);
}
