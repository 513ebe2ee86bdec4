"""What a CUDA source says of its kernels: their names and parameters, read from its text.

The argument list of a kernel is declared once, in C++. The launcher converts and checks arguments by it, and the tests
find by it every kernel that there is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import final

from ownt import dtype as dtypes

_SCALARS = {  # C types that a parameter may have beside `real` and `wide`
    "bool": "bool",
    "signed char": "int8",
    "unsigned char": "uint8",
    "short": "int16",
    "unsigned short": "uint16",
    "int": "int32",
    "unsigned int": "uint32",
    "unsigned": "uint32",
    "long long": "int64",
    "unsigned long long": "uint64",
    "float": "float32",
    "double": "float64",
}
_STRUCTS = {"Axes": dtypes.DType([("at", "int64", 4)])}  # of strided.cuh; a tuple of numbers is given for one
REAL = {  # the C type of an element type
    "float32": "float",
    "float64": "double",
    "float16": "__half",
    "bfloat16": "__nv_bfloat16",
}
FLOATS = tuple(REAL)  # the element types that kernels are compiled for, unless a binder names fewer

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_KERNEL = re.compile(
    r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\s*\(([^)]*)\)\s*)?(\w+)\s*\(([^)]*)\)', re.DOTALL
)


@final
@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel.

    type:    its C type, without const and the star: "real", "wide", "int", "void" ...
    pointer: whether it is a pointer
    written: whether it is a pointer to what is not const
    """

    name: str
    type: str
    pointer: bool
    written: bool

    def dtype(self, real: dtypes.DType) -> dtypes.DType | None:
        """Its element type in a file compiled for `real`; None of void."""
        if self.type == "real":
            return real
        if self.type == "wide":
            return dtypes.wide(real)
        if self.type in _STRUCTS:
            return _STRUCTS[self.type]
        return None if self.type == "void" else dtypes.get(_SCALARS[self.type])

    def __str__(self) -> str:
        return f"{'' if self.written or not self.pointer else 'const '}{self.type}{'*' * self.pointer}"


@final
@dataclass(frozen=True)
class Signature:
    """A kernel as its source declares it; threads: the most that a block of it may have."""

    name: str
    parameters: tuple[Parameter, ...]
    threads: int = 1024


def signatures(text: str, origin: str = "") -> dict[str, Signature]:
    """The kernels that a source defines, by name.

    Raises: ValueError naming `origin` for a __global__ function that is not declared as ours are.
    """
    code = _COMMENT.sub(" ", text)
    found = {}
    for bounds, name, parameters in _KERNEL.findall(code):
        parts = [part for part in parameters.split(",") if part.strip()]
        threads = int(bounds.split(",")[0]) if bounds else 1024
        found[name] = Signature(name, tuple(_parameter(part, f"{origin}: {name}") for part in parts), threads)
    if len(found) != len(re.findall(r"\b__global__\b", code)):
        raise ValueError(
            f'{origin}: expected each kernel to be declared as extern "C" __global__ void name(...), with a name of '
            f"its own and any __launch_bounds__ a number before it; understood {', '.join(found) or 'none'}"
        )
    return found


def _parameter(text: str, where: str) -> Parameter:
    words = text.replace("*", " * ").replace("__restrict__", " ").split()
    name, *rest = reversed(words)
    pointer = "*" in rest
    kind = " ".join(word for word in reversed(rest) if word not in ("const", "*"))
    if rest.count("*") > 1 or not (kind in ("real", "wide", *_STRUCTS, *_SCALARS) or (kind == "void" and pointer)):
        known = ", ".join(["real", "wide", *_STRUCTS, *_SCALARS])
        raise ValueError(f"{where}: expected a parameter that is, or points to, one of {known}; got {text.strip()!r}")
    return Parameter(name, kind, pointer, pointer and "const" not in rest)
