"""Chains: calls of compiled kernels made one, which runs them without Python in between.

A call becomes a record of 64-bit words: the address of the kernel's machine code, then its arguments as that takes
them. For each signature a small function is generated that loads the words of a record and makes the call; a chain
goes through a list of (such a function, record) and stops where a kernel fails. For calls that are repeated with the
same arrays and numbers.

A function that is not compiled may name one that is: `in_chain(*arguments)` gives the call to make in its place, or
itself. That may only check something: where it fails, the function itself is called, to say what is wrong.
"""

from __future__ import annotations

import ctypes
import functools
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, final

import llvmlite.binding as llvm
import numpy
from llvmlite import ir
from numba import types
from numba.core.compiler_lock import global_compiler_lock

from ownt.calls import Call, parts_of

LONGEST = 64  # calls in a chain: so often does Python see what else there is, such as an interrupt
INT64, _INT = ir.IntType(64), ir.IntType(32)
WORDS = INT64.as_pointer()
_MASK = (1 << 64) - 1
_CALLER = ir.FunctionType(_INT, [WORDS])  # calls the kernel of a record; 0, or another number if it raised
_SINGLE = (types.Integer, types.Boolean, types.Float)  # types of arguments of one word


def joined(calls: Sequence[Call]) -> list[Call]:
    """The same calls in the same order, runs of those that can be chained each as one."""
    found: list[Call] = []
    run: list[tuple[Call, Call]] = []

    def end() -> None:
        if run:
            found.append((Chain(run), ()))
            run.clear()

    for call in (part for whole in calls for part in parts_of(whole)):
        compiled = compiled_for(call)
        if is_chainable(compiled[0]):
            run.append((call, compiled))
        else:
            end()
            found.append(call)
        if len(run) == LONGEST:
            end()
    end()
    return found


def compiled_for(call: Call) -> Call:
    """What a chain calls in place of a call."""
    function, arguments = call
    stands_in = getattr(function, "in_chain", None)
    function, arguments = call if stands_in is None else stands_in(*arguments)
    return getattr(function, "settled", function), arguments


def is_chainable(function: Any) -> bool:
    """Whether it is one that Numba compiled, for arguments that records can hold."""
    return hasattr(function, "overloads") and code_of(function).fits


@final
class Chain:
    """Calls as one. `links`: each call, and that of a compiled function which does it."""

    def __init__(self, links: Sequence[tuple[Call, Call]]) -> None:
        self._calls = [call for call, _ in links]
        self._held = [arguments for _, (_, arguments) in links]  # arrays, of which records have the addresses
        codes = [code_of(function) for _, (function, _) in links]
        records = [code.record(arguments) for code, arguments in zip(codes, self._held, strict=True)]
        self._words = numpy.array([word for record in records for word in record], numpy.uint64)
        starts = numpy.cumsum([0, *map(len, records[:-1])]) * 8 + self._words.ctypes.data
        self._table = numpy.array([[code.caller for code in codes], starts], numpy.uint64).T.copy()
        self._given = self._table.ctypes.data, len(links)
        self._run = maker().run

    def __call__(self) -> None:
        failed = self._run(*self._given)
        if failed >= 0:
            function, arguments = self._calls[failed]
            function(*arguments)  # says what is wrong
            name = getattr(function, "__name__", type(function).__name__)
            raise RuntimeError(f"{name}: it failed in a chain of kernels, but not when it was called again")


@final
class _Code:
    """The machine code of a compiled function.

    address: where it is; caller: where the function is that calls it with a record; types: of its arguments
    fits:    whether a record has the words that it takes
    """

    def __init__(self, function: Any) -> None:
        (made,) = function.overloads.values()
        described = made.fndesc
        self.types = described.argtypes
        self.address = made.library.get_pointer_to_function(described.llvm_func_name)
        signature = made.target_context.call_conv.get_function_type(described.restype, self.types)
        taken = len(signature.args) - _PLACES
        self.fits = (
            bool(self.address) and all(map(_is_known, self.types)) and sum(map(count_words, self.types)) == taken
        )
        self.caller = maker().caller(signature) if self.fits else 0

    def record(self, arguments: tuple[Any, ...]) -> list[int]:
        """The words of a call."""
        parts = [_words(value, kind) for value, kind in zip(arguments, self.types, strict=True)]
        with numpy.errstate(over="ignore"):  # a number too large for float32 is Inf, as where it is called from Python
            return [self.address, *(word for part in parts for word in part)]


code_of = functools.cache(_Code)
_PLACES = 2  # arguments of machine code before the function's own: where to put its result, and its error


