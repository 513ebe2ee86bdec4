"""CUDA sources: kernels in C++ beside the op that they are for, compiled when first launched.

```
source = Source(__file__)                        # of norm_cuda.py: norm.cu
_forward = source.kernel("norm_forward")

@norm_kernel.on("cuda", *source.dtypes)
def _(x, gain, *, out):
    launch = _forward.launch(devices.of(x), x.dtype, grid=x.shape[0], block=256)
    return launch, (x, gain, out.array, out.beta, x.shape[1])
```

A file is compiled once for each device and element type, which it calls `real`; the type it computes in is `wide`.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, final

from ownt import device as devices
from ownt import dtype as dtypes
from ownt.cuda_signature import FLOATS, REAL, Parameter, Signature, signatures
from ownt.dtype import DType
from ownt.launch import nothing

__all__ = ["FLOATS", "CudaKernel", "Run", "Source", "compile_with_cupy", "options"]

HEADERS = Path(__file__).parent / "cuda_headers"

Dim = tuple[int, ...]

_compiling = threading.Lock()


class Run(Protocol):
    """A compiled kernel: runs `grid` blocks of `block` threads with arguments that are arrays and NumPy numbers."""

    def __call__(self, grid: Dim, block: Dim, shared_bytes: int, arguments: list[Any]) -> None: ...


class Line(NamedTuple):
    """A line of a source, and where it stands."""

    path: Path
    number: int
    text: str


@final
class Source:
    """A file of CUDA C++: `Source(__file__)` in `norm_cuda.py` is that of `norm.cu`, beside it.

    What it includes in quotes, from its own folder or `ownt/cuda_headers`, becomes part of its text: compilers then
    need no path to it, and their caches see it change.

    dtypes: the element types that it is meant for: what its binders are registered for, and checks compile it for

    Raises: ValueError for a kernel that is not declared as expected.
    """

    def __init__(self, module: str | Path, dtypes: tuple[str, ...] = FLOATS) -> None:
        path = Path(module)
        self.dtypes = dtypes
        self.path = path if path.suffix == ".cu" else path.with_name(path.stem.removesuffix("_cuda") + ".cu")
        self._kernels: dict[str, CudaKernel] | None = None
        self._compiled: dict[tuple[devices.Device, DType], Callable[[str], Run]] = {}

    @functools.cached_property
    def lines(self) -> list[Line]:
        """Its lines with those of its headers."""
        return list(_expanded(self.path, set()))

    @functools.cached_property
    def text(self) -> str:
        """What compilers are given; errors name the file and line that a part is from."""
        parts, path, number = [], None, 0
        for line in self.lines:
            if line.path is not path or line.number != number:
                parts.append(f'#line {line.number} "{line.path.name}"')
            parts.append(line.text)
            path, number = line.path, line.number + 1
        return "\n".join(parts) + "\n"

    @property
    def kernels(self) -> dict[str, CudaKernel]:
        """Its kernels by name."""
        if self._kernels is None:
            found = signatures(self.path.read_text("utf-8"), self.path.name)
            self._kernels = {name: CudaKernel(self, signature) for name, signature in found.items()}
        return self._kernels

    def kernel(self, name: str) -> CudaKernel:
        """Its kernel of that name. Raises: KeyError naming those there are."""
        try:
            return self.kernels[name]
        except KeyError:
            raise KeyError(f"{self.path.name}: expected one of {', '.join(self.kernels)}; got {name!r}") from None

    def compiled(self, device: devices.Device, dtype: DType) -> Callable[[str], Run]:
        """What gives its kernels by name, compiled for a device and an element type: once for each."""
        with _compiling:
            if (device, dtype) not in self._compiled:
                self._compiled[device, dtype] = device.compile(self, dtype)  # type: ignore[attr-defined]
            return self._compiled[device, dtype]

    def __repr__(self) -> str:
        return f"Source({self.path.name!r})"


def _expanded(path: Path, seen: set[Path]) -> list[Line]:
    """The lines of a file, each file that it includes in quotes in place of its first #include."""
    seen.add(path)
    lines = []
    for number, text in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not text.startswith('#include "'):
            lines.append(Line(path, number, text))
            continue
        name = text.split('"')[1]
        included = next((at for at in (path.parent / name, HEADERS / name) if at.is_file()), None)
        if included is None:
            raise FileNotFoundError(f"{path.name}:{number}: expected {name} beside it or in {HEADERS.name}")
        if included not in seen:
            lines += _expanded(included, seen)
    return lines


class _Ready(NamedTuple):
    """A kernel compiled for a device and an element type: what runs it, and what takes each of its arguments."""

    run: Run
    takers: tuple[Callable[[Any], Any], ...]


