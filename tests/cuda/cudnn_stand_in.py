"""What of nvidia-cudnn-frontend ownt.cudnn calls, on a CPU: graphs are computed by NumPy, in float64, from addresses.

It takes the same parameters by the same names, and knows arrays by nothing but the addresses, sizes, strides and types
that it is told. A workspace is filled with NaN before anything is read, which shows if it lies on an array.
"""

from __future__ import annotations

import ctypes
import enum
from types import SimpleNamespace

import ml_dtypes
import numpy as np

__version__ = "1.23.0"
WORKSPACE_BYTES = 1000
HANDLE, STREAM = 5, 7
data_type = enum.Enum("data_type", ["HALF", "BFLOAT16", "FLOAT"])
heur_mode = enum.Enum("heur_mode", ["A", "FALLBACK"])
numerical_note = enum.Enum("numerical_note", ["TENSOR_CORE", "DOWN_CONVERT_INPUTS"])
DTYPES = {data_type.HALF: np.float16, data_type.BFLOAT16: ml_dtypes.bfloat16, data_type.FLOAT: np.float32}
executed: list[str] = []  # the operations of graphs that ran
streams: list[tuple[int, int]] = []  # (handle, stream) that were set


class cudnnGraphNotSupportedError(Exception):
    pass


def backend_version():
    return 91900


def create_handle():
    return HANDLE


def destroy_handle(handle):
    pass


def set_stream(handle, stream):
    streams.append((handle, stream))


class Tensor:
    """A tensor of a graph; each of its setters returns it."""

    def __init__(self, dim=(), stride=(), data_type=None, uid=-1):
        self.dim, self.stride, self.type, self.uid = tuple(dim), tuple(stride), data_type, uid
        self.is_output = False

    def __getattr__(self, name):
        field = {"set_dim": "dim", "set_stride": "stride", "set_data_type": "type", "set_uid": "uid"}
        field["set_output"] = "is_output"

        def set_field(value):
            setattr(self, field[name], value)
            return self

        if name not in field:
            raise AttributeError(name)
        return set_field

    def array(self, places):
        """The array at its place."""
        dtype = np.dtype(DTYPES[self.type])
        assert places[self.uid] % 16 == 0
        elements = sum((n - 1) * stride for n, stride in zip(self.dim, self.stride)) + 1
        memory = (ctypes.c_char * (elements * dtype.itemsize)).from_address(places[self.uid])
        return np.ndarray(self.dim, dtype, memory, 0, [stride * dtype.itemsize for stride in self.stride])


class pygraph:
    """A graph of one operation."""

    def __init__(self, io_data_type, intermediate_data_type, compute_data_type, handle):
        assert handle == HANDLE
        assert intermediate_data_type is compute_data_type is data_type.FLOAT
        self.tensors, self.exact, self.built = [], io_data_type is not data_type.FLOAT, False

    def tensor(self, dim, stride, data_type, uid):
        self.tensors.append(Tensor(dim, stride, data_type, uid))
        return self.tensors[-1]

    def _operation(self, name, function, inputs, outputs, options):
        self.name, self.function, self.options = name, function, options
        self.inputs, self.outputs = inputs, [Tensor() for _ in range(outputs)]
        return self.outputs if outputs > 1 else self.outputs[0]

    def sdpa(self, q, k, v, attn_scale, generate_stats, diagonal_band_right_bound=None):
        assert generate_stats
        return self._operation("sdpa", sdpa, [q, k, v], 2, (attn_scale, diagonal_band_right_bound))

    def sdpa_backward(
        self, q, k, v, o, dO, stats, attn_scale, use_deterministic_algorithm, diagonal_band_right_bound=None
    ):
        inputs = [q, k, v, o, dO, stats]
        return self._operation("sdpa_backward", sdpa_backward, inputs, 3, (attn_scale, diagonal_band_right_bound))

    def conv_fprop(self, image, weight, padding, stride, dilation):
        return self._operation("conv_fprop", fprop, [image, weight], 1, (padding, stride, dilation))

    def conv_dgrad(self, loss, filter, padding, stride, dilation):
        return self._operation("conv_dgrad", dgrad, [loss, filter], 1, (padding, stride, dilation))

    def conv_wgrad(self, image, loss, padding, stride, dilation):
        return self._operation("conv_wgrad", wgrad, [image, loss], 1, (padding, stride, dilation))

    def validate(self):
        numbers = [tensor.uid for tensor in [*self.tensors, *self.outputs]]
        assert numbers == list(range(1, len(numbers) + 1))
        assert all(tensor.is_output for tensor in self.outputs)

    def build_operation_graph(self):
        pass

    def create_execution_plans(self, modes):
        pass

    def deselect_workspace_greater_than(self, size_bytes):
        assert size_bytes >= WORKSPACE_BYTES

    def deselect_numeric_notes(self, notes):
        self.exact = True

    def check_support(self):
        if max(self.tensors[0].dim) == 13:
            raise cudnnGraphNotSupportedError("thirteen")

    def build_plans(self):
        assert self.exact, "float32 would be rounded to TF32"
        self.built = True

    def get_workspace_size(self):
        return WORKSPACE_BYTES

    def execute(self, places, workspace, handle):
        assert self.built and handle == HANDLE and sorted(places) == list(range(1, len(places) + 1))
        ctypes.memset(workspace, 0xFF, WORKSPACE_BYTES)
        inputs = [tensor.array(places).astype(np.float64) for tensor in self.inputs]
        places_of_results = [tensor.array(places) for tensor in self.outputs]
        results = self.function(*inputs, *self.options, *(place.shape for place in places_of_results))
        for place, result in zip(places_of_results, results):
            place[...] = result
        executed.append(self.name)


