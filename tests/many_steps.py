"""Train a tiny GPT for many steps with the garbage collector off; print growth of memory and of addresses as JSON.

    python tests/many_steps.py STEPS [leak]

leak: keep 1 kB a step, as a control.
"""

from __future__ import annotations

import gc
import json
import sys

import nn
import ownt

STEADY = 100  # by then everything that is allocated once has been


def main(steps: int, leak: bool) -> dict[str, object]:
    ownt.manual_seed(0)
    config = nn.GPTConfig(vocab_size=27, block_size=16, n_layer=1, n_head=4, n_embd=16, dropout=0.1)
    model = nn.GPT(config)
    optimizer = nn.AdamW(model.parameters())
    x, y = ownt.randint(0, 27, 1, 16), ownt.randint(0, 27, 1, 16)
    arena, leaked, traces = ownt.memory.scratch(), [], set()
    gc.collect()
    gc.disable()
    for step in range(steps):
        arena.trace = []
        with ownt.scratch.mark():
            loss = model.loss(x, y)
            loss.backward()
            del loss
        optimizer.step()
        optimizer.zero_grad()
        if leak:
            leaked.append(ownt.zeros(256))
        if step == STEADY:
            before = ownt.memory.resident_bytes(), arena.capacity, ownt.memory.ledger.live
        if step >= STEADY:
            traces.add(tuple(arena.trace))
    after = ownt.memory.resident_bytes(), arena.capacity, ownt.memory.ledger.live
    names = ("resident", "capacity", "live")
    return {name: b - a for name, a, b in zip(names, before, after)} | {"different_addresses": len(traces)}


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), leak="leak" in sys.argv)))
