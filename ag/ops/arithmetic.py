"""Arithmetic with broadcasting: add, sub, mul, div, neg, pow."""

from __future__ import annotations

from typing import Any

from ag import kernels
from ag.op import op
from ag.sample import Sample, between, normal
from ag.slot import GradSlot
from ownt import Tensor, scratch
from ownt import device as devices
from ownt import dtype as dtypes
from ownt.kernel import Kernel, Out, kernel

Operand = Tensor | float


def result_for(name: str, a: Operand, b: Operand) -> Tensor:
    """The uninitialised result of a binary op, of the operands' broadcast shape.

    Raises: ValueError if the shapes do not broadcast; TypeError for a number that the tensor's dtype cannot hold.
    """
    if type(a) is Tensor and type(b) is Tensor and a.shape == b.shape:
        return scratch.alike(a)
    tensors = [x for x in (a, b) if type(x) is Tensor]
    if not tensors:
        raise TypeError(f"{name}: expected a tensor among its arguments; got the numbers {a} and {b}")
    for number in (a, b):
        if type(number) is not Tensor:
            check_number(name, number, tensors[0])
    return scratch.empty(broadcast_shape(name, *(t.shape for t in tensors)), like=tensors[0])


def check_number(name: str, number: Any, x: Tensor) -> None:
    """Raises: TypeError naming the op for a number that x's dtype cannot hold: a fraction beside integers."""
    if not dtypes.holds(x.dtype, number):
        wanted = "float32" if isinstance(number, float) else "int64"
        raise TypeError(
            f"{name}: expected a number that {x.dtype} can hold; got {number!r}. Convert the tensor: astype('{wanted}')"
        )


def combined(name: str, function: Kernel, a: Operand, b: Operand) -> Tensor:
    """function(a, b), broadcast, a new tensor; raises what `result_for` raises."""
    y = result_for(name, a, b)
    function(a, b, out=Out(y))
    return y


