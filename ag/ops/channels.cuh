// How blocks walk over (N, C, ...) channel by channel, whether the channels lie first or last in memory.
#pragma once
#include "common.cuh"

constexpr int THREADS = 256;  // of a block: of blockDim.x places along the channels, blockDim.y threads each

struct Images {
  int rows, width, pixels;  // numbers of a channel, channels, and pixels of an image: 0 if the channels lie last
};

// A thread's place: it takes N numbers at a time, of as many channels if those lie last, else of pixels of one channel.
template <int N, bool LAST> struct Walk {
  static constexpr int SIZE = N, CHANNELS = LAST ? N : 1;
  Images images;
  int channel;  // the first of its channels

  __device__ bool inside() const { return channel < images.width; }

  // body(at) for all that it takes of the block's part, which is the blockIdx.y-th of gridDim.y
  template <class F> __device__ void each(F body) const {
    const int units = LAST ? images.rows : images.rows / N, block = blockIdx.y;
    const int end = units * (block + 1ll) / gridDim.y;
    int i = units * static_cast<long long>(block) / gridDim.y + threadIdx.y;
    for (; inside() && i < end; i += blockDim.y) body(at(i));
  }

  __device__ long long at(int unit) const {
    if (LAST) return static_cast<long long>(unit) * images.width + channel;
    const int of_image = images.pixels / N;
    return (unit / of_image * static_cast<long long>(images.width) + channel) * images.pixels + unit % of_image * N;
  }
};

template <int N, bool LAST, class F> __device__ inline void walk_over(const Images& images, F& body) {
  const int step = blockDim.x * (LAST ? N : 1);
  for (int first = blockIdx.x * step; first < images.width; first += gridDim.x * step) {
    body(Walk<N, LAST>{images, first + static_cast<int>(threadIdx.x) * (LAST ? N : 1)});
  }
}

// body(walk) with each thread's place, as often as the grid has too few blocks for the channels; by all threads of a
// block together, those with no channel too. N is FULL where memory allows it, of which `aligned` says a part.
template <class F> __device__ inline void by_channel(const Images& images, bool aligned, F body) {
  const bool packs = aligned && (images.pixels ? images.pixels : images.width) % FULL == 0;
  if (images.pixels) packs ? walk_over<FULL, false>(images, body) : walk_over<1, false>(images, body);
  else packs ? walk_over<FULL, true>(images, body) : walk_over<1, true>(images, body);
}

template <class T> __device__ inline T* shared_by_block() {
  __shared__ T all[THREADS * FULL];
  return all;
}

// Adds up what threads of one column found, and what one found of the pixels of one channel: the first has it then.
template <class W, int N, class T> __device__ inline bool collect(const W& walk, T (&found)[N]) {
  T* own = shared_by_block<T>() + (threadIdx.y * blockDim.x + threadIdx.x) * N;
#pragma unroll
  for (int i = 0; i < N; i++) own[i] = found[i];
  __syncthreads();
  for (int half = blockDim.y / 2; half; half /= 2) {
    for (int i = 0; threadIdx.y < half && i < N; i++) own[i].add(own[half * blockDim.x * N + i]);
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < N; i++) found[i] = own[i];
#pragma unroll
  for (int i = W::CHANNELS; i < N; i++) found[0].add(found[i]);
  return threadIdx.y == 0 && walk.inside();
}

// A block's columns of sums of parts (count, width), which are of several numbers each.
struct Column {
  int count, width, channel;

  __device__ Column(int count, int width)
      : count(count), width(width), channel(blockIdx.x * blockDim.x + threadIdx.x) {}

  // sum = those of the thread's channel; whether this thread has it
  template <class T> __device__ bool sum(const wide* parts, T& sum) const {
    T total[1] = {};
    for (int part = threadIdx.y; channel < width && part < count; part += blockDim.y) {
      total[0].add(reinterpret_cast<const T*>(parts)[part * static_cast<long long>(width) + channel]);
    }
    const bool first = collect(Walk<1, true>{{count, width, 0}, channel}, total);
    sum = total[0];
    return first;
  }
};

// Of a norm's gradient: sums of g, and of g times the normalized x.
struct Slopes {
  wide plain, along;

  __device__ void add(const Slopes& other) { plain += other.plain, along += other.along; }
};
