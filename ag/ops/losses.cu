// Losses of each element, their sums and their slopes: see losses.py. `option` is that of the loss, 0 if it has none.
#include "activation.cuh"
#include "along.cuh"

struct Squared {
  __device__ wide value(wide x, wide t) const { return (x - t) * (x - t); }
  __device__ wide by_x(wide x, wide t) const { return 2 * (x - t); }
  __device__ wide by_targets(wide x, wide t) const { return 2 * (t - x); }
};

struct Absolute {
  __device__ wide value(wide x, wide t) const { return fabs(x - t); }
  __device__ wide by_x(wide x, wide t) const { return sign_of(x - t); }
  __device__ wide by_targets(wide x, wide t) const { return sign_of(t - x); }
};

struct Smooth {
  wide width;  // of the stretch that is a parabola

  __device__ wide value(wide x, wide t) const {
    const wide d = fabs(x - t);
    return d < width ? wide(0.5) * d * d / width : d - wide(0.5) * width;
  }
  __device__ wide by_x(wide x, wide t) const { return fabs(x - t) >= width ? sign_of(x - t) : (x - t) / width; }
  __device__ wide by_targets(wide x, wide t) const { return -by_x(x, t); }
};

struct Divergence {
  bool logs;  // whether the targets are logarithms, as x are

  __device__ wide value(wide x, wide t) const { return logs ? exp(t) * (t - x) : t * log(t == 0 ? 1 : t) - t * x; }
  __device__ wide by_x(wide, wide t) const { return logs ? -exp(t) : -t; }
  __device__ wide by_targets(wide x, wide t) const { return logs ? exp(t) * (t - x + 1) : log(t) + 1 - x; }
};

struct Logits {
  __device__ wide value(wide x, wide t, wide weight, wide positive) const {
    return weight * ((1 - t) * x + (1 + (positive - 1) * t) * log_of_1_and_exp(-x));
  }
  __device__ wide by_x(wide x, wide t, wide weight, wide positive) const {
    return weight * ((1 - t) - (1 + (positive - 1) * t) * logistic(-x));
  }
  __device__ wide by_targets(wide x, wide, wide weight, wide positive) const {
    return weight * (positive == 1 ? -x : (positive - 1) * log_of_1_and_exp(-x) - x);
  }
};

extern "C" __global__ void finish_loss(const wide* sum, wide factor, real* out, int beta) {
  store(out, *sum * factor, beta);
}

extern "C" __global__ void mse_loss(const real* x, Axes x_strides, const real* t, Axes t_strides, wide option,
                                    real* out, Axes out_strides, int beta, Axes sizes) {
  const Squared loss;
  strided([=](wide x, wide t) { return loss.value(x, t); }, out, out_strides, beta, sizes, operand(x, x_strides),
          operand(t, t_strides));
}

extern "C" __global__ void mse_loss_vjp_x(const real* g, Axes g_strides, const real* x, Axes x_strides, const real* t,
                                          Axes t_strides, wide option, real* out, Axes out_strides, int beta,
                                          Axes sizes) {
  const Squared loss;
  strided([=](wide g, wide x, wide t) { return g * loss.by_x(x, t); }, out, out_strides, beta, sizes,
          operand(g, g_strides), operand(x, x_strides), operand(t, t_strides));
}

extern "C" __global__ void mse_loss_vjp_targets(const real* g, Axes g_strides, const real* x, Axes x_strides,
                                                const real* t, Axes t_strides, wide option, real* out, Axes out_strides,
                                                int beta, Axes sizes) {
  const Squared loss;
  strided([=](wide g, wide x, wide t) { return g * loss.by_targets(x, t); }, out, out_strides, beta, sizes,
          operand(g, g_strides), operand(x, x_strides), operand(t, t_strides));
}

extern "C" __global__ void __launch_bounds__(256)
mse_loss_sum(const real* x, Axes x_kept, Axes x_along, const real* t, Axes t_kept, Axes t_along, wide option, Axes kept,
             Axes along, wide* out) {
  const Group group = {kept, along};
  if (group.idle()) return;
  const Squared loss;
  group.sum([=](wide x, wide t) { return loss.value(x, t); }, out, group.line(x, x_kept, x_along),
            group.line(t, t_kept, t_along));
}

