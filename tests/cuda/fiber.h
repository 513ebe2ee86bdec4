// Fibers: functions with stacks of their own that hand the processor to each other. For x86-64 and the System V ABI.
#pragma once
#include <stdlib.h>

#include <memory>

namespace executor {

constexpr size_t STACK_BYTES = 64 << 10;

struct Fiber {
  void* top = nullptr;                                  // its stack pointer while it does not run
  std::unique_ptr<char, void (*)(void*)> stack{nullptr, free};  // kept when it has ended, for the next time
};

extern "C" void executor_switch(void** from, void* to);
asm(R"(
.text
.globl executor_switch
executor_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");

inline void switch_fiber(Fiber& from, Fiber& to) { executor_switch(&from.top, to.top); }

// Have `main`, which never returns, run when the fiber is switched to.
inline void start_fiber(Fiber& fiber, void (*main)()) {
  if (!fiber.stack) fiber.stack.reset(static_cast<char*>(aligned_alloc(64, STACK_BYTES)));
  void** top = reinterpret_cast<void**>(fiber.stack.get() + STACK_BYTES - 64);
  *--top = nullptr;                         // where main would return to
  *--top = reinterpret_cast<void*>(main);   // where the switch returns to
  for (int saved = 0; saved < 6; saved++) *--top = nullptr;
  fiber.top = top;
}

}  // namespace executor
