// Runs CUDA C++ on a CPU: each thread of a block is a fiber of one thread of the process, and blocks run one by one.
//
// It finds what a compiler cannot: results that depend on the order of threads and blocks, on shared memory that was
// never written (it begins as NaN), barriers that not all threads reach. It cannot find what only real concurrency
// shows: the order in which memory becomes visible.
#pragma once
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <functional>
#include <string>
#include <type_traits>
#include <vector>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <vector_types.h>

#include "fiber.h"

#ifdef __SANITIZE_ADDRESS__  // which watches the bounds of arrays, but not of those in a section of our own
#define EXECUTOR_SHARED static
#else
#define EXECUTOR_SHARED __attribute__((section("executor_shared"))) static
#endif
extern unsigned char __start_executor_shared[] __attribute__((weak)), __stop_executor_shared[] __attribute__((weak));

namespace executor {

enum Order { FORWARD, REVERSED, SHUFFLED };
enum Wait { NOTHING, BLOCK, WARP, END };  // what a thread waits for

constexpr unsigned LANES = 32;

struct Dim {
  unsigned x = 1, y = 1, z = 1;
  unsigned count() const { return x * y * z; }
  Dim at(unsigned i) const { return {i % x, i / x % y, i / x / y}; }
};

struct Thread {
  Fiber fiber;
  Dim index;
  unsigned number = 0;
  Wait wait = NOTHING;
  int site = 0;         // the barrier that it waits at
  unsigned exchanges = 0;  // the shuffles that it took part in
};

struct Warp {  // two shuffles' values: a lane may come to the next while others read this one's
  alignas(16) unsigned char values[2][LANES][16];
  unsigned exchange[2][LANES] = {};  // which of its shuffles a lane's value is for
};

struct State {
  Dim grid, block, block_index;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  unsigned char* dynamic = nullptr;
  Thread* current = nullptr;
  Fiber scheduler;
  const std::function<void()>* body = nullptr;
  Order order = FORWARD;
  uint32_t random = 1;
  int deleted = -1;                // the barrier that does nothing
  std::vector<unsigned char> met;  // barriers that threads have come to
  std::string error;
};
inline State state;

inline std::string name_of(const Thread& thread) {
  char text[120];
  const Dim &t = thread.index, &b = state.block_index;
  snprintf(text, sizeof text, "thread (%u, %u, %u) of block (%u, %u, %u)", t.x, t.y, t.z, b.x, b.y, b.z);
  return text;
}

// Leave the processor to others until the scheduler has seen all whom this thread waits for.
inline void wait(Wait what, int site) {
  Thread& thread = *state.current;
  thread.wait = what, thread.site = site;
  switch_fiber(thread.fiber, state.scheduler);
}

inline void barrier(Wait what, int site) {
  if (site >= 0 && state.met.size() <= size_t(site)) state.met.resize(site + 1);
  if (site >= 0) state.met[site] = 1;
  if (site < 0 || site != state.deleted) wait(what, site);
}

// A value from each lane of a warp to others: to lane i from lane source(i).
template <class T, class F> T exchange(T value, F source) {
  static_assert(sizeof(T) <= 16, "a shuffle moves 16 bytes at most");
  Thread& thread = *state.current;
  Warp& warp = state.warps[thread.number / LANES];
  const unsigned lane = thread.number % LANES, count = ++thread.exchanges, slot = count % 2;
  memcpy(warp.values[slot][lane], &value, sizeof value);
  warp.exchange[slot][lane] = count;
  wait(WARP, -1 - int(sizeof value));
  const unsigned from = source(lane);
  T result;
  if (warp.exchange[slot][from] == count) memcpy(&result, warp.values[slot][from], sizeof result);
  else memset(&result, 0xff, sizeof result);  // of a lane that there is not
  return result;
}

template <class T> T shuffle(T value, int source, int width) {
  return exchange(value, [=](unsigned lane) { return lane / width * width + unsigned(source) % width; });
}
template <class T> T shuffle_xor(T value, int mask, int width) {
  return exchange(value, [=](unsigned lane) { return (lane ^ mask) / width > lane / width ? lane : lane ^ mask; });
}
template <class T> T shuffle_up(T value, unsigned by, int width) {
  return exchange(value, [=](unsigned lane) { return lane % width < by ? lane : lane - by; });
}
template <class T> T shuffle_down(T value, unsigned by, int width) {
  return exchange(value, [=](unsigned lane) { return lane % width + by >= unsigned(width) ? lane : lane + by; });
}

// Bits of the lanes for which `vote` holds.
inline unsigned ballot(bool vote) {
  unsigned bits = 0;
  exchange(uint32_t(vote), [&](unsigned lane) {
    const Thread& thread = *state.current;
    const Warp& warp = state.warps[thread.number / LANES];
    const unsigned slot = thread.exchanges % 2;
    for (unsigned other = 0; other < LANES; other++) {
      uint32_t theirs;
      memcpy(&theirs, warp.values[slot][other], sizeof theirs);
      if (theirs && warp.exchange[slot][other] == thread.exchanges) bits |= 1u << other;
    }
    return lane;
  });
  return bits;
}

inline void thread_main() {
  (*state.body)();
  wait(END, 0);
}

// 0 ... count - 1 in the order of this run.
inline std::vector<unsigned> in_order(unsigned count) {
  std::vector<unsigned> numbers(count);
  for (unsigned i = 0; i < count; i++) numbers[i] = state.order == REVERSED ? count - 1 - i : i;
  for (unsigned i = count; state.order == SHUFFLED && i > 1; i--) {
    state.random ^= state.random << 13, state.random ^= state.random >> 17, state.random ^= state.random << 5;
    std::swap(numbers[i - 1], numbers[state.random % i]);
  }
  return numbers;
}

// Let threads first ... end - 1 pass if they all wait for `what`; those that have ended cannot be waited for.
inline bool release(Wait what, unsigned first, unsigned end) {
  const Thread* one = nullptr;
  const Thread* ended = nullptr;
  for (unsigned i = first; i < end; i++) {
    const Thread& thread = state.threads[i];
    if (thread.wait == END) ended = &thread;
    else if (thread.wait != what) return false;
    else if (one && one->site != thread.site) {
      state.error = name_of(*one) + " and " + name_of(thread) + " wait at different barriers";
      return false;
    } else one = &thread;
  }
  if (!one) return false;
  if (ended && (what == BLOCK || one->site < -1)) {
    state.error = name_of(*ended) + " has ended, while " + name_of(*one) + " waits for it at a barrier";
    return false;
  }
  for (unsigned i = first; i < end; i++) {
    if (state.threads[i].wait == what) state.threads[i].wait = NOTHING;
  }
  return true;
}

// Run the threads of a warp that can run, each as far as it comes; whether others of the warp then can.
inline bool run_warp(unsigned warp, unsigned count) {
  const unsigned first = warp * LANES, end = std::min(first + LANES, count);
  for (unsigned lane : in_order(end - first)) {
    Thread& thread = state.threads[first + lane];
    if (thread.wait != NOTHING) continue;
    state.current = &thread;
    switch_fiber(state.scheduler, thread.fiber);
  }
  return release(WARP, first, end);
}

// Run threads until all have ended. A warp runs as far ahead of the others as it can; in shuffled order, they mix.
inline void run_block(unsigned count) {
  const unsigned warps = (count + LANES - 1) / LANES;
  do {
    for (bool moves = true; moves;) {
      moves = false;
      for (unsigned warp : in_order(warps)) {
        bool more = run_warp(warp, count);
        while (more && state.order != SHUFFLED) more = run_warp(warp, count);
        moves = moves || more;
      }
    }
  } while (state.error.empty() && release(BLOCK, 0, count));
  for (const Thread& thread : state.threads) {
    if (thread.wait != END && state.error.empty()) {
      state.error = name_of(thread) + " waits at a barrier that others do not come to";
    }
  }
}

__attribute__((no_sanitize("address"))) inline void poison(unsigned char* begin, unsigned char* end) {
  for (volatile unsigned char* at = begin; at < end; at++) *at = 0xff;
}

// Run a kernel; what went wrong, "" if nothing did.
inline const char* run(Dim grid, Dim block, size_t shared_bytes, const std::function<void()>& body) {
  static std::string error;
  state.grid = grid, state.block = block, state.body = &body, state.random = 2463534242u;
  state.error.clear();
  const unsigned count = block.count();
  state.threads.resize(count);
  state.warps.resize((count + LANES - 1) / LANES);
  void* dynamic = nullptr;
  if (posix_memalign(&dynamic, 16, std::max<size_t>(shared_bytes, 1))) return "no memory for shared memory";
  state.dynamic = static_cast<unsigned char*>(dynamic);
  for (unsigned index : in_order(grid.count())) {
    state.block_index = grid.at(index);
    poison(state.dynamic, state.dynamic + shared_bytes);
    poison(__start_executor_shared, __stop_executor_shared);
    std::fill(state.warps.begin(), state.warps.end(), Warp{});
    for (unsigned i = 0; i < count; i++) {
      Thread& thread = state.threads[i];
      thread.index = block.at(i), thread.number = i, thread.wait = NOTHING, thread.exchanges = 0;
      start_fiber(thread.fiber, thread_main);
    }
    run_block(count);
    if (!state.error.empty()) break;
  }
  free(dynamic);
  error = state.error;
  return error.c_str();
}

template <class T> T atomic_add(T* at, T value) {
  const T before = *at;
  *at = before + value;
  return before;
}
template <class T> T atomic_max(T* at, T value) {
  const T before = *at;
  *at = std::max(before, value);
  return before;
}

}  // namespace executor

extern "C" {
void executor_set(int order, int deleted) {
  executor::state.order = executor::Order(order), executor::state.deleted = deleted;
}
int executor_met(int site) { return size_t(site) < executor::state.met.size() && executor::state.met[site]; }
}

#include "language.h"
