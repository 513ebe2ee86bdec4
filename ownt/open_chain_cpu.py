"""Open chains: chains of compiled kernels whose arrays are given at each call; see ownt.chain_cpu.

The words of a record that are addresses of arrays are filled in by generated code, from the arrays themselves: it
reads where their numbers are out of NumPy's objects, so that a call from Python has two arguments, however many arrays
there are. All else, shapes, strides and numbers, is what it was when the chain was made.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, final

import numpy
from llvmlite import ir
from numba import types
from numba.core.compiler_lock import global_compiler_lock

from ownt.addresses_cpu import DATA, ITEMS, knows_objects
from ownt.calls import Call
from ownt.chain_cpu import ADDRESS, INT64, LONGEST, WORDS, code_of, compiled_for, count_words, is_chainable, maker
from ownt.compiled_cpu import constants

__all__ = ["LONGEST", "OpenChain", "Parts", "arrays_of", "compiled_for", "is_constant", "linked", "takes"]

_FILLER = ir.FunctionType(INT64, [WORDS, INT64])

Place = tuple[int, int]  # the number of an array among those given, and bytes into it


class Parts(NamedTuple):
    """What a chain consists of.

    words:  the records of all calls, one after the other
    calls:  (which function makes the call, the first word of its record)
    blanks: (the word of an address, the number of the array among those given, bytes into it)
    held:   arrays that are always the same
    """

    words: list[int]
    calls: list[tuple[int, int]]
    blanks: list[tuple[int, int, int]]
    held: list[Any]

    @classmethod
    def of(cls, calls: Sequence[tuple[Call, Sequence[Place | None]]]) -> Parts:
        """Calls in order, of functions that a chain can take; each with the places of its arrays, in the order of
        `arrays_of`: where they lie among those that will be given, or None for one that is always the same."""
        made = cls([], [], [], [])
        for (function, arguments), places in calls:
            code = code_of(function)
            made.calls.append((code.caller, len(made.words)))
            found = _arrays(arguments, code.types, len(made.words) + 1)
            for (at, array), place in zip(found, places, strict=True):
                if place is None:
                    made.held.append(array)
                else:
                    made.blanks.append((at, *place))
            made.words.extend(code.record(arguments))
        return made

    def add(self, other: Parts, first: int) -> None:
        """Go on with another chain, whose arrays will be given from number `first` on."""
        start = len(self.words)
        self.words.extend(other.words)
        self.calls.extend((caller, start + at) for caller, at in other.calls)
        self.blanks.extend((start + at, first + number, offset) for at, number, offset in other.blanks)
        self.held.extend(other.held)


@final
class OpenChain:
    """Compiled calls on arrays that are given: `chain(arrays)`, a tuple, does them and says whether all went well.

    parts: with one blank at least
    """

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self._words = numpy.array(parts.words, numpy.uint64)
        base = self._words.ctypes.data
        self._calls = numpy.array([(caller, base + 8 * at) for caller, at in parts.calls], numpy.uint64)
        self._blanks = numpy.array([(base + 8 * at, *place) for at, *place in parts.blanks], numpy.uint64)
        head = self._blanks.ctypes.data, len(parts.blanks), self._calls.ctypes.data, len(parts.calls)
        self._head = numpy.array(head, numpy.uint64)
        self._address = self._head.ctypes.data
        self._run = _filler()

    def __call__(self, arrays: tuple[Any, ...]) -> bool:
        return self._run(self._address, arrays) < 0


def linked(chains: Iterable[tuple[OpenChain, int]]) -> list[OpenChain]:
    """Chains one after the other, as few as can be; each with the number that its first array has among all given."""
    found: list[Parts] = []
    for chain, first in chains:
        if not found or len(found[-1].calls) + len(chain.parts.calls) > LONGEST:
            found.append(Parts([], [], [], []))
        found[-1].add(chain.parts, first)
    return [OpenChain(parts) for parts in found]


def takes(function: Any) -> bool:
    """Whether it can be in an open chain."""
    return knows_objects and is_chainable(function)


def arrays_of(call: Call) -> list[Any]:
    """The arrays among the arguments of a call."""
    function, arguments = call
    return [array for _, array in _arrays(arguments, code_of(function).types, 0)]


def is_constant(array: Any) -> bool:
    """Whether it is one that overrides keep for all launches, and nobody writes to."""
    return constants.get(id(array)) is array


def _arrays(arguments: Sequence[Any], kinds: Sequence[Any], at: int) -> Iterator[tuple[int, Any]]:
    """(the word that has its address, the array) of all arrays among arguments, whose words begin at `at`."""
    for value, kind in zip(arguments, kinds, strict=True):
        if isinstance(kind, types.BaseTuple):
            yield from _arrays(value, kind.types, at)
        elif isinstance(kind, types.Array):
            yield at + ADDRESS, value
        at += count_words(kind)


@global_compiler_lock
@functools.cache
def _filler() -> Any:
    address = maker().load("ownt_open_chain", _FILLER, _write_filler)
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.py_object)(address)


def _write_filler(function: Any) -> None:
    """(head, tuple of arrays) -> what the chain returns

    head: where the blanks are, and how many, at least one; where the calls are, and how many. A blank is (where its
    word is, the number of an array, bytes into it).
    """
    head, arrays = function.args
    before, each, done = [function.append_basic_block() for _ in range(3)]
    build = ir.IRBuilder(before)

    def at(address: Any, i: int) -> Any:
        return build.load(build.gep(address, [INT64(i)]))

    blanks, count = build.inttoptr(at(head, 0), WORDS), at(head, 1)
    items = build.inttoptr(build.add(arrays, INT64(ITEMS)), WORDS)
    build.branch(each)
    build.position_at_end(each)
    i = build.phi(INT64)
    i.add_incoming(INT64(0), before)
    blank = build.gep(blanks, [build.mul(i, INT64(3))])
    array = build.load(build.gep(items, [at(blank, 1)]))
    data = build.load(build.inttoptr(build.add(array, INT64(DATA)), WORDS))
    build.store(build.add(data, at(blank, 2)), build.inttoptr(at(blank, 0), WORDS))
    following = build.add(i, INT64(1))
    i.add_incoming(following, each)
    build.cbranch(build.icmp_signed("<", following, count), each, done)
    build.position_at_end(done)
    chain = build.inttoptr(INT64(maker().chain), ir.FunctionType(INT64, [WORDS, INT64]).as_pointer())
    build.ret(build.call(chain, [build.inttoptr(at(head, 2), WORDS), at(head, 3)]))
