// Choosing elements: see select.py. `number` stands for the operand that is one. NaN comes through comparisons.
#include "strided.cuh"

extern "C" __global__ void maximum(const real* a, Axes a_strides, const real* b, Axes b_strides, wide number, real* out,
                                   Axes out_strides, int beta, Axes sizes) {
  strided([](wide a, wide b) { return a > b || a != a ? a : b; }, out, out_strides, beta, sizes,
          operand(a, a_strides, number), operand(b, b_strides, number));
}

extern "C" __global__ void minimum(const real* a, Axes a_strides, const real* b, Axes b_strides, wide number, real* out,
                                   Axes out_strides, int beta, Axes sizes) {
  strided([](wide a, wide b) { return a < b || a != a ? a : b; }, out, out_strides, beta, sizes,
          operand(a, a_strides, number), operand(b, b_strides, number));
}

extern "C" __global__ void larger_vjp(const real* g, Axes g_strides, const real* a, Axes a_strides, const real* b,
                                      Axes b_strides, wide number, real* out, Axes out_strides, int beta, Axes sizes) {
  strided([](wide g, wide a, wide b) { return a < b ? wide(0) : a == b ? wide(0.5) * g : g; }, out, out_strides, beta,
          sizes, operand(g, g_strides), operand(a, a_strides, number), operand(b, b_strides, number));
}

extern "C" __global__ void clip(const real* x, Axes x_strides, wide low, wide high, real* out, Axes out_strides,
                                int beta, Axes sizes) {
  auto within = [=](wide x) {
    const wide raised = x < low ? low : x;
    return raised > high ? high : raised;
  };
  strided(within, out, out_strides, beta, sizes, operand(x, x_strides));
}

extern "C" __global__ void clip_vjp(const real* g, Axes g_strides, const real* x, Axes x_strides, wide low, wide high,
                                    real* out, Axes out_strides, int beta, Axes sizes) {
  strided([=](wide g, wide x) { return x >= low && x <= high ? g : wide(0); }, out, out_strides, beta, sizes,
          operand(g, g_strides), operand(x, x_strides));
}

enum class Truth : unsigned char {};
enum class Integer : long long {};
__device__ inline wide widen(Truth x) { return x != Truth(0); }
__device__ inline wide widen(Integer x) { return x != Integer(0); }

// mask_bytes: of a truth value 1, of an int64 8; 0 for numbers like those it chooses from
extern "C" __global__ void where(const void* mask, int mask_bytes, Axes mask_strides, const real* a, Axes a_strides,
                                 const real* b, Axes b_strides, wide number, real* out, Axes out_strides, int beta,
                                 Axes sizes) {
  const Operand<real> yes = operand(a, a_strides, number), no = operand(b, b_strides, number);
  auto choose = [](wide mask, wide a, wide b) { return mask != 0 ? a : b; };
  if (mask_bytes == 1) {
    const auto chosen = operand(static_cast<const Truth*>(mask), mask_strides);
    strided(choose, out, out_strides, beta, sizes, chosen, yes, no);
  } else if (mask_bytes == 8) {
    const auto chosen = operand(static_cast<const Integer*>(mask), mask_strides);
    strided(choose, out, out_strides, beta, sizes, chosen, yes, no);
  } else {
    strided(choose, out, out_strides, beta, sizes, operand(static_cast<const real*>(mask), mask_strides), yes, no);
  }
}

// An operand that is 1 in a triangle of each matrix and 0 elsewhere; places are counted as elements are.
struct Triangle {
  long long rows, columns, diagonal;
  bool upper;
};

__device__ inline bool in_packs(const Triangle&) { return true; }

template <int N> __device__ inline Numbers<N> numbers(const Triangle& triangle, const Place&, long long first) {
  Numbers<N> found;
#pragma unroll
  for (int i = 0; i < N; i++) {
    const long long beyond = (first + i) % triangle.columns - (first + i) / triangle.columns % triangle.rows;
    found.at[i] = triangle.upper ? beyond >= triangle.diagonal : beyond <= triangle.diagonal;
  }
  return found;
}

extern "C" __global__ void triangle(const real* x, Axes x_strides, long long rows, long long columns,
                                    long long diagonal, bool upper, real* out, Axes out_strides, int beta,
                                    Axes sizes) {
  strided([](wide x, wide inside) { return inside != 0 ? x : wide(0); }, out, out_strides, beta, sizes,
          operand(x, x_strides), Triangle{rows, columns, diagonal, upper});
}
