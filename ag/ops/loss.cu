// cross_entropy: see loss.py, whose kernels these are. A row of logits is read once, by a warp or a block. A pitch is how
// many numbers lie from one row to the next.
//
// A target that is no class, which the op refuses, makes a loss of NaN: nothing is read outside the row.
// (Four blocks at once, as in softmax.cu.)
#include "rows.cuh"

__device__ inline bool is_class(long long target, int width) { return target >= 0 && target < width; }

// What a row with this target counts for.
__device__ inline wide weight_of(const real* weight, long long target, int width) {
  if (!weight) return 1;
  return is_class(target, width) ? widen(weight[target]) : wide(nanf(""));
}

extern "C" __global__ void __launch_bounds__(256, 4)
row_losses(const real* logits, const long long* targets, const real* weight, long long ignore, wide smoothing,
           wide* out, int beta, wide* stats, int rows, int width, long long pitch) {
  const long long row = group_row();
  if (row >= rows) return;  // a whole group
  logits += row * pitch;
  const Exponentials all = exponentials(logits, width);
  const wide rest = log(all.sum);
  const long long target = targets[row];
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
    loss = is_class(target, width) ? (all.top - widen(logits[target])) + rest : wide(nanf(""));
    loss *= weight_of(weight, target, width);
    if (smoothing != 0) loss = (1 - smoothing) * loss + smoothing * spread / width;
  }
  store(out + row, loss, beta);
}

// `out` may be the logits.
extern "C" __global__ void __launch_bounds__(256, 4)
row_slopes(const wide* share, const real* logits, const long long* targets, const real* weight, const wide* stats,
           long long ignore, wide smoothing, real* out, int beta, int rows, int width, long long pitch,
           long long out_pitch) {
  const long long row = group_row();
  if (row >= rows) return;
  logits += row * pitch, out += row * out_pitch;
  const wide top = stats[row * 2], rest = stats[row * 2 + 1], factor = share[row], even = smoothing / width;
  const long long target = targets[row] == ignore ? 0 : targets[row];  // whatever it is, the share is 0
  const wide at_target = (1 - smoothing) * weight_of(weight, target, width);
  wide whole = 1;  // of what softmax is taken
  if (weight) {
    whole = at_target;
    if (smoothing != 0) whole += even * sum_row([](wide w) { return w; }, width, weight);
  }
  over_row(
      [&](auto n, int c) {
        constexpr int N = decltype(n)::value;
        const Pack<N> pack = load<N>(logits + c);
        wide values[N];
#pragma unroll
        for (int i = 0; i < N; i++) {
          wide slope = power_of_e((widen(pack.at[i]) - top) - rest) * whole;
          if (c + i == target) slope -= at_target;
          if (smoothing != 0) slope -= even * (weight ? widen(weight[c + i]) : wide(1));
          values[i] = slope * factor;
        }
        store<N>(out + c, values, beta);
      },
      width, out, logits);
}

// Sums over each block's rows: of losses, unless they are null, and of what the rows count for. Parts: (blocks, 2)
extern "C" __global__ void __launch_bounds__(256, 4)
sum_rows(const real* losses, const long long* targets, const real* weight, long long ignore, wide* parts, int rows,
         int width) {
  wide sum = 0, count = 0;
  for (long long row = blockIdx.x * 256ll + threadIdx.x; row < rows; row += gridDim.x * 256ll) {
    if (losses) sum += widen(losses[row]);
    if (targets[row] != ignore) count += weight_of(weight, targets[row], width);
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
row_shares(const real* g, bool each, const long long* targets, long long ignore, const wide* parts, int count,
           real* out, int beta, int rows) {
  const wide whole = parts ? sum_parts(parts, 1, count) : wide(1);
  const long long row = blockIdx.x * 256ll + threadIdx.x;
  if (row < rows) store(out + row, targets[row] == ignore ? wide(0) : widen(g[each ? row : 0]) / whole, beta);
}