extern "C" __global__ void l1_loss(const real* x, Axes x_strides, const real* t, Axes t_strides, wide option, real* out,
                                   Axes out_strides, int beta, Axes sizes) {
  const Absolute loss;
  strided([=](wide x, wide t) { return loss.value(x, t); }, out, out_strides, beta, sizes, operand(x, x_strides),
          operand(t, t_strides));
}

extern "C" __global__ void l1_loss_vjp_x(const real* g, Axes g_strides, const real* x, Axes x_strides, const real* t,
                                         Axes t_strides, wide option, real* out, Axes out_strides, int beta,
                                         Axes sizes) {
  const Absolute loss;
  strided([=](wide g, wide x, wide t) { return g * loss.by_x(x, t); }, out, out_strides, beta, sizes,
          operand(g, g_strides), operand(x, x_strides), operand(t, t_strides));
}

extern "C" __global__ void l1_loss_vjp_targets(const real* g, Axes g_strides, const real* x, Axes x_strides,
                                               const real* t, Axes t_strides, wide option, real* out, Axes out_strides,
                                               int beta, Axes sizes) {
  const Absolute loss;
  strided([=](wide g, wide x, wide t) { return g * loss.by_targets(x, t); }, out, out_strides, beta, sizes,
          operand(g, g_strides), operand(x, x_strides), operand(t, t_strides));
}

extern "C" __global__ void __launch_bounds__(256)
l1_loss_sum(const real* x, Axes x_kept, Axes x_along, const real* t, Axes t_kept, Axes t_along, wide option, Axes kept,
            Axes along, wide* out) {
  const Group group = {kept, along};
  if (group.idle()) return;
  const Absolute loss;
  group.sum([=](wide x, wide t) { return loss.value(x, t); }, out, group.line(x, x_kept, x_along),
            group.line(t, t_kept, t_along));
}

extern "C" __global__ void smooth_l1_loss(const real* x, Axes x_strides, const real* t, Axes t_strides, wide option,
                                          real* out, Axes out_strides, int beta, Axes sizes) {
  const Smooth loss{option};
  strided([=](wide x, wide t) { return loss.value(x, t); }, out, out_strides, beta, sizes, operand(x, x_strides),
          operand(t, t_strides));
}

extern "C" __global__ void smooth_l1_loss_vjp_x(const real* g, Axes g_strides, const real* x, Axes x_strides,
                                                const real* t, Axes t_strides, wide option, real* out, Axes out_strides,
                                                int beta, Axes sizes) {
  const Smooth loss{option};
  strided([=](wide g, wide x, wide t) { return g * loss.by_x(x, t); }, out, out_strides, beta, sizes,
          operand(g, g_strides), operand(x, x_strides), operand(t, t_strides));
}

extern "C" __global__ void smooth_l1_loss_vjp_targets(const real* g, Axes g_strides, const real* x, Axes x_strides,
                                                      const real* t, Axes t_strides, wide option, real* out,
                                                      Axes out_strides, int beta, Axes sizes) {
  const Smooth loss{option};
  strided([=](wide g, wide x, wide t) { return g * loss.by_targets(x, t); }, out, out_strides, beta, sizes,
          operand(g, g_strides), operand(x, x_strides), operand(t, t_strides));
}

extern "C" __global__ void __launch_bounds__(256)
smooth_l1_loss_sum(const real* x, Axes x_kept, Axes x_along, const real* t, Axes t_kept, Axes t_along, wide option,
                   Axes kept, Axes along, wide* out) {
  const Group group = {kept, along};
  if (group.idle()) return;
  const Smooth loss{option};
  group.sum([=](wide x, wide t) { return loss.value(x, t); }, out, group.line(x, x_kept, x_along),
            group.line(t, t_kept, t_along));
}

extern "C" __global__ void kl_div(const real* x, Axes x_strides, const real* t, Axes t_strides, wide option, real* out,
                                  Axes out_strides, int beta, Axes sizes) {
  const Divergence loss{option != 0};
  strided([=](wide x, wide t) { return loss.value(x, t); }, out, out_strides, beta, sizes, operand(x, x_strides),
          operand(t, t_strides));
}

