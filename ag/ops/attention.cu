// Attention of our own, for float32 and float64 and where cuDNN is missing or declines: products of tiles in shared
// memory and an online softmax, so that of the scores no more than a tile is ever held. Arrays lie as they lie: each
// has strides, in elements, from sequence to sequence, head to head and row to row, and its columns side by side.
// Any sizes. A number is summed by one thread in one order: its bits do not depend on how blocks are scheduled.
// Bounds name four blocks beside each other so that sums stay in registers: left to itself the compiler spills some.
// Source: Dao et al., "FlashAttention", arXiv 2205.14135.
#include "attention_tiles.cuh"

// y and lse, see attend_kernel. Blocks: (sequence and head, tile of queries, from the last on, chunk of columns of y)
extern "C" __global__ void __launch_bounds__(64, 4) attend(
    const real* q, const real* k, const real* v, const real* bias, const bool* seen, real* y, wide* lse, int heads,
    int groups, int queries, int keys, int depth, int width, int causal, double scale, long long q_batch,
    long long q_head, long long q_row, long long k_batch, long long k_head, long long k_row, long long v_batch,
    long long v_head, long long v_row, long long mask_batch, long long mask_head, long long mask_query,
    long long mask_key, long long y_batch, long long y_head, long long y_row) {
  __shared__ Tile left, right, weights;
  const long long batch = blockIdx.x / heads, head = blockIdx.x % heads, group = head / (heads / groups);
  const Matrix query_rows = {q + batch * q_batch + head * q_head, q_row, queries, depth};
  const Matrix key_rows = {k + batch * k_batch + group * k_head, k_row, keys, depth};
  const Matrix value_rows = {v + batch * v_batch + group * v_head, v_row, keys, width};
  const Mask mask = {bias, seen, batch * mask_batch + head * mask_head, mask_query, mask_key,
                     queries, keys, causal, static_cast<wide>(scale)};
  const int first = (gridDim.y - 1 - blockIdx.y) * TILE, from = blockIdx.z * CHUNK;
  wide top[EACH], total[EACH] = {}, p[EACH][EACH], result[EACH][MINE] = {};
#pragma unroll
  for (int i = 0; i < EACH; i++) top[i] = unseen();
  for (int key = 0; key < mask.keys_of(first); key += TILE) {
    dots(p, query_rows, first, key_rows, key, left, right);
#pragma unroll
    for (int i = 0; i < EACH; i++) {
      wide largest = top[i], sum = 0;
#pragma unroll
      for (int j = 0; j < EACH; j++) {
        p[i][j] = mask.score(p[i][j], first + row_of(i), key + column_of(j));
        largest = Max()(p[i][j], largest);
      }
      largest = over_row(Max(), largest);
      const wide base = finite(largest), shrink = exp(top[i] - base);
#pragma unroll
      for (int j = 0; j < EACH; j++) {
        p[i][j] = exp(p[i][j] - base);
        sum += p[i][j];
        weights[row_of(i)][column_of(j)] = p[i][j];
      }
      top[i] = largest;
      total[i] = total[i] * shrink + over_row(Sum(), sum);
#pragma unroll
      for (int j = 0; j < MINE; j++) result[i][j] *= shrink;
    }
    combine<false>(result, weights, value_rows, key, from, right);
  }
#pragma unroll
  for (int i = 0; i < EACH; i++) {
    const int query = first + row_of(i);
    const wide share = total[i] == 0 ? 0 : 1 / total[i];
#pragma unroll
    for (int j = 0; j < MINE; j++) result[i][j] *= share;
    if (query < queries && blockIdx.z == 0 && column_of(0) == 0) {
      lse[static_cast<long long>(blockIdx.x) * queries + query] = finite(top[i]) + log(total[i]);
    }
  }
  write(y + batch * y_batch + head * y_head, y_row, queries, width, first, from, result, 0);
}

