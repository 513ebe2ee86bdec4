// dropout: see dropout.py. Numbers are drawn in the order in which the elements are counted, however they lie.
#include "draws.cuh"

extern "C" __global__ void dropout(const real* x, Axes x_strides, const unsigned long long* base,
                                   unsigned long long key, unsigned long long offset, unsigned int least,
                                   wide factor, real* out, Axes out_strides, int beta, Axes sizes) {
  auto kept = [=](wide x, unsigned int drawn) { return drawn >= least ? x * factor : wide(0); };
  strided(kept, out, out_strides, beta, sizes, operand(x, x_strides), draws(base, key, offset));
}