extern "C" __global__ void kl_div_vjp_x(const real* g, Axes g_strides, const real* x, Axes x_strides, const real* t,
                                        Axes t_strides, wide option, real* out, Axes out_strides, int beta,
                                        Axes sizes) {
  const Divergence loss{option != 0};
  strided([=](wide g, wide x, wide t) { return g * loss.by_x(x, t); }, out, out_strides, beta, sizes,
          operand(g, g_strides), operand(x, x_strides), operand(t, t_strides));
}

extern "C" __global__ void kl_div_vjp_targets(const real* g, Axes g_strides, const real* x, Axes x_strides,
                                              const real* t, Axes t_strides, wide option, real* out, Axes out_strides,
                                              int beta, Axes sizes) {
  const Divergence loss{option != 0};
  strided([=](wide g, wide x, wide t) { return g * loss.by_targets(x, t); }, out, out_strides, beta, sizes,
          operand(g, g_strides), operand(x, x_strides), operand(t, t_strides));
}

extern "C" __global__ void __launch_bounds__(256)
kl_div_sum(const real* x, Axes x_kept, Axes x_along, const real* t, Axes t_kept, Axes t_along, wide option, Axes kept,
           Axes along, wide* out) {
  const Group group = {kept, along};
  if (group.idle()) return;
  const Divergence loss{option != 0};
  group.sum([=](wide x, wide t) { return loss.value(x, t); }, out, group.line(x, x_kept, x_along),
            group.line(t, t_kept, t_along));
}

// Without them, weight and positive are 1.
extern "C" __global__ void binary_cross_entropy_with_logits(const real* x, Axes x_strides, const real* t,
                                                            Axes t_strides, const real* weight, Axes weight_strides,
                                                            const real* positive, Axes positive_strides, real* out,
                                                            Axes out_strides, int beta, Axes sizes) {
  auto loss = [](wide x, wide t, wide weight, wide positive) { return Logits().value(x, t, weight, positive); };
  strided(loss, out, out_strides, beta, sizes, operand(x, x_strides), operand(t, t_strides),
          operand(weight, weight_strides, 1), operand(positive, positive_strides, 1));
}

extern "C" __global__ void binary_cross_entropy_with_logits_vjp_x(const real* g, Axes g_strides, const real* x,
                                                                  Axes x_strides, const real* t, Axes t_strides,
                                                                  const real* weight, Axes weight_strides,
                                                                  const real* positive, Axes positive_strides,
                                                                  real* out, Axes out_strides, int beta, Axes sizes) {
  auto slope = [](wide g, wide x, wide t, wide weight, wide positive) {
    return g * Logits().by_x(x, t, weight, positive);
  };
  strided(slope, out, out_strides, beta, sizes, operand(g, g_strides), operand(x, x_strides), operand(t, t_strides),
          operand(weight, weight_strides, 1), operand(positive, positive_strides, 1));
}

extern "C" __global__ void binary_cross_entropy_with_logits_vjp_targets(const real* g, Axes g_strides, const real* x,
                                                                        Axes x_strides, const real* t, Axes t_strides,
                                                                        const real* weight, Axes weight_strides,
                                                                        const real* positive, Axes positive_strides,
                                                                        real* out, Axes out_strides, int beta,
                                                                        Axes sizes) {
  auto slope = [](wide g, wide x, wide t, wide weight, wide positive) {
    return g * Logits().by_targets(x, t, weight, positive);
  };
  strided(slope, out, out_strides, beta, sizes, operand(g, g_strides), operand(x, x_strides), operand(t, t_strides),
          operand(weight, weight_strides, 1), operand(positive, positive_strides, 1));
}

extern "C" __global__ void __launch_bounds__(256)
binary_cross_entropy_with_logits_sum(const real* x, Axes x_kept, Axes x_along, const real* t, Axes t_kept,
                                     Axes t_along, const real* weight, Axes weight_kept, Axes weight_along,
                                     const real* positive, Axes positive_kept, Axes positive_along, Axes kept,
                                     Axes along, wide* out) {
  const Group group = {kept, along};
  if (group.idle()) return;
  auto loss = [](wide x, wide t, wide weight, wide positive) { return Logits().value(x, t, weight, positive); };
  group.sum(loss, out, group.line(x, x_kept, x_along), group.line(t, t_kept, t_along),
            group.line(weight, weight_kept, weight_along, 1), group.line(positive, positive_kept, positive_along, 1));
}
