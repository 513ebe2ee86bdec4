// cross_entropy: see loss.py, whose kernels these are. A row of logits is read once, by a warp or a block. A pitch is
// how many numbers lie from one row to the next.
//
// A target that is no class, which the op refuses, makes a loss of NaN: nothing is read outside the row.
// (Four blocks at once, as in softmax.cu.)
#include "indices.cuh"
#include "rows.cuh"

// What a row with this target counts for.
__device__ inline wide weight_of(const real* weight, long long target, const Indices& classes) {
  if (!weight) return 1;
  return classes.has(target) ? widen(weight[target]) : wide(nanf(""));
}

extern "C" __global__ void __launch_bounds__(256, 4)
row_losses(const real* logits, const void* targets, int kind, const real* weight, long long ignore, wide smoothing,
           wide* out, int beta, wide* stats, int rows, int width, long long pitch) {
  const long long row = group_row();
  if (row >= rows) return;  // a whole group
  logits += row * pitch;
  const Exponentials all = exponentials(logits, width);
  const wide rest = log(all.sum);
  const Indices classes = {targets, kind, width};
  const long long target = classes.raw(row);
  wide spread = 0;  // the losses of all classes, for smoothing
  if (smoothing != 0 && weight) {
    spread = sum_row([&](wide z, wide w) { return ((all.top - z) + rest) * w; }, width, logits, weight);
  } else if (smoothing != 0) {
    spread = sum_row([&](wide z) { return (all.top - z) + rest; }, width, logits);
  }
  if (threadIdx.x) return;
  stats[row * 2] = all.top;
  stats[row * 2 + 1] = rest;
  wide loss = 0;
  if (target != ignore) {
    loss = classes.has(target) ? (all.top - widen(logits[target])) + rest : wide(nanf(""));
    loss *= weight_of(weight, target, classes);
    if (smoothing != 0) loss = (1 - smoothing) * loss + smoothing * spread / width;
  }
  store(out + row, loss, beta);
}

// The slopes of a row: factor (whole e^(z - top - rest) - even * weight), without a weight - even; less at_target for
// the class at `chosen`, which may be at no place.
struct Slopes {
  wide top, rest, factor, whole, at_target, even;
  int chosen;

  template <class... W>
  __device__ void row(real* out, int beta, int width, const real* logits, const W*... weight) const {
    over_row(
        [&](auto places, const auto& z, const auto&... weights) {
          constexpr int N = decltype(places)::NUMBERS;
#pragma unroll
          for (int k = 0; k < decltype(places)::PACKS; k++) {
            const unsigned int to_target = chosen - places[k];
            wide values[N];
#pragma unroll
            for (int i = 0; i < N; i++) {
              const wide share = power_of_e((widen(z.at[k].at[i]) - top) - rest);
              values[i] = share * whole - (even * ... * widen(weights.at[k].at[i]));
            }
            if (to_target < N) {  // not a question for each number
#pragma unroll
              for (int i = 0; i < N; i++) values[i] -= i == to_target ? at_target : wide(0);
            }
#pragma unroll
            for (int i = 0; i < N; i++) values[i] *= factor;
            store<N>(out + places[k], values, beta);
          }
        },
        width, out, logits, weight...);
  }
};

// `out` may be the logits.
extern "C" __global__ void __launch_bounds__(256, 4)
row_slopes(const wide* share, const real* logits, const void* targets, int kind, const real* weight, const wide* stats,
           long long ignore, wide smoothing, real* out, int beta, int rows, int width, long long pitch,
           long long out_pitch) {
  const long long row = group_row();
  if (row >= rows) return;
  logits += row * pitch, out += row * out_pitch;
  const Indices classes = {targets, kind, width};
  const long long given = classes.raw(row), target = given == ignore ? 0 : given;  // whatever it is, the share is 0
  const int chosen = classes.has(target) ? static_cast<int>(target) : -FULL;
  const wide at_target = (1 - smoothing) * weight_of(weight, target, classes), even = smoothing / width;
  wide whole = 1;  // of what softmax is taken
  if (weight) {
    whole = at_target;
    if (smoothing != 0) whole += even * sum_row([](wide w) { return w; }, width, weight);
  }
  const Slopes slopes = {stats[row * 2], stats[row * 2 + 1], share[row], whole, at_target, even, chosen};
  if (weight && smoothing != 0) slopes.row(out, beta, width, logits, weight);
  else slopes.row(out, beta, width, logits);
}

// Sums over each block's rows: of losses, unless they are null, and of what the rows count for. Parts: (blocks, 2)
extern "C" __global__ void __launch_bounds__(256, 4)
sum_rows(const real* losses, const void* targets, int kind, const real* weight, long long ignore, wide* parts, int rows,
         int width) {
  const Indices classes = {targets, kind, width};
  wide sum = 0, count = 0;
  for (long long row = blockIdx.x * 256ll + threadIdx.x; row < rows; row += gridDim.x * 256ll) {
    if (losses) sum += widen(losses[row]);
    const long long target = classes.raw(row);
    if (target != ignore) count += weight_of(weight, target, classes);
  }
  sum = group_sum(sum), count = group_sum(count);
  if (threadIdx.x) return;
  parts[blockIdx.x * 2] = sum;
  parts[blockIdx.x * 2 + 1] = count;
}

// The sum of one of the two over blocks, of which there are no more than threads.
__device__ inline wide sum_parts(const wide* parts, int which, int count) {
  return group_sum(threadIdx.x < count ? parts[threadIdx.x * 2 + which] : wide(0));
}

extern "C" __global__ void __launch_bounds__(256, 4) mean_loss(const wide* parts, real* out, int beta, int count) {
  const wide sum = sum_parts(parts, 0, count), rows = sum_parts(parts, 1, count);
  if (threadIdx.x == 0) store(out, sum / rows, beta);
}

// parts: null unless g is to be divided by what the rows count for; each: whether there is a g for each row
extern "C" __global__ void __launch_bounds__(256, 4)
row_shares(const real* g, bool each, const void* targets, int kind, long long ignore, const wide* parts, int count,
           real* out, int beta, int rows) {
  const wide whole = parts ? sum_parts(parts, 1, count) : wide(1);
  const long long row = blockIdx.x * 256ll + threadIdx.x;
  if (row >= rows) return;
  const bool ignored = Indices{targets, kind, 0}.raw(row) == ignore;
  store(out + row, ignored ? wide(0) : widen(g[each ? row : 0]) / whole, beta);
}