def weights(q, k, scale, right):
    scores = scale * q @ np.repeat(k, q.shape[1] // k.shape[1], 1).swapaxes(-1, -2)
    if right is not None:
        scores[..., ~np.tri(*scores.shape[-2:], right, dtype=bool)] = -np.inf
    return scores


def sdpa(q, k, v, scale, right, *_):
    scores = weights(q, k, scale, right)
    lse = np.logaddexp.reduce(scores, -1, keepdims=True)
    return np.exp(scores - lse) @ np.repeat(v, q.shape[1] // v.shape[1], 1), lse


def sdpa_backward(q, k, v, y, g, lse, scale, right, *_):
    shared = q.shape[1] // k.shape[1]
    p = np.exp(weights(q, k, scale, right) - lse)
    slope = p * (g @ np.repeat(v, shared, 1).swapaxes(-1, -2) - (g * y).sum(-1, keepdims=True)) * scale
    per_head = slope.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ g
    sums = [x.reshape(x.shape[0], -1, shared, *x.shape[2:]).sum(2) for x in per_head]
    return slope @ np.repeat(k, shared, 1), *sums


def seen(x, shape, y_shape, padding, stride, dilation):
    """Each tap of the window, and the view of padded images (N, G, C / G, ...) that it sees."""
    for i, j in np.ndindex(*shape[2:]):
        rows, columns = (
            slice(tap * apart, tap * apart + step * (count - 1) + 1, step)
            for tap, apart, step, count in zip((i, j), dilation, stride, y_shape[2:])
        )
        view = x[:, :, rows, columns]
        yield i, j, view.reshape(len(x), -1, shape[1], *view.shape[2:])


def padded(x, padding):
    return np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])


def by_group(x, groups):
    return x.reshape(len(x), groups, -1, *x.shape[2:])


def fprop(x, w, *window_and_shape):
    *window, y_shape = window_and_shape
    groups, y = x.shape[1] // w.shape[1], np.zeros(y_shape)
    for i, j, view in seen(padded(x, window[0]), w.shape, y_shape, *window):
        kernel = w[..., i, j].reshape(groups, -1, w.shape[1])
        y += np.einsum("ngchw,goc->ngohw", view, kernel).reshape(y_shape)
    return (y,)


def wgrad(x, g, *window_and_shape):
    *window, shape = window_and_shape
    groups, dw = x.shape[1] // shape[1], np.zeros(shape)
    for i, j, view in seen(padded(x, window[0]), shape, g.shape, *window):
        dw[..., i, j] = np.einsum("ngohw,ngchw->goc", by_group(g, groups), view).reshape(shape[:2])
    return (dw,)


def dgrad(g, w, *window_and_shape):
    *window, shape = window_and_shape
    groups, (high, wide) = shape[1] // w.shape[1], window[0]
    dx = padded(np.zeros(shape), window[0])
    for i, j, view in seen(np.arange(dx.size).reshape(dx.shape), w.shape, g.shape, *window):
        kernel = w[..., i, j].reshape(groups, -1, w.shape[1])
        np.add.at(dx.reshape(-1), view, np.einsum("ngohw,goc->ngchw", by_group(g, groups), kernel))
    return (dx[:, :, high : high + shape[2], wide : wide + shape[3]],)


stream = SimpleNamespace(ptr=STREAM)  # of a device that has cuDNN
