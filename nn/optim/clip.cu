// Clipping: see clip.py, whose kernels these are.
#include "table.cuh"

// What numbers contribute to their norm of an order, a sum or a maximum, in double: squares of float overflow.
struct Norm {
  double order;  // above 0; may be infinite

  __device__ bool is_maximum() const { return order > 1e300; }
  __device__ double term(double x) const {
    if (order == 2) return x * x;
    return order == 1 || is_maximum() ? fabs(x) : pow(fabs(x), order);
  }
  __device__ double join(double a, double b) const { return is_maximum() ? Max()(a, b) : a + b; }
  __device__ double of_block(double value) const {
    return is_maximum() ? block_reduce(Max(), value) : block_reduce(Sum(), value);
  }
  __device__ double root(double sum) const {
    if (order == 2) return sqrt(sum);
    return order == 1 || is_maximum() ? sum : pow(sum, 1 / order);
  }
};

// Of each piece what it contributes.
extern "C" __global__ void __launch_bounds__(256)
norm_of_pieces(const unsigned long long* table, int rows, int most, double order, double* parts) {
  const Piece piece(table, rows, Piece::HEAD + 1, most);
  const real* x = piece.at<const real>(0);
  const Norm norm = {order};
  double sum = 0;
  each_pack<FULL>(piece.size, aligned(x), [&](auto count, long long i) {
    constexpr int N = decltype(count)::value;
    const Pack<N> pack = load<N>(x + i);
#pragma unroll
    for (int n = 0; n < N; n++) sum = norm.join(sum, norm.term(widen(pack.at[n])));
  });
  sum = norm.of_block(sum);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

// The norm, of what all pieces contribute; by one block.
extern "C" __global__ void __launch_bounds__(256) norm_of_parts(const double* parts, int count, double order, double* out) {
  const Norm norm = {order};
  double sum = 0;
  for (int i = threadIdx.x; i < count; i += blockDim.x) sum = norm.join(sum, parts[i]);
  sum = norm.of_block(sum);
  if (threadIdx.x == 0) *out = norm.root(sum);
}

template <class F> __device__ inline void change(const word* table, int rows, int most, F function) {
  const Piece piece(table, rows, Piece::HEAD + 1, most);
  real* x = piece.at<real>(0);
  each_pack<FULL>(piece.size, aligned(x), [&](auto count, long long i) {
    constexpr int N = decltype(count)::value;
    Pack<N> pack = load<N>(x + i);
#pragma unroll
    for (int n = 0; n < N; n++) pack.at[n] = narrow<real>(function(widen(pack.at[n])));
    store<N>(x + i, pack);
  });
}

extern "C" __global__ void __launch_bounds__(256)
scale(const unsigned long long* table, int rows, int most, wide factor) {
  change(table, rows, most, [=](wide x) { return x * factor; });
}

extern "C" __global__ void __launch_bounds__(256)
limit(const unsigned long long* table, int rows, int most, wide limit) {
  change(table, rows, most, [=](wide x) { return x > limit ? limit : x < -limit ? -limit : x; });
}

extern "C" __global__ void __launch_bounds__(256)
limit_norm(const unsigned long long* table, int rows, int most, const double* norm, double max_norm) {
  const double factor = max_norm / (*norm + 1e-6);
  if (factor >= 1) return;  // NaN is not to pass for a small norm
  change(table, rows, most, [factor = static_cast<wide>(factor)](wide x) { return x * factor; });
}
