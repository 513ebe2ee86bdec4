"""Vectors for compiled kernels: 64 bytes, 16 float32 or 8 float64, a number in each lane, kept in registers.

```
n = lanes(x)                                     # of vectors of x's numbers
a, b = load(x, i), each(x, j)                    # x[i], x[i + 1], ... x[i + n - 1]; x[j] in every lane
store(y, i, exp(a - b) * fill(y, 0.5))           # exp and others: ownt.lanes_math_cpu
```

For loops that the compiler does not turn into vectors by itself. Offsets count elements from an array's first, of an
array that lies in one run; they are not checked. Where registers are shorter than 64 bytes, several are used.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

from ownt.compiled_cpu import FAST

__all__ = [
    "each", "fill", "from_lane", "gather", "lanes", "larger", "load", "load_some", "scatter", "smaller", "store",
    "store_some", "total",
]  # fmt: skip

BYTES = 64
I32, I64 = ir.IntType(32), ir.IntType(64)


class Lanes(types.Type):
    """The type of a vector of `count` numbers."""

    def __init__(self, real: Any) -> None:
        super().__init__(name=f"Lanes({real})")
        self.real = real
        self.bytes = real.bitwidth // 8
        self.count = BYTES // self.bytes
        self.suffix = f"v{self.count}f{real.bitwidth}"  # in the names of LLVM's functions
        self.llvm = self.of(ir.FloatType() if real == types.float32 else ir.DoubleType())

    def of(self, kind: Any) -> Any:
        """LLVM's type of as many of another kind."""
        return ir.VectorType(kind, self.count)

    def constant(self, kind: Any, numbers: Any) -> Any:
        return ir.Constant(self.of(kind), list(numbers))


@register_model(Lanes)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Lanes) -> None:
        super().__init__(manager, kind, kind.llvm)


FLOATS, DOUBLES = Lanes(types.float32), Lanes(types.float64)


def kind_of(array: Any) -> Lanes:
    return FLOATS if array.dtype == types.float32 else DOUBLES


def spread(builder: Any, kind: Lanes, number: Any) -> Any:
    """A vector of one number."""
    undefined = ir.Constant(kind.of(number.type), ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, undefined, kind.constant(I32, [0] * kind.count))


def place_of(context: Any, builder: Any, array: Any, value: Any, offset: Any) -> Any:
    return builder.gep(context.make_array(array)(context, builder, value).data, [offset])


def llvm_call(builder: Any, name: str, result: Any, args: list[Any], flags: Sequence[str] = ()) -> Any:
    """A function of LLVM's own."""
    function = ir.FunctionType(result, [value.type for value in args])
    found = cgutils.get_or_insert_function(builder.module, function, f"llvm.{name}")
    return builder.call(found, args, fastmath=flags)


# memory


@intrinsic
def lanes(context, array):
    """How many of an array's elements a vector has."""
    return types.intp(array), lambda *_: ir.Constant(I64, kind_of(array).count)


@intrinsic
def fill(context, array, number):
    """A number in every lane, of the dtype of `array`."""
    kind = kind_of(array)
    return kind(array, kind.real), lambda context, builder, _, args: spread(builder, kind, args[1])


@intrinsic
def each(context, array, offset):
    """The element at `offset` in every lane."""
    kind = kind_of(array)

    def generate(context, builder, signature, args):
        return spread(builder, kind, builder.load(place_of(context, builder, array, *args)))

    return kind(array, types.intp), generate


@intrinsic
def load(context, array, offset):
    """The elements from `offset` on."""
    kind = kind_of(array)

    def generate(context, builder, signature, args):
        place = builder.bitcast(place_of(context, builder, array, *args), kind.llvm.as_pointer())
        return builder.load(place, align=kind.bytes)

    return kind(array, types.intp), generate


@intrinsic
def store(context, array, offset, value):
    """Put the lanes to the elements from `offset` on."""

    def generate(context, builder, signature, args):
        place = builder.bitcast(place_of(context, builder, array, *args[:2]), value.llvm.as_pointer())
        builder.store(args[2], place, align=value.bytes)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


def _first(builder: Any, kind: Lanes, count: Any) -> Any:
    """Whether each lane is among the first `count`."""
    return builder.icmp_signed("<", kind.constant(I64, range(kind.count)), spread(builder, kind, count))