// inner = the sum of g y over a row. Blocks: (sequence and head, as many queries as threads)
extern "C" __global__ void __launch_bounds__(64) attend_inner(
    const real* g, const real* y, wide* inner, int heads, int queries, int width, long long g_batch, long long g_head,
    long long g_row, long long y_batch, long long y_head, long long y_row) {
  const long long batch = blockIdx.x / heads, head = blockIdx.x % heads;
  const long long query = static_cast<long long>(blockIdx.y) * blockDim.x + threadIdx.x;
  if (query >= queries) return;
  g += batch * g_batch + head * g_head + query * g_row;
  y += batch * y_batch + head * y_head + query * y_row;
  wide sum = 0;
  for (int c = 0; c < width; c++) sum += widen(g[c]) * widen(y[c]);
  inner[static_cast<long long>(blockIdx.x) * queries + query] = sum;
}

// dq. Blocks: (sequence and head, tile of queries, from the last on, chunk of columns)
extern "C" __global__ void __launch_bounds__(64, 4) attend_queries_vjp(
    const real* g, const real* q, const real* k, const real* v, const real* bias, const bool* seen, const wide* lse,
    const wide* inner, real* dq, int beta, int heads, int groups, int queries, int keys, int depth, int width,
    int causal, double scale, long long g_batch, long long g_head, long long g_row, long long q_batch,
    long long q_head, long long q_row, long long k_batch, long long k_head, long long k_row, long long v_batch,
    long long v_head, long long v_row, long long mask_batch, long long mask_head, long long mask_query,
    long long mask_key, long long dq_batch, long long dq_head, long long dq_row) {
  __shared__ Tile left, right, weights;
  const long long batch = blockIdx.x / heads, head = blockIdx.x % heads, group = head / (heads / groups);
  const long long row = static_cast<long long>(blockIdx.x) * queries;
  const Matrix slope_rows = {g + batch * g_batch + head * g_head, g_row, queries, width};
  const Matrix query_rows = {q + batch * q_batch + head * q_head, q_row, queries, depth};
  const Matrix key_rows = {k + batch * k_batch + group * k_head, k_row, keys, depth};
  const Matrix value_rows = {v + batch * v_batch + group * v_head, v_row, keys, width};
  const Mask mask = {bias, seen, batch * mask_batch + head * mask_head, mask_query, mask_key,
                     queries, keys, causal, static_cast<wide>(scale)};
  const int first = (gridDim.y - 1 - blockIdx.y) * TILE, from = blockIdx.z * CHUNK;
  wide p[EACH][EACH], slope[EACH][EACH], result[EACH][MINE] = {};
  for (int key = 0; key < mask.keys_of(first); key += TILE) {
    dots(p, query_rows, first, key_rows, key, left, right);
    dots(slope, slope_rows, first, value_rows, key, left, right);
    differentiate(p, slope, mask, lse + row, inner + row, first, key);
    spread(weights, slope, mask.scale);
    combine<false>(result, weights, key_rows, key, from, right);
  }
  write(dq + batch * dq_batch + head * dq_head, dq_row, queries, depth, first, from, result, beta);
}

// dk and dv, either of which may be null: sums over the heads that share them, and their queries.
// Blocks: (sequence and group of heads, tile of keys, chunk of columns)
extern "C" __global__ void __launch_bounds__(64, 4) attend_keys_vjp(
    const real* g, const real* q, const real* k, const real* v, const real* bias, const bool* seen, const wide* lse,
    const wide* inner, real* dk, real* dv, int dk_beta, int dv_beta, int heads, int groups, int queries, int keys,
    int depth, int width, int causal, double scale, long long g_batch, long long g_head, long long g_row,
    long long q_batch, long long q_head, long long q_row, long long k_batch, long long k_head, long long k_row,
    long long v_batch, long long v_head, long long v_row, long long mask_batch, long long mask_head,
    long long mask_query, long long mask_key, long long dk_batch, long long dk_head, long long dk_row,
    long long dv_batch, long long dv_head, long long dv_row) {
  __shared__ Tile left, right, weights;
  const long long batch = blockIdx.x / groups, group = blockIdx.x % groups;
  const int shared_by = heads / groups, first = blockIdx.y * TILE, from = blockIdx.z * CHUNK;
  const Matrix key_rows = {k + batch * k_batch + group * k_head, k_row, keys, depth};
  const Matrix value_rows = {v + batch * v_batch + group * v_head, v_row, keys, width};
  wide p[EACH][EACH], slope[EACH][EACH], of_keys[EACH][MINE] = {}, of_values[EACH][MINE] = {};
  for (long long head = group * shared_by; head < (group + 1) * shared_by; head++) {
    const long long row = (batch * heads + head) * queries;
    const Matrix slope_rows = {g + batch * g_batch + head * g_head, g_row, queries, width};
    const Matrix query_rows = {q + batch * q_batch + head * q_head, q_row, queries, depth};
    const Mask mask = {bias, seen, batch * mask_batch + head * mask_head, mask_query, mask_key,
                       queries, keys, causal, static_cast<wide>(scale)};
    for (int query = causal ? first : 0; query < queries; query += TILE) {
      dots(p, query_rows, query, key_rows, first, left, right);
      dots(slope, slope_rows, query, value_rows, first, left, right);
      differentiate(p, slope, mask, lse + row, inner + row, query, first);
      if (dv) {
        spread(weights, p, 1);
        combine<true>(of_values, weights, slope_rows, query, from, right);
      }
      if (dk) {
        __syncthreads();  // the weights' last readers are done
        spread(weights, slope, mask.scale);
        combine<true>(of_keys, weights, query_rows, query, from, right);
      }
    }
  }
  if (dk) write(dk + batch * dk_batch + group * dk_head, dk_row, keys, depth, first, from, of_keys, dk_beta);
  if (dv) write(dv + batch * dv_batch + group * dv_head, dv_row, keys, width, first, from, of_values, dv_beta);
}

