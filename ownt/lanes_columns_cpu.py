"""Matrices by lanes (see ownt.lanes_cpu): rows of a few numbers as vectors of a column each, and squares transposed.

A vector whose lanes are as many rows apart is gathered number by number; whole rows are loaded at once, and their
numbers brought to where they belong in registers.
"""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ownt.compiled_cpu import OPTIONS
from ownt.lanes_cpu import BYTES, I32, gather, kind_of, lanes, load, place_of, scatter, store

_FOUR = 4  # numbers of a row that are loaded at once


def _shuffled(builder: Any, a: Any, b: Any, numbers: Any) -> Any:
    """Lanes of two vectors, by their numbers, those of b after those of a."""
    numbers = list(numbers)
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(numbers)), numbers))


def _crossed(builder: Any, count: int, vectors: list[Any]) -> list[Any]:
    """Of four vectors, squares of four lanes of each transposed."""

    def pick(a: Any, b: Any, order: tuple[int, ...]) -> Any:
        numbers = [run + i % _FOUR + i // _FOUR * count for run in range(0, count, _FOUR) for i in order]
        return _shuffled(builder, a, b, numbers)

    a, b, c, d = vectors
    low, high = (0, 4, 1, 5), (2, 6, 3, 7)
    pairs = [(pick(a, b, half), pick(c, d, half)) for half in (low, high)]
    return [pick(*pair, half) for pair in pairs for half in ((0, 1, 4, 5), (2, 3, 6, 7))]


def _row(context: Any, builder: Any, array: Any, args: Any, number: int) -> Any:
    """The place of four numbers in row `number`, for (array, offset, pitch)."""
    value, offset, pitch = args
    at = builder.add(offset, builder.mul(pitch, ir.Constant(offset.type, number)))
    kind = ir.VectorType(kind_of(array).llvm.element, _FOUR)
    return builder.bitcast(place_of(context, builder, array, value, at), kind.as_pointer())


def _vector(context: Any, builder: Any, array: Any, args: Any, number: int) -> Any:
    """The place of vector `number` from an offset on, for (array, offset)."""
    kind, (value, at) = kind_of(array), args
    at = builder.add(at, ir.Constant(at.type, number * kind.count))
    return builder.bitcast(place_of(context, builder, array, value, at), kind.llvm.as_pointer())


@intrinsic
def _load_four(context, target, at, array, offset, pitch):
    """Put four columns of as many rows as there are lanes to vectors from target[at] on."""
    kind = kind_of(array)

    def generate(context, builder, signature, args):
        rows = [
            builder.load(_row(context, builder, array, args[2:], number), align=kind.bytes)
            for number in range(kind.count)
        ]
        groups = []
        for first in range(_FOUR):
            parts = rows[first::_FOUR]
            while len(parts) > 1:
                wide = 2 * parts[0].type.count
                parts = [_shuffled(builder, parts[i], parts[i + 1], range(wide)) for i in range(0, len(parts), 2)]
            groups.append(parts[0])
        for number, column in enumerate(_crossed(builder, kind.count, groups)):
            builder.store(column, _vector(context, builder, target, args[:2], number), align=kind.bytes)
        return context.get_dummy_value()

    return types.void(target, types.intp, array, types.intp, types.intp), generate


def _to_four(adds: bool) -> Any:
    """Puts four vectors from source[at] on to four columns of as many rows as there are lanes, or adds them."""

    @intrinsic
    def function(context, array, offset, pitch, source, at):
        kind = kind_of(array)

        def generate(context, builder, signature, args):
            columns = [
                builder.load(_vector(context, builder, source, args[3:], number), align=kind.bytes)
                for number in range(_FOUR)
            ]
            groups = _crossed(builder, kind.count, columns)
            for number in range(kind.count):
                group, first = groups[number % _FOUR], number // _FOUR * _FOUR
                row = _shuffled(builder, group, group, range(first, first + _FOUR))
                place = _row(context, builder, array, args[:3], number)
                if adds:
                    row = builder.fadd(builder.load(place, align=kind.bytes), row)
                builder.store(row, place, align=kind.bytes)
            return context.get_dummy_value()

        return types.void(array, types.intp, types.intp, source, types.intp), generate

    return function


_store_four, _add_four = _to_four(adds=False), _to_four(adds=True)


def _transposed(builder: Any, count: int, rows: list[Any]) -> list[Any]:
    """A square of as many vectors as each has lanes, transposed."""
    rows, lanes = list(rows), range(count)
    step = 1
    while step < count:  # squares of `step` numbers off the diagonal of those twice as large change places
        for i in [number for number in lanes if not number & step]:
            a, b = rows[i], rows[i + step]
            rows[i] = _shuffled(builder, a, b, [e - step + count if e & step else e for e in lanes])
            rows[i + step] = _shuffled(builder, a, b, [e + count if e & step else e + step for e in lanes])
        step *= 2
    return rows


def _transpose(adds: bool) -> Any:
    """As many rows of numbers as there are lanes, put to columns, or added to them."""

    @intrinsic
    def function(context, target, to, to_pitch, source, at, pitch):
        kind = kind_of(source)

        def generate(context, builder, signature, args):
            def place(array: Any, args: Any, number: int) -> Any:
                return builder.bitcast(_row(context, builder, array, args, number), kind.llvm.as_pointer())

            rows = [builder.load(place(source, args[3:], i), align=kind.bytes) for i in range(kind.count)]
            for number, row in enumerate(_transposed(builder, kind.count, rows)):
                there = place(target, args[:3], number)
                if adds:
                    row = builder.fadd(builder.load(there, align=kind.bytes), row)
                builder.store(row, there, align=kind.bytes)
            return context.get_dummy_value()

        return types.void(target, types.intp, types.intp, source, types.intp, types.intp), generate

    return function


transpose, _transpose_added = _transpose(adds=False), _transpose(adds=True)


@intrinsic(prefer_literal=True)
def _stack(context, like, count):
    """So many numbers of the stack, until the kernel returns."""
    kind = types.CPointer(like.dtype)

    def generate(context, builder, signature, args):
        made = cgutils.alloca_once(builder, kind_of(like).llvm.element, ir.Constant(I32, count.literal_value))
        made.align = BYTES  # so that no vector lies on two cache lines
        return made

    return kind(like, count), generate


@numba.njit(**OPTIONS)
def workspace(like, count):
    """An uninitialised array of so many numbers, a constant, of the dtype of `like`."""
    return numba.carray(_stack(like, count), count)


@numba.njit(**OPTIONS)
def load_columns(target, at, array, offset, pitch, count, width):
    """Put `width` columns of `count` rows, as many as there are lanes at most, to vectors from target[at] on.

    The first row begins at array[offset], each `pitch` elements after the one before. Lanes beyond are 0.
    """
    n = lanes(array)
    done = 0
    if count == n:
        while done + n <= width:
            transpose(target, at + done * n, n, array, offset + done, pitch)
            done += n
        while done + 4 <= width:
            _load_four(target, at + done * n, array, offset + done, pitch)
            done += 4
    for d in range(done, width):
        store(target, at + d * n, gather(array, offset + d, pitch, count))


@numba.njit(**OPTIONS)
def store_columns(array, offset, pitch, count, width, beta, source, at):
    """The reverse; or add to what is there, if beta is 1."""
    n = lanes(array)
    done = 0
    if count == n:
        while done + n <= width:
            if beta:
                _transpose_added(array, offset + done, pitch, source, at + done * n, n)
            else:
                transpose(array, offset + done, pitch, source, at + done * n, n)
            done += n
        while done + 4 <= width:
            if beta:
                _add_four(array, offset + done, pitch, source, at + done * n)
            else:
                _store_four(array, offset + done, pitch, source, at + done * n)
            done += 4
    for d in range(done, width):
        value = load(source, at + d * n)
        if beta:
            value = value + gather(array, offset + d, pitch, count)
        scatter(array, offset + d, pitch, count, value)
