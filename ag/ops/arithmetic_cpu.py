"""Arithmetic on the CPU, compiled: of tensors of one shape, and of one that repeats along leading axes."""

from __future__ import annotations

from typing import Any

from ag.ops import arithmetic
from ownt.elementwise_cpu import elementwise


@elementwise(arithmetic.add_kernel, "float32", "float64")
def _(a: Any, b: Any) -> Any:
    return a + b


@elementwise(arithmetic.sub_kernel, "float32", "float64")
def _(a: Any, b: Any) -> Any:
    return a - b


@elementwise(arithmetic.mul_kernel, "float32", "float64")
def _(a: Any, b: Any) -> Any:
    return a * b


@elementwise(arithmetic.div_kernel, "float32", "float64")
def _(a: Any, b: Any) -> Any:
    return a / b
