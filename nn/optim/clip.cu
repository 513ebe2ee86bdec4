// Clipping: see clip.py, whose kernels these are.
#include "ahead.cuh"
#include "table.cuh"

// Norms of an order: a sum, or the largest, with one more number; how two are joined; and the norm that it gives. In
// double: squares of float overflow.
struct Euclidean {
  using Join = Sum;
  __device__ double with(double sum, double x) const { return fma(x, x, sum); }
  __device__ double root(double sum) const { return sqrt(sum); }
};
struct Absolute {
  using Join = Sum;
  __device__ double with(double sum, double x) const { return sum + fabs(x); }
  __device__ double root(double sum) const { return sum; }
};
struct Largest {
  using Join = Max;
  __device__ double with(double largest, double x) const { return Max()(largest, fabs(x)); }
  __device__ double root(double largest) const { return largest; }
};
struct OfOrder {
  using Join = Sum;
  double order;
  __device__ double with(double sum, double x) const { return sum + pow(fabs(x), order); }
  __device__ double root(double sum) const { return pow(sum, 1 / order); }
};

// body(norm); order: above 0, may be infinite
template <class F> __device__ inline void by_order(double order, F body) {
  if (order == 2) body(Euclidean());
  else if (order == 1) body(Absolute());
  else if (order > 1e300) body(Largest());
  else body(OfOrder{order});
}

// each(places, packs) for `size` numbers, of 16 bytes where they are aligned.
template <class T, class F> __device__ inline void over_numbers(const F& each, T* x, int size) {
  const int whole = aligned(x) ? size / FULL * FULL : 0;
  over_packs<FULL>(each, threadIdx.x * FULL, whole, blockDim.x * FULL, x);
  over_packs<1, 1>(each, whole + threadIdx.x, size, blockDim.x, x);
}

// Of each piece what it contributes.
extern "C" __global__ void __launch_bounds__(256, 4)
norm_of_pieces(const unsigned long long* table, int rows, int most, double order, double* parts) {
  const Piece piece(table, rows, Piece::HEAD + 1, most);
  by_order(order, [&](auto norm) {
    const typename decltype(norm)::Join join;
    double sums[2] = {0, 0};  // which need not wait for each other
    auto add = [&](auto places, const auto& packs) {
#pragma unroll
      for (int k = 0; k < decltype(places)::PACKS; k++) {
#pragma unroll
        for (int n = 0; n < decltype(places)::NUMBERS; n++) {
          sums[n % 2] = norm.with(sums[n % 2], widen(packs.at[k].at[n]));
        }
      }
    };
    over_numbers(add, piece.at<const real>(0), piece.size);
    const double sum = block_reduce(join, join(sums[0], sums[1]));
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
  });
}

// The norm, of what all pieces contribute; by one block.
extern "C" __global__ void __launch_bounds__(1024)
norm_of_parts(const double* parts, int count, double order, double* out) {
  by_order(order, [&](auto norm) {
    const typename decltype(norm)::Join join;
    double sum = 0;
    auto add = [&](auto places, const auto& packs) {
#pragma unroll
      for (int k = 0; k < decltype(places)::PACKS; k++) sum = join(sum, packs.at[k].at[0]);
    };
    over_packs<1, 4>(add, threadIdx.x, count, blockDim.x, parts);
    sum = block_reduce(join, sum);
    if (threadIdx.x == 0) *out = norm.root(sum);
  });
}

template <class F> __device__ inline void change(const word* table, int rows, int most, F function) {
  const Piece piece(table, rows, Piece::HEAD + 1, most);
  real* x = piece.at<real>(0);
  auto each = [&](auto places, const auto& packs) {
    constexpr int N = decltype(places)::NUMBERS;
#pragma unroll
    for (int k = 0; k < decltype(places)::PACKS; k++) {
      Pack<N> changed;
#pragma unroll
      for (int n = 0; n < N; n++) changed.at[n] = narrow<real>(function(widen(packs.at[k].at[n])));
      store<N>(x + places[k], changed);
    }
  };
  over_numbers(each, x, piece.size);
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