// dmask, of numbers, whose sizes are 1 where it is broadcast. Blocks: a warp for each of its numbers
extern "C" __global__ void __launch_bounds__(32) attend_mask_vjp(
    const real* g, const real* q, const real* k, const real* v, const real* bias, const wide* lse, const wide* inner,
    real* dmask, int beta, int batches, int heads, int groups, int queries, int keys, int depth, int width, int causal,
    double scale, int mask_batches, int mask_heads, int mask_queries, int mask_keys, long long g_batch,
    long long g_head, long long g_row, long long q_batch, long long q_head, long long q_row, long long k_batch,
    long long k_head, long long k_row, long long v_batch, long long v_head, long long v_row, long long mask_batch,
    long long mask_head, long long mask_query, long long mask_key, long long d_batch, long long d_head,
    long long d_query, long long d_key) {
  const unsigned int m_key = blockIdx.x % mask_keys, m_query = blockIdx.x / mask_keys % mask_queries;
  const unsigned int m_both = blockIdx.x / mask_keys / mask_queries;
  const unsigned int m_head = m_both % mask_heads, m_batch = m_both / mask_heads;
  const int over_keys = keys / mask_keys, over_queries = queries / mask_queries, over_heads = heads / mask_heads;
  const long long count = 1LL * (batches / mask_batches) * over_heads * over_queries * over_keys;
  wide sum = 0;
  for (long long i = threadIdx.x; i < count; i += WARP) {
    const int key = m_key + i % over_keys, query = m_query + i / over_keys % over_queries;
    const int head = m_head + i / over_keys / over_queries % over_heads, group = head / (heads / groups);
    const long long batch = m_batch + i / over_keys / over_queries / over_heads;
    const Mask mask = {bias, nullptr, batch * mask_batch + head * mask_head, mask_query, mask_key,
                       queries, keys, causal, static_cast<wide>(scale)};
    const real* query_row = q + batch * q_batch + head * q_head + query * q_row;
    const real* key_row = k + batch * k_batch + group * k_head + key * k_row;
    const real* slope_row = g + batch * g_batch + head * g_head + query * g_row;
    const real* value_row = v + batch * v_batch + group * v_head + key * v_row;
    const long long row = (batch * heads + head) * queries + query;
    wide score = 0, slope = 0;
    for (int c = 0; c < depth; c++) score += widen(query_row[c]) * widen(key_row[c]);
    for (int c = 0; c < width; c++) slope += widen(slope_row[c]) * widen(value_row[c]);
    sum += exp(mask.score(score, query, key) - finite(lse[row])) * (slope - inner[row]);
  }
  sum = warp_sum(sum);
  dmask += m_batch * d_batch + m_head * d_head + m_query * d_query + m_key * d_key;
  if (threadIdx.x == 0) store(dmask, sum, beta);
}
