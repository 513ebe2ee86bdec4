"""cuDNN: graphs of operations for attention and convolution, through nvidia-cudnn-frontend.

```
def forward(graph, x, w, y, **window):              # describes a graph, for arrays of certain layouts
    graph.output(graph.operations.conv_fprop(graph.input(x), graph.input(w), **window), y)

cudnn.add(calls, forward, (x, w, y), padding=(1, 1))  # adds its launch, workspace taken; False where cuDNN declines
```

A plan is built once for the layouts and options of a graph, which takes tenths of a second, and kept by the thread
whose handle it was built on. Graphs only overwrite: what adds to a gradient goes through a workspace.
"""

from __future__ import annotations

import functools
import importlib
import threading
import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, final

from ownt import device as devices
from ownt.calls import Calls
from ownt.launch import nothing

enabled = True  # False for runs whose bits must be the same: cuDNN's gradient of attention sums in no fixed order

FRONTENDS = (1, 19, 1), (1, 23, 0)  # later ones fail at attention's gradient, or bring half a gigabyte of packages
BACKEND = 91501  # as the library counts: 9.15.1; before, graphs of steps kept addresses that were no more
ALIGN = 16  # bytes to which graphs take their arrays to be aligned
_INSTALL = "pip install 'ownt[cudnn13]', or 'ownt[cudnn12]' where nvidia-smi says CUDA Version: 12"


