"""Addresses of NumPy's arrays, read out of the objects: its own way makes an object for each that is asked for."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy

ITEMS = tuple.__basicsize__  # bytes into a tuple: its first item
DATA = object.__basicsize__  # bytes into an array: the address of its first element

_word = ctypes.c_size_t.from_address
_probe = (numpy.empty(1),)
knows_objects = (  # of CPython and NumPy as they are here
    _word(id(_probe) + ITEMS).value == id(_probe[0]) and _word(id(_probe[0]) + DATA).value == _probe[0].ctypes.data
)


def _read(array: Any) -> int:
    """The address of an array's first element."""
    return _word(id(array) + DATA).value


def _ask(array: Any) -> int:
    """The same where objects are made otherwise."""
    return array.ctypes.data


address_of: Callable[[Any], int] = _read if knows_objects else _ask