@intrinsic
def load_some(context, array, offset, count):
    """The first `count` elements from `offset` on, as many as there are lanes at most, and zeros in other lanes."""
    kind = kind_of(array)

    def generate(context, builder, signature, args):
        place = builder.bitcast(place_of(context, builder, array, *args[:2]), kind.llvm.as_pointer())
        zeros = kind.constant(kind.llvm.element, [0.0] * kind.count)
        given = [place, ir.Constant(I32, kind.bytes), _first(builder, kind, args[2]), zeros]
        return llvm_call(builder, f"masked.load.{kind.suffix}.p0", kind.llvm, given)

    return kind(array, types.intp, types.intp), generate


@intrinsic
def store_some(context, array, offset, count, value):
    """Put the first `count` lanes, all at most, to the elements from `offset` on."""

    def generate(context, builder, signature, args):
        place = builder.bitcast(place_of(context, builder, array, *args[:2]), value.llvm.as_pointer())
        given = [args[3], place, ir.Constant(I32, value.bytes), _first(builder, value, args[2])]
        llvm_call(builder, f"masked.store.{value.suffix}.p0", ir.VoidType(), given)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, value), generate


def _apart(context: Any, builder: Any, kind: Lanes, array: Any, args: Any) -> tuple[Any, Any, Any, str]:
    """For (array, offset, pitch, count): places of lanes, their alignment, which to touch, and a name's ending"""
    value, offset, pitch, count = args
    steps = builder.mul(spread(builder, kind, pitch), kind.constant(I64, range(0, BYTES, kind.bytes)))
    first = builder.ptrtoint(place_of(context, builder, array, value, offset), I64)
    places = builder.inttoptr(builder.add(spread(builder, kind, first), steps), kind.of(ir.PointerType()))
    touched = _first(builder, kind, count)
    return places, ir.Constant(I32, kind.bytes), touched, f"{kind.suffix}.v{kind.count}p0"


@intrinsic
def gather(context, array, offset, pitch, count):
    """The elements at offset, offset + pitch, ...: `count` of them, and zeros in other lanes."""
    kind = kind_of(array)

    def generate(context, builder, signature, args):
        places, align, touched, name = _apart(context, builder, kind, array, args)
        zeros = kind.constant(kind.llvm.element, [0.0] * kind.count)
        return llvm_call(builder, f"masked.gather.{name}", kind.llvm, [places, align, touched, zeros])

    return kind(array, types.intp, types.intp, types.intp), generate


@intrinsic
def scatter(context, array, offset, pitch, count, value):
    """Put the first `count` lanes to the elements at offset, offset + pitch, ..."""

    def generate(context, builder, signature, args):
        places, align, touched, name = _apart(context, builder, value, array, args[:4])
        llvm_call(builder, f"masked.scatter.{name}", ir.VoidType(), [args[4], places, align, touched])
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, types.intp, value), generate


# arithmetic


def _binary(name: str) -> Any:
    @intrinsic
    def function(context, a, b):
        return a(a, b), lambda context, builder, _, args: getattr(builder, name)(*args, flags=tuple(FAST))

    return function


def _operator(symbol: Callable[..., Any], name: str) -> None:
    function = _binary(name)

    @overload(symbol)
    def _(a, b):
        return (lambda a, b: function(a, b)) if isinstance(a, Lanes) and a == b else None


for _symbol, _name in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _operator(_symbol, _name)


def _choice(comparison: str) -> Any:
    def generate(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered(comparison, *args), args[1], args[0])

    return generate


@intrinsic
def larger(context, a, b):
    """The larger of each lane; a's if one is NaN."""
    return a(a, b), _choice("<")


@intrinsic
def smaller(context, a, b):
    """The smaller of each lane; a's if one is NaN."""
    return a(a, b), _choice(">")


@intrinsic
def total(context, x):
    """The sum of all lanes."""

    def generate(context, builder, signature, args):
        given = [ir.Constant(x.llvm.element, 0.0), args[0]]
        return llvm_call(builder, f"vector.reduce.fadd.{x.suffix}", x.llvm.element, given, tuple(FAST))

    return x.real(x), generate


@intrinsic
def from_lane(context, first, value, otherwise):
    """`value` in lanes first, first + 1, ..., `otherwise` in those before."""

    def generate(context, builder, signature, args):
        numbers = value.constant(I64, range(value.count))
        return builder.select(builder.icmp_signed(">=", numbers, spread(builder, value, args[0])), args[1], args[2])

    return value(types.intp, value, value), generate