@final
class CudaKernel:
    """A kernel of a source. What it writes is what its parameters say; it returns nothing, as kernels do."""

    def __init__(self, source: Source, signature: Signature) -> None:
        self.source = source
        self.signature = signature
        self.name = signature.name
        self._ready: dict[tuple[devices.Device, DType], _Ready] = {}

    def launch(
        self, device: devices.Device, dtype: Any, grid: int | Dim, block: int | Dim, shared_bytes: int = 0
    ) -> Launch:
        """What a binder returns: a function of arrays (None for no array) and numbers, one for each parameter.

        Compiles when first called. A grid of no blocks launches nothing.

        dtype:        the element type, `real` in the source
        grid, block:  blocks, and threads of a block, in up to three dimensions
        shared_bytes: of shared memory whose size the source leaves open; see DYNAMIC_SHARED
        """
        grid = grid if isinstance(grid, tuple) else (grid,)
        block = block if isinstance(block, tuple) else (block,)
        return Launch(self, device, dtype, grid, block, shared_bytes)

    def ready(self, device: devices.Device, dtype: DType) -> _Ready:
        """It compiled, and the functions that take its arguments."""
        found = self._ready.get((device, dtype))
        if found is None:
            run = self.source.compiled(device, dtype)(self.name)
            takers = tuple(_taker(parameter, device, dtype) for parameter in self.signature.parameters)
            found = self._ready[device, dtype] = _Ready(run, takers)
        return found

    def mistake(self, arguments: Sequence[Any], device: devices.Device, dtype: DType) -> TypeError:
        """What is wrong with arguments that were not taken."""
        parameters = self.signature.parameters
        where = f"{self.source.path.name}: {self.name}"
        if len(arguments) != len(parameters):
            names = ", ".join(parameter.name for parameter in parameters)
            return TypeError(f"{where}: expected {len(parameters)} arguments, {names}; got {len(arguments)}")
        for parameter, value in zip(parameters, arguments, strict=True):
            try:
                _taker(parameter, device, dtype)(value)
            except (TypeError, ValueError, OverflowError):
                wanted = parameter.dtype(dtype) or "any dtype"
                what = f"an array of {wanted} on {device}, or None" if parameter.pointer else f"a number, {wanted}"
                kind = f"an array of {value.dtype}" if devices.is_array(value) else repr(value)
                return TypeError(f"{where}: expected {what}, for {parameter} {parameter.name}; got {kind}")
        return TypeError(f"{where}: arguments were refused, and then taken")

    def __repr__(self) -> str:
        return f"<CUDA kernel {self.name} of {self.source.path.name}>"


@final
class Launch:
    """A kernel with a device, a grid and blocks: called with its arguments, it runs."""

    __slots__ = ("block", "device", "dtype", "grid", "kernel", "shared_bytes")

    def __init__(
        self, kernel: CudaKernel, device: devices.Device, dtype: Any, grid: Dim, block: Dim, shared_bytes: int
    ) -> None:
        self.kernel = kernel
        self.device = device
        self.dtype = dtype
        self.grid = grid
        self.block = block
        self.shared_bytes = shared_bytes

    def __call__(self, *arguments: Any) -> None:
        run, takers = self.kernel.ready(self.device, self.dtype)
        try:
            taken = [take(value) for take, value in zip(takers, arguments, strict=True)]
        except (TypeError, ValueError, OverflowError) as error:
            raise self.kernel.mistake(arguments, self.device, self.dtype) from error
        if 0 not in self.grid:
            run(self.grid, self.block, self.shared_bytes, taken)


def _taker(parameter: Parameter, device: devices.Device, real: DType) -> Callable[[Any], Any]:
    """What makes of an argument what a compiled kernel takes, or raises."""
    wanted: Any = parameter.dtype(real)
    kind: Any = device.array

    def number(value: Any) -> Any:
        if type(value) is kind:
            raise TypeError
        return wanted.type(value)

    def struct(value: Any) -> Any:
        return devices.cpu.xp.array((value,), wanted)[()]

    def array(value: Any) -> Any:
        if value is not None and (
            type(value) is not kind or (value.dtype is not wanted and wanted is not None and value.dtype != wanted)
        ):
            raise TypeError
        return value

    if parameter.pointer:
        return array
    return struct if wanted.names else number


def options(dtype: Any, architecture: str = "") -> tuple[str, ...]:
    """What a compiler of CUDA is told; architecture: such as "sm_90a", the compiler's or CuPy's choice if empty."""
    chosen = (f"-arch={architecture}",) if architecture else ()
    return ("-std=c++17", f"-Dreal={REAL[dtypes.get(dtype).name]}", *chosen)


def compile_with_cupy(
    source: Source, dtype: DType, architecture: str = "", stream: Callable[[], Any] = nothing
) -> Callable[[str], Run]:
    """The kernels of a source by name, compiled for the CUDA device that is current: what `device.compile` returns.

    architecture: "sm_90a" for what only Hopper has; else CuPy's choice for the device
    stream:       gives, at each launch, the cupy.cuda.Stream that it is for; None for that which is current then

    Raises: RuntimeError with the compiler's messages.
    """
    import cupy
    from cupy.cuda import driver

    try:
        module = cupy.RawModule(code=source.text, options=options(dtype, architecture)).module
    except cupy.cuda.compiler.CompileException as error:
        raise RuntimeError(
            f"{source.path.name}: expected CUDA C++ that compiles with {dtype} as real; got\n{error}\n"
            "If a header is missing, install CuPy with its CUDA headers: pip install 'cupy-cuda13x[ctk]'"
        ) from error

    def function(name: str) -> Run:
        kernel, granted = module.get_function(name), 0  # bytes: of those that are plain its own arrays take some

        def run(grid: Dim, block: Dim, shared_bytes: int, arguments: list[Any]) -> None:
            nonlocal granted
            if shared_bytes > granted:
                driver.funcSetAttribute(
                    kernel.ptr, driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shared_bytes
                )
                granted = shared_bytes
            kernel(grid, block, arguments, shared_bytes, stream())

        return run

    return function
