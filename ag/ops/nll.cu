// nll_loss: see nll.py, whose kernels these are. A thread has a row. A target that is no class is not looked up.
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(256)
nll_forward(const real* x, const long long* targets, const real* weight, long long ignore, real* out, int beta,
            int rows, int width) {
  const long long row = blockIdx.x * 256ll + threadIdx.x;
  if (row >= rows) return;
  const long long target = targets[row];
  wide loss = 0;
  if (target != ignore) {
    const bool known = target >= 0 && target < width;
    loss = known ? -widen(x[row * width + target]) * (weight ? widen(weight[target]) : wide(1)) : wide(nanf(""));
  }
  store(out + row, loss, beta);
}

extern "C" __global__ void __launch_bounds__(256)
nll_backward(const real* share, const long long* targets, const real* weight, long long ignore, real* out, int rows,
             int width) {
  const long long row = blockIdx.x * 256ll + threadIdx.x;
  if (row >= rows) return;
  const long long target = targets[row];
  if (target == ignore || target < 0 || target >= width) return;
  store(out + row * width + target, -widen(share[row]) * (weight ? widen(weight[target]) : wide(1)), 1);
}