class Layout(NamedTuple):
    """What a plan depends on of an array: its shape, its strides in elements, the name of its dtype."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str


def layout(array: Any) -> Layout:
    """The layout of an array."""
    return Layout(array.shape, tuple(stride // array.itemsize for stride in array.strides), array.dtype.name)


@functools.cache
def missing() -> str:
    """Why cuDNN cannot be used, and what helps; empty where it can."""
    try:
        frontend = importlib.import_module("cudnn")
        version = tuple(int(part) for part in frontend.__version__.split(".")[:3])
        backend = frontend.backend_version() if FRONTENDS[0] <= version <= FRONTENDS[1] else 0
    except ModuleNotFoundError:
        return f"cuDNN is not installed: {_INSTALL}"
    except Exception as error:  # the library is loaded when it is first asked for something
        return f"cuDNN cannot be loaded, {' '.join(str(error).split())}: {_INSTALL}"
    if not backend:
        return f"expected nvidia-cudnn-frontend 1.19.1 to 1.23.0; got {frontend.__version__}: {_INSTALL}"
    if backend < BACKEND:
        return f"expected cuDNN 9.15.1 or later; got {frontend.backend_version_string()}: {_INSTALL}"
    return ""


def serves(device: Any) -> bool:
    """Whether a device has cuDNN. Says once why it has not, where that is a GPU; without data, GPUs are taken to."""
    if enabled and not device.runs():
        return True
    if not enabled or getattr(device, "stream", None) is None:
        return False
    if missing():
        _warn(missing())
    return not missing()


@functools.cache
def _warn(reason: str) -> None:
    warnings.warn(f"{reason}. What is used instead is slower", RuntimeWarning, stacklevel=4)


@final
class Graph:
    """Operations on tensors that are numbered, from 1, in the order in which their arrays will be passed.

    target: handle=..., or sm_version=... to check a graph where there is no GPU
    """

    def __init__(self, dtype: str, **target: Any) -> None:
        self.frontend = importlib.import_module("cudnn")
        self.operations = self.frontend.pygraph(
            io_data_type=self._type(dtype),
            intermediate_data_type=self.frontend.data_type.FLOAT,
            compute_data_type=self.frontend.data_type.FLOAT,
            **target,
        )
        self.tensors: list[Any] = []
        self.most_workspace_bytes: int | None = None
        self._exact = dtype == "float32"

    def _type(self, dtype: str) -> Any:
        types = self.frontend.data_type
        return {"float16": types.HALF, "bfloat16": types.BFLOAT16, "float32": types.FLOAT}[dtype]

    def input(self, like: Layout) -> Any:
        """A tensor that is read."""
        number = len(self.tensors) + 1
        kind = self._type(like.dtype)
        self.tensors.append(self.operations.tensor(dim=like.shape, stride=like.strides, data_type=kind, uid=number))
        return self.tensors[-1]

    def output(self, tensor: Any, like: Layout) -> None:
        """Have what an operation gave written."""
        self.tensors.append(tensor)
        tensor.set_output(True).set_dim(like.shape).set_stride(like.strides)
        tensor.set_data_type(self._type(like.dtype)).set_uid(len(self.tensors))

    def check(self) -> None:
        """Have the graph accepted, which takes no GPU.

        Raises: cudnn.cudnnGraphNotSupportedError, or RuntimeError."""
        self.operations.validate()
        self.operations.build_operation_graph()

    def build(self) -> int:
        """Have kernels chosen and compiled for the handle's device. Returns the bytes of workspace they take.

        Raises: as `check`."""
        self.check()
        mode = self.frontend.heur_mode
        self.operations.create_execution_plans([mode.A, mode.FALLBACK])
        if self._exact:  # float32 is not rounded to TF32
            notes = self.frontend.numerical_note
            self.operations.deselect_numeric_notes([notes.TENSOR_CORE, notes.DOWN_CONVERT_INPUTS])
        if self.most_workspace_bytes is not None:
            self.operations.deselect_workspace_greater_than(self.most_workspace_bytes)
        self.operations.check_support()
        self.operations.build_plans()
        return self.operations.get_workspace_size()


@final
class Plan:
    """A graph that was built for a handle: called with a workspace and its arrays, it runs."""

    def __init__(self, handle: _Handle, name: str, graph: Graph) -> None:
        self.workspace_bytes = graph.build()
        self._handle = handle
        self._name = name
        self._execute = graph.operations.execute

    def __call__(self, workspace: Any, *arrays: Any) -> None:
        device = self._handle.device
        places = {number: device.pointer(array) for number, array in enumerate(arrays, 1)}
        try:
            with device.working():
                self._handle.follow()
                self._execute(places, device.pointer(workspace), handle=self._handle.number)
        except RuntimeError as error:
            shapes = ", ".join(str(array.shape) for array in arrays)
            raise RuntimeError(f"cuDNN failed at {self._name} of {shapes}: {error}") from error


Describe = Callable[..., None]  # of a Graph, the layouts of its arrays, and options


@final
class _Handle:
    """A thread's handle for a device, which works on the device's stream, and the plans built on it.

    It lasts as long as a plan of its is held: recordings may outlive the thread.
    """

    def __init__(self, device: Any) -> None:
        self._frontend = importlib.import_module("cudnn")
        self.device = device
        self._plans: dict[Any, Plan | None] = {}
        with device.working():
            self.number = self._frontend.create_handle()
        weakref.finalize(self, self._frontend.destroy_handle, self.number).atexit = False  # the driver may be gone

    def follow(self) -> None:
        """Have it work on the stream that this thread launches to."""
        self._frontend.set_stream(handle=self.number, stream=self.device.stream.ptr)

    def plan(self, describe: Describe, layouts: tuple[Layout, ...], options: dict[str, Any]) -> Plan | None:
        """The plan of a graph; None, and a warning that says why, if cuDNN does not serve it."""
        key = (describe, layouts, *options.items())
        if key not in self._plans:
            self._plans[key] = self._build(describe, layouts, options)
        return self._plans[key]

    def _build(self, describe: Describe, layouts: tuple[Layout, ...], options: dict[str, Any]) -> Plan | None:
        name = describe.__name__
        try:
            with self.device.working():
                graph = Graph(layouts[0].dtype, handle=self.number)
                describe(graph, *layouts, **options)
                return Plan(self, name, graph)
        except (self._frontend.cudnnGraphNotSupportedError, RuntimeError) as error:
            shapes = ", ".join(str(like.shape) for like in layouts)
            _warn(f"cuDNN does not serve {name} of {shapes}, {layouts[0].dtype}: {' '.join(str(error).split())}")
            return None


class _Handles(threading.local):
    def __init__(self) -> None:
        self.by_device: dict[Any, _Handle] = {}


_handles = _Handles()


def add(calls: Calls, describe: Describe, arrays: Sequence[Any], **options: Any) -> bool:
    """Add the launch of a graph on arrays to `calls`, with the workspace that it takes.

    describe: a function of a Graph, the layouts of the arrays and the options, which adds the operations; the options
              can be hashed
    Returns: False, and nothing is added, where there is no cuDNN or it does not serve that.
    """
    device: Any = devices.of(arrays[0])
    if not serves(device) or any(device.pointer(array) % ALIGN for array in arrays):
        return False
    if not device.runs():
        calls.add(nothing)  # its workspace is not known
        return True
    handle = _handles.by_device.get(device)
    if handle is None:
        handle = _handles.by_device[device] = _Handle(device)
    plan = handle.plan(describe, tuple(layout(array) for array in arrays), options)
    if plan is None:
        return False
    calls.add(plan, calls.workspace((plan.workspace_bytes,), "uint8").array, *arrays)
    return True