def broadcast_shape(name: str, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape to which all broadcast. Raises: ValueError naming the op."""
    if all(shape == shapes[0] for shape in shapes):
        return shapes[0]
    width = max(map(len, shapes))
    padded = [(1,) * (width - len(shape)) + shape for shape in shapes]
    result = []
    for sizes in zip(*padded, strict=True):
        wide = {size for size in sizes if size != 1}
        if len(wide) > 1:
            raise ValueError(
                f"{name}: expected shapes that broadcast (equal sizes, or 1, aligned at the right); "
                f"got {' and '.join(map(str, shapes))}. Use reshape to line the axes up"
            )
        result.append(wide.pop() if wide else 1)
    return tuple(result)


def contribute(
    slot: GradSlot | None, function: Kernel, g: Tensor, *args: Any, shape: tuple[int, ...] | None = None
) -> None:
    """Add function(g, *args), of `shape` (g's by default), to a slot, summed where its operand was broadcast."""
    if slot is None:
        return
    if shape is None:
        shape = g.shape
    if slot.shape == shape:
        function(g, *args, out=slot.out())
        return
    full = scratch.empty(shape, like=g, kind="workspace")
    function(g, *args, out=Out(full))
    kernels.sum_to(full, out=slot.out())


def pass_on(slot: GradSlot | None, g: Tensor) -> None:
    """Let a gradient through unchanged, summed where its operand was broadcast."""
    if slot is None:
        return
    if slot.shape == g.shape:
        slot.lend(g)
    else:
        kernels.sum_to(g, out=slot.out())


@kernel(elementwise=True)
def add_kernel(a: Any, b: Any, *, out: Out) -> None:
    out.store(a + b)


@kernel(elementwise=True)
def sub_kernel(a: Any, b: Any, *, out: Out) -> None:
    out.store(a - b)


@kernel(elementwise=True)
def mul_kernel(a: Any, b: Any, *, out: Out) -> None:
    out.store(a * b)


@kernel(elementwise=True)
def div_kernel(a: Any, b: Any, *, out: Out) -> None:
    out.store(a / b)


@kernel(elementwise=True)
def div_vjp_divisor(g: Any, a: Any, b: Any, *, out: Out) -> None:
    out.store(-g * (a / b / b))  # b * b could overflow


@kernel(elementwise=True)
def pow_kernel(a: Any, b: Any, *, out: Out) -> None:
    out.store(a**b)


@kernel(elementwise=True)
def pow_vjp_base(g: Any, a: Any, b: Any, *, out: Out) -> None:
    """g b a^(b-1), which is 0 where b is 0, for a = 0 too."""
    if not devices.is_array(b):
        out.store(g * (b * a ** (b - 1)) if b else 0)
        return
    xp = devices.module(out.array)
    out.store(xp.where(b == 0, 0, g * b * a ** xp.where(b == 0, 1, b - 1).astype(out.array.dtype)))


@kernel(elementwise=True)
def pow_vjp_exponent(g: Any, a: Any, b: Any, y: Any, *, out: Out) -> None:
    """g y log a, which is 0 where a is 0 and b is not negative."""
    xp = devices.module(out.array)
    flat = (a == 0) & (b >= 0)
    out.store(xp.where(flat, 0, g * y * xp.log(xp.where(flat, 1, a).astype(out.array.dtype))))


@op(integers=True)
def add(a: Tensor | float, b: Tensor | float) -> Any:
    """y = a + b

    Shapes: a, b broadcast -> y
    Saves:  nothing
    """
    return combined("add", add_kernel, a, b), ()


@add.vjp
def _(g: Tensor, saved: Any, da: Any, db: Any) -> None:
    pass_on(da, g)
    pass_on(db, g)


@op(integers=True)
def sub(a: Tensor | float, b: Tensor | float) -> Any:
    """y = a - b

    Shapes: a, b broadcast -> y
    Saves:  nothing
    """
    return combined("sub", sub_kernel, a, b), ()


@sub.vjp
def _(g: Tensor, saved: Any, da: Any, db: Any) -> None:
    pass_on(da, g)
    contribute(db, kernels.scale, g, -1)


@op(integers=True)
def mul(a: Tensor | float, b: Tensor | float) -> Any:
    """y = a b, element by element

    Shapes: a, b broadcast -> y
    Saves:  a, b, as far as a gradient needs them
    """
    return combined("mul", mul_kernel, a, b), (a, b)


@mul.keeps
def _(saved: Any, da: Any, db: Any) -> tuple:
    a, b = saved
    return (a if db else None, b if da else None)


@mul.vjp
def _(g: Tensor, saved: Any, da: Any, db: Any) -> None:
    a, b = saved
    contribute(da, mul_kernel, g, b)
    contribute(db, mul_kernel, g, a)


@op
def div(a: Tensor | float, b: Tensor | float) -> Any:
    """y = a / b, element by element

    Shapes: a, b broadcast -> y
    Saves:  a, b, as far as a gradient needs them
    """
    return combined("div", div_kernel, a, b), (a, b)


@div.keeps
def _(saved: Any, da: Any, db: Any) -> tuple:
    a, b = saved
    return (a if db else None, b)


@div.vjp
def _(g: Tensor, saved: Any, da: Any, db: Any) -> None:
    a, b = saved
    contribute(da, div_kernel, g, b)
    contribute(db, div_vjp_divisor, g, a, b)


@kernel(elementwise=True)
def neg_kernel(x: Any, *, out: Out) -> None:
    out.store(-x)


@op(integers=True)
def neg(x: Tensor) -> Any:
    """y = -x

    Shapes: x any -> y the same
    Saves:  nothing
    """
    if x.dtype == dtypes.bool_:
        raise TypeError("neg: expected numbers; got bool. Use 1 - x.astype('int64')")
    y = scratch.empty(x.shape, like=x)
    neg_kernel(x, out=Out(y))
    return y, ()


@neg.vjp
def _(g: Tensor, saved: Any, dx: Any) -> None:
    neg_kernel(g, out=dx.out())


@op(integers=True)
def pow(a: Tensor | float, b: Tensor | float) -> Any:
    """y = a^b, element by element

    Shapes: a, b broadcast -> y
    Saves:  a, b and, for the gradient of b, y
    """
    y = combined("pow", pow_kernel, a, b)
    return y, (a, b, y)


@pow.keeps
def _(saved: Any, da: Any, db: Any) -> tuple:
    a, b, y = saved
    return (a, b, y if db else None)


@pow.vjp
def _(g: Tensor, saved: Any, da: Any, db: Any) -> None:
    a, b, y = saved
    contribute(da, pow_vjp_base, g, a, b)
    contribute(db, pow_vjp_exponent, g, a, b, y)


_broadcasts = [
    Sample(normal(3, 4), normal(3, 4)),
    Sample(normal(3, 4), normal(4)),
    Sample(normal(3, 1), normal(1, 4)),
    Sample(normal(), normal(2, 3)),
    Sample(normal(2, 3), 2.5),
    Sample(3, normal(2, 3)),
    Sample(normal(0, 3), normal(3)),
    Sample(normal(), normal()),
]
add.samples = sub.samples = mul.samples = _broadcasts
div.samples = [
    Sample(normal(3, 4), between(0.5, 2, 3, 4)),
    Sample(normal(3, 4), between(-2, -0.5, 4)),
    Sample(2.0, between(0.5, 2, 3)),
    Sample(normal(), between(0.5, 2)),
    Sample(normal(2, 3), 4),
]
neg.samples = [Sample(normal(3, 4)), Sample(normal()), Sample(normal(0))]
pow.samples = [
    Sample(normal(3, 4), 2),
    Sample(normal(3, 4), 3.0),
    Sample(between(0.5, 2, 3, 4), between(-2, 2, 3, 4)),
    Sample(between(0.5, 2, 3, 1), between(-2, 2, 4)),
    Sample(between(0.5, 2, 3), -1.5),
    Sample(2.0, normal(3)),
    Sample(normal(3), 0),
]