def _is_known(kind: Any) -> bool:
    known = isinstance(kind, (types.Array, *_SINGLE))
    return known or (isinstance(kind, types.BaseTuple) and all(map(_is_known, kind.types)))


def count_words(kind: Any) -> int:
    """Words of an argument of a type that is known."""
    if isinstance(kind, types.BaseTuple):
        return sum(map(count_words, kind.types))
    return 5 + 2 * kind.ndim if isinstance(kind, types.Array) else 1


ADDRESS = 4  # the word of an array that has its address


def _words(value: Any, kind: Any) -> Iterator[int]:
    """An argument as compiled code takes it: see the models of Numba's types."""
    if isinstance(kind, types.Array):  # nobody counts who holds it, hence the zeros
        yield from (0, 0, value.size, value.itemsize, value.ctypes.data, *value.shape)
        yield from (stride & _MASK for stride in value.strides)
    elif isinstance(kind, types.BaseTuple):
        for part, part_kind in zip(value, kind.types, strict=True):
            yield from _words(part, part_kind)
    elif isinstance(kind, types.Float):
        real, word = (numpy.float32, "I") if kind.bitwidth == 32 else (numpy.float64, "Q")
        yield struct.unpack(word, real(value))[0]
    else:
        yield int(bool(value) if isinstance(kind, types.Boolean) else value) & _MASK


@final
class _Maker:
    """Generates the functions that call kernels with records."""

    def __init__(self) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine = llvm.Target.from_default_triple().create_target_machine()
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
        self._callers: dict[str, int] = {}  # by signatures of machine code
        self.chain = self.load("ownt_chain", ir.FunctionType(INT64, [WORDS, INT64]), _write_run)
        self.run = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64)(self.chain)

    @global_compiler_lock
    def caller(self, signature: Any) -> int:
        """Where the function is that calls machine code of a signature with a record."""
        known = str(signature)
        if known not in self._callers:
            name = f"ownt_caller_{len(self._callers)}"
            self._callers[known] = self.load(name, _CALLER, lambda function: _write_caller(function, signature))
        return self._callers[known]

    def load(self, name: str, signature: Any, write: Callable[[Any], None]) -> int:
        """Write and compile a function: its address."""
        module = ir.Module(name)
        write(ir.Function(module, signature, name))
        self._engine.add_module(llvm.parse_assembly(str(module)))
        self._engine.finalize_object()
        return self._engine.get_function_address(name)


@global_compiler_lock
@functools.cache
def maker() -> _Maker:
    """There is one, and one thread at a time uses it."""
    return _Maker()


def _write_caller(function: Any, signature: Any) -> None:
    """record -> kernel(*arguments): the kernel's address comes first, each argument is a word."""
    build = ir.IRBuilder(function.append_basic_block())
    record = function.args[0]

    def word(i: int) -> Any:
        return build.load(build.gep(record, [INT64(i)]))

    places = [build.alloca(part.pointee) for part in signature.args[:_PLACES]]
    given = [_as(build, word(i), part) for i, part in enumerate(signature.args[_PLACES:], 1)]
    build.ret(build.call(build.inttoptr(word(0), signature.as_pointer()), [*places, *given]))


def _as(build: Any, word: Any, kind: Any) -> Any:
    """A word as a value of LLVM's type `kind`: the lowest bits of it."""
    if isinstance(kind, ir.PointerType):
        return build.inttoptr(word, kind)
    if isinstance(kind, ir.IntType):
        return word if kind.width == INT64.width else build.trunc(word, kind)
    return build.bitcast(build.trunc(word, _INT) if isinstance(kind, ir.FloatType) else word, kind)


def _write_run(function: Any) -> None:
    """(list, its length) -> the number of the first call that failed, -1 if none did"""
    calls, count = function.args
    before, each, failed, onward, done = [function.append_basic_block() for _ in range(5)]
    build = ir.IRBuilder(before)
    build.branch(each)
    build.position_at_end(each)
    i = build.phi(INT64)
    i.add_incoming(INT64(0), before)
    at = build.mul(i, INT64(2))
    caller = build.inttoptr(build.load(build.gep(calls, [at])), _CALLER.as_pointer())
    record = build.inttoptr(build.load(build.gep(calls, [build.add(at, INT64(1))])), WORDS)
    build.cbranch(build.icmp_signed("!=", build.call(caller, [record]), _INT(0)), failed, onward)
    build.position_at_end(failed)
    build.ret(i)
    build.position_at_end(onward)
    following = build.add(i, INT64(1))
    i.add_incoming(following, onward)
    build.cbranch(build.icmp_signed("<", following, count), each, done)
    build.position_at_end(done)
    build.ret(INT64(-1))
