"""Products of matrices in tiles that stay in registers, of rows that lie anywhere: for kernels that BLAS does not fit.

BLAS copies its operands before it multiplies. Here rows are found through a table of addresses, as a convolution
needs them, and the other matrix lies in panels as wide as a vector, which are copied once for many products.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ownt.compiled_cpu import FAST
from ownt.lanes_cpu import I64, Lanes, kind_of, place_of, spread

ROWS = 6  # of a tile
VECTORS = 4 if llvmlite.binding.get_host_cpu_features().get("avx512f") else 1  # of a tile's row, as registers allow


Address = Callable[[Any, Any], Any]


def _emit(
    builder: Any, kind: Lanes, rows: int, vectors: int, count: Any, a: Address, b: Address, c: Address, keep: Any
) -> None:
    """Code for c[row, vector] = sum over i < count of a[i, row] b[i, vector], and what is in c if `keep`.

    a: the address of a number; b, c: of a vector
    """
    cells = [(row, vector) for row in range(rows) for vector in range(vectors)]
    zeros = kind.constant(kind.llvm.element, [0.0] * kind.count)
    sums = [cgutils.alloca_once_value(builder, zeros) for _ in cells]  # which the compiler keeps in registers

    def load(address: Any) -> Any:
        return builder.load(builder.inttoptr(address, kind.llvm.as_pointer()), align=kind.bytes)

    for total in sums:
        builder.store(zeros, total)
    with builder.if_then(builder.icmp_signed("!=", keep, ir.Constant(keep.type, 0))):
        for cell, total in zip(cells, sums, strict=True):
            builder.store(load(c(*cell)), total)
    with cgutils.for_range(builder, count) as loop:
        given = [load(b(loop.index, vector)) for vector in range(vectors)]
        for row in range(rows):
            pointer = builder.inttoptr(a(loop.index, row), kind.llvm.element.as_pointer())
            number = spread(builder, kind, builder.load(pointer))
            for vector in range(vectors):
                total = sums[row * vectors + vector]
                product = builder.fmul(number, given[vector], flags=tuple(FAST))
                builder.store(builder.fadd(builder.load(total), product, flags=tuple(FAST)), total)
    for cell, total in zip(cells, sums, strict=True):
        pointer = builder.inttoptr(c(*cell), kind.llvm.as_pointer())
        builder.store(builder.load(total), pointer, align=kind.bytes)


def _by_rows(builder: Any, rows: Any, emit: Callable[[int], None]) -> None:
    """Code for each number of rows from 1 to ROWS, of which one is run."""
    end = builder.append_basic_block("end")
    switch = builder.switch(rows, end)
    for number in range(1, ROWS + 1):
        block = builder.append_basic_block(f"rows{number}")
        switch.add_case(ir.Constant(I64, number), block)
        builder.position_at_end(block)
        emit(number)
        builder.branch(end)
    builder.position_at_end(end)


def _tile(vectors: int, by_columns: bool) -> Any:
    """A function of (table, first, shift, rows, count, b, b_at, b_pitch, places, c_first, c_shift, keep) that adds up
    a product of `rows` by `vectors`, over `count` terms.

    Its first matrix is found through `table`, addresses from entry `first` on, `shift` numbers on from each: an entry
    for each row, whose terms follow, or `by_columns` one for each term, whose rows follow. The second begins at element
    `b_at` of b, a row of vectors for each term: panels `b_pitch` apart or, `by_columns`, rows of b `b_pitch` apart. The
    result's rows lie `c_shift` numbers on from the addresses in `places` from `c_first` on; `keep` adds to them.
    """

    @intrinsic
    def function(context, table, first, shift, rows, count, b, b_at, b_pitch, places, c_first, c_shift, keep):
        kind = kind_of(b)

        def generate(context, builder, signature, args):
            table, first, shift, rows, count, b, b_at, b_pitch, places, c_first, c_shift, keep = args
            whole = kind.bytes * kind.count

            def in_bytes(number):
                return builder.mul(number, ir.Constant(I64, kind.bytes))

            def plus(address, *offsets):
                for offset in offsets:
                    address = builder.add(address, ir.Constant(I64, offset) if isinstance(offset, int) else offset)
                return address

            def entry(position, value, index):
                return place_of(context, builder, signature.args[position], value, index)

            a_first, c_row = entry(0, table, first), entry(8, places, c_first)
            a_shift, b_step = in_bytes(shift), in_bytes(b_pitch)
            b_first = builder.ptrtoint(entry(5, b, b_at), I64)

            def emit(number):
                targets = [builder.load(builder.gep(c_row, [ir.Constant(I64, row)])) for row in range(number)]
                targets = [plus(target, in_bytes(c_shift)) for target in targets]
                if by_columns:

                    def a_at(i, row):
                        return plus(builder.load(builder.gep(a_first, [i])), a_shift, row * kind.bytes)

                    def b_at(i, vector):
                        return plus(b_first, builder.mul(i, b_step), vector * whole)

                else:
                    starts = [builder.load(builder.gep(a_first, [ir.Constant(I64, row)])) for row in range(number)]
                    starts = [plus(start, a_shift) for start in starts]
                    panels = [plus(b_first, builder.mul(b_step, ir.Constant(I64, v))) for v in range(vectors)]

                    def a_at(i, row):
                        return plus(starts[row], in_bytes(i))

                    def b_at(i, vector):
                        return plus(panels[vector], builder.mul(i, ir.Constant(I64, whole)))

                _emit(
                    builder, kind, number, vectors, count, a_at, b_at,
                    lambda row, vector: plus(targets[row], vector * whole), keep,
                )  # fmt: skip

            _by_rows(builder, rows, emit)
            return context.get_dummy_value()

        i = types.intp
        return types.void(table, i, i, i, i, b, i, i, places, i, i, i), generate

    return function


rows_tile, row_tile, columns_tile = _tile(VECTORS, False), _tile(1, False), _tile(VECTORS, True)
