// SGD: see sgd.py, whose rule this is.
#include "rule.cuh"

struct Sgd {
  static constexpr int KEPT = 1;  // momentum_buffer, or none
  static constexpr int NUMBERS = 4;
  wide rate, momentum, share, decay;
  bool nesterov, momentous;

  __device__ Sgd(const double* numbers, wide* const* state, bool nesterov)
      : rate(numbers[0]), momentum(numbers[1]), share(1 - numbers[2]), decay(numbers[3]), nesterov(nesterov),
        momentous(state[0] != nullptr) {}

  __device__ wide operator()(wide p, wide g, wide (&kept)[KEPT]) const {
    if (decay != 0) g += decay * p;
    if (momentous) {
      kept[0] = momentum * kept[0] + share * g;
      g = nesterov ? g + momentum * kept[0] : kept[0];
    }
    return p - rate * g;
  }
};

extern "C" __global__ void __launch_bounds__(256)
sgd(const unsigned long long* table, int rows, int most, const double* numbers, const unsigned long long* position,
    bool nesterov) {
  update<Sgd>(table, rows, most, numbers, position, nesterov);
}
