"""gradcheck: gradients against central differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ag.graph import backward
from ag.node import Node, as_tensor, make_tensor
from ag.recording import no_grad
from ownt import Tensor, factories


def gradcheck(
    function: Callable[..., Node],
    inputs: Sequence[Any],
    eps: float = 1e-6,
    atol: float = 1e-6,
    rtol: float = 1e-5,
) -> bool:
    """Whether the gradients of `function` agree with central differences, at every element of every float64 input.

    `function` takes the inputs as Nodes and returns one, of any shape: each element of it is weighted with a
    number of its own between 0.5 and 1.5. Inputs of other dtypes and constant Nodes are passed on as they are.
    Raises: AssertionError naming the first element that differs; TypeError if no input is float64.
    """
    tensors = [as_tensor(x).clone() if _is_checked(x) else x for x in inputs]
    leaves = {i: make_tensor(t, requires_grad=True) for i, t in enumerate(tensors) if _is_checked(t)}
    if not leaves:
        raise TypeError("gradcheck: expected a float64 input; got none. Convert one: tensor.astype('float64')")
    y = function(*(leaves.get(i, t) for i, t in enumerate(tensors)))
    weights = factories.arange(y.size, dtype="float64", device="cpu").reshape(y.shape).numpy()
    weights *= 0.37
    weights %= 1.0
    weights += 0.5

    def value() -> Any:
        with no_grad():
            return function(*(make_tensor(t) if i in leaves else t for i, t in enumerate(tensors))).numpy() * weights

    backward(y, factories.asarray(weights, device=y.device))
    for i, leaf in leaves.items():
        numeric = _central_differences(value, tensors[i], eps)
        analytic = leaf.grad.numpy() if leaf.grad is not None else 0 * numeric
        _compare(i, analytic, numeric, atol, rtol)
    return True


def _is_checked(x: Any) -> bool:
    return getattr(x, "dtype", None) == "float64" and not (type(x) is Node and x.slot is None)


def _central_differences(value: Callable[[], Any], tensor: Tensor, eps: float) -> Any:
    """The sum of (value(x + eps) - value(x - eps)) / 2 eps for each element x, as an array."""
    values = tensor.clone().numpy()
    slope = values.copy()
    flat, result = values.reshape(-1), slope.reshape(-1)
    for i in range(flat.size):
        before = flat[i]
        flat[i] = before + eps
        tensor.copy_(values)
        above = value()
        flat[i] = before - eps
        tensor.copy_(values)
        result[i] = (above - value()).sum() / (2 * eps)
        flat[i] = before
    tensor.copy_(values)
    return slope


def _compare(number: int, analytic: Any, numeric: Any, atol: float, rtol: float) -> None:
    wrong = abs(analytic - numeric) > atol + rtol * abs(numeric)
    wrong |= analytic != analytic
    if wrong.any():
        where = tuple(int(axis[0]) for axis in wrong.nonzero()) if wrong.ndim else ()
        raise AssertionError(
            f"gradcheck: expected {numeric[where]} by central differences for input {number} at {where}; "
            f"got {analytic[where]}"
        )
