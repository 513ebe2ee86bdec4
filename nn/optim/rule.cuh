// An optimizer's rule, applied to many parameters in one launch; see rule.py.
//
//   struct Rule {
//     static constexpr int KEPT = 2;      // tensors that it keeps for a parameter
//     static constexpr int NUMBERS = 6;   // of a row, after the factor of the gradient
//     __device__ Rule(const double* numbers, wide* const* state, ...);   // state: where what is kept lies, or null
//     __device__ wide operator()(wide p, wide g, wide (&kept)[KEPT]) const;   // the new p
//   };
#pragma once
#include "table.cuh"

// N numbers as they are computed with, side by side. Of WHOLE a warp reads and writes one run of memory at a time; more,
// as many as 16 bytes of half precision hold, would be every second 16 bytes of it.
constexpr int WHOLE = 16 / sizeof(wide);
template <int N> struct __align__(N * sizeof(wide) < 16 ? N * sizeof(wide) : 16) Wides {
  wide at[N];
};
template <int N> __device__ inline Wides<N>& wides(wide* from) { return *reinterpret_cast<Wides<N>*>(from); }

// Up or down, up with a probability that is the share of the way from the lower neighbour to the upper; 16 bits choose.
// Only bfloat16, whose numbers are float32's first halves, is rounded so: all others to the nearest.
template <class T> __device__ inline T round_at_random(wide x, unsigned int) { return narrow<T>(x); }
template <> __device__ inline __nv_bfloat16 round_at_random<__nv_bfloat16>(wide x, unsigned int choice) {
  const unsigned int bits = __float_as_uint(static_cast<float>(x));
  if ((bits & 0x7f800000u) == 0x7f800000u) return narrow<__nv_bfloat16>(x);  // infinite or NaN
  return __ushort_as_bfloat16(static_cast<unsigned short>((bits + choice) >> 16));
}

enum { WEIGHTS, GRADIENT, MASTER, STATE };  // columns of the table; those of what is kept come last

// position: (key, offset) of the random stream, to round the weights at random; null to round to the nearest
template <class Rule, class... Flags>
__device__ inline void update(const word* table, int rows, int most, const double* numbers, const word* position,
                              Flags... flags) {
  const Piece piece(table, rows, Piece::HEAD + STATE + Rule::KEPT, most);
  const double* settings = numbers + static_cast<long long>(piece.row) * (1 + Rule::NUMBERS);
  const wide factor = settings[0];
  const real* gradient = piece.at<const real>(GRADIENT);
  real* weights = piece.at<real>(WEIGHTS);
  wide* master = piece.at<wide>(MASTER);
  wide* state[Rule::KEPT];
  bool is_aligned = aligned(gradient, weights, master);
#pragma unroll
  for (int k = 0; k < Rule::KEPT; k++) {
    state[k] = piece.at<wide>(STATE + k);
    is_aligned = is_aligned && aligned(state[k]);
  }
  const Rule rule(settings + 1, state, flags...);
  const word key = position ? position[0] : 0, drawn = position ? position[1] + piece.number() : 0;

  each_pack<WHOLE>(piece.size, is_aligned, [&](auto count, long long i) {
    constexpr int N = decltype(count)::value;
    const Pack<N> g = load<N>(gradient + i);
    Pack<N> p = load<N>(weights + i);
    Wides<N> wider, kept[Rule::KEPT];
    if (master) wider = wides<N>(master + i);
#pragma unroll
    for (int k = 0; k < Rule::KEPT; k++) {
      if (state[k]) kept[k] = wides<N>(state[k] + i);
    }
#pragma unroll
    for (int n = 0; n < N; n++) {
      wide now = widen(p.at[n]), values[Rule::KEPT];
      if (master && widen(narrow<real>(wider.at[n])) == now) now = wider.at[n];  // else others wrote the weight
#pragma unroll
      for (int k = 0; k < Rule::KEPT; k++) values[k] = state[k] ? kept[k].at[n] : wide(0);
      wider.at[n] = rule(now, widen(g.at[n]) * factor, values);
#pragma unroll
      for (int k = 0; k < Rule::KEPT; k++) kept[k].at[n] = values[k];
      p.at[n] = position ? round_at_random<real>(wider.at[n], random_bits(key, drawn + i + n) >> 48)
                         : narrow<real>(wider.at[n]);
    }
    store<N>(weights + i, p);
    if (master) wides<N>(master + i) = wider;
#pragma unroll
    for (int k = 0; k < Rule::KEPT; k++) {
      if (state[k]) wides<N>(state[k] + i) = kept[k];
    }
  });
}
