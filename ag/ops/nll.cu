// nll_loss: see nll.py, whose kernels these are. A thread has a row. A target that is no class is not looked up.
#include "common.cuh"
#include "indices.cuh"

extern "C" __global__ void __launch_bounds__(256)
nll_forward(const real* x, const void* targets, int kind, const real* weight, long long ignore, real* out, int beta,
            int rows, int width) {
  const long long row = blockIdx.x * 256ll + threadIdx.x;
  if (row >= rows) return;
  const Indices classes = {targets, kind, width};
  const long long target = classes.raw(row);
  wide loss = 0;
  if (target != ignore) {
    const bool known = classes.has(target);
    loss = known ? -widen(x[row * width + target]) * (weight ? widen(weight[target]) : wide(1)) : wide(nanf(""));
  }
  store(out + row, loss, beta);
}

extern "C" __global__ void __launch_bounds__(256)
nll_backward(const real* share, const void* targets, int kind, const real* weight, long long ignore, real* out,
             int rows, int width) {
  const long long row = blockIdx.x * 256ll + threadIdx.x;
  if (row >= rows) return;
  const Indices classes = {targets, kind, width};
  const long long target = classes.raw(row);
  if (target == ignore || !classes.has(target)) return;
  store(out + row * width + target, -widen(share[row]) * (weight ? widen(weight[target]) : wide(1)), 1);
}
