"""Chains: calls of compiled kernels made one, which runs them without Python in between.

A call becomes a record of 64-bit words: the address of the kernel's machine code, and its arguments as it takes them.
A chain is a list of records, and of what knows how to make a call of each: one piece of code for each kind of
signature, made when it is first met. For calls that are repeated with the same arrays and numbers.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, final

import llvmlite.binding as llvm
import numpy
from llvmlite import ir
from numba import types
from numba.core.compiler_lock import global_compiler_lock

from ownt.calls import Call, parts_of

_MOST = 64  # calls in a chain: so often does Python see what else there is, such as an interrupt
_WORD, _INT = ir.IntType(64), ir.IntType(32)
_WORDS = _WORD.as_pointer()
_MASK = (1 << 64) - 1
_STEP = ir.FunctionType(_INT, [_WORDS])  # calls the kernel of a record; 0, or what is wrong


def joined(calls: Sequence[Call]) -> list[Call]:
    """The same calls in the same order, runs of those that can be chained each as one."""
    found: list[Call] = []
    run: list[tuple[Call, Any, Call]] = []

    def end() -> None:
        if run:
            found.append((Chain(run), ()))
            run.clear()

    for call in (part for whole in calls for part in parts_of(whole)):
        compiled = _compiled(call)
        code = getattr(compiled[0], "overloads", None)
        if code is None:
            end()
            found.append(call)
            continue
        run.append((call, next(iter(code.values())), compiled))
        if len(run) == _MOST:
            end()
    end()
    return found


def _compiled(call: Call) -> Call:
    """What a chain calls in place of a call: see `in_chain` of ag.ops.ranges."""
    function, arguments = call
    stands_in = getattr(function, "in_chain", None)
    function, arguments = call if stands_in is None else stands_in(*arguments)
    return getattr(function, "settled", function), arguments


@final
class Chain:
    """Calls as one. `links`: each call, its compiled code, and what that is called with."""

    def __init__(self, links: Sequence[tuple[Call, Any, Call]]) -> None:
        self._calls = [call for call, _, _ in links]
        self._held = [arguments for _, _, (_, arguments) in links]  # arrays, of which records have the addresses
        self._run, steps = _code([_kind(code) for _, code, _ in links])
        records = [_record(code, arguments) for _, code, (_, arguments) in links]
        self._words = numpy.array([word for record in records for word in record], numpy.uint64)
        starts = numpy.cumsum([0, *map(len, records[:-1])]) * 8 + self._words.ctypes.data
        self._table = numpy.array([steps, starts], numpy.uint64).T.copy()
        self._given = self._table.ctypes.data, len(links)

    def __call__(self) -> None:
        failed = self._run(*self._given)
        if failed >= 0:
            function, arguments = self._calls[failed]
            function(*arguments)  # says what is wrong; what failed has changed nothing
            raise RuntimeError(f"a chain of kernels stopped at {function!r}, which gives no reason")


def _kind(code: Any) -> Any:
    """The type of the kernel's machine code: its results' place, its error's place, arguments in single values."""
    found = code.fndesc
    return code.target_context.call_conv.get_function_type(found.restype, found.argtypes)


def _record(code: Any, arguments: tuple[Any, ...]) -> list[int]:
    """The words of a call."""
    record = [code.library.get_pointer_to_function(code.fndesc.llvm_func_name)]
    for value, kind in zip(arguments, code.fndesc.argtypes, strict=True):
        record.extend(_words(value, kind))
    return record


def _words(value: Any, kind: Any) -> Iterator[int]:
    """An argument as compiled code takes it: see the models of Numba's types."""
    if isinstance(kind, types.Array):  # nobody counts who holds it, hence the zeros
        yield from (0, 0, value.size, value.itemsize, value.ctypes.data, *value.shape)
        yield from (stride & _MASK for stride in value.strides)
    elif isinstance(kind, types.BaseTuple):
        for part, part_kind in zip(value, kind.types, strict=True):
            yield from _words(part, part_kind)
    elif isinstance(kind, types.Float):
        real, word = ("f", "I") if kind.bitwidth == 32 else ("d", "Q")
        yield struct.unpack(word, _packed(real, value))[0]
    else:
        yield int(value) & _MASK


def _packed(real: str, value: Any) -> bytes:
    return numpy.array(value, real).tobytes()


@final
class _Maker:
    """Makes the code that calls the kernels of records. There is one, and one thread at a time uses it."""

    def __init__(self) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine = llvm.Target.from_default_triple().create_target_machine()
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
        self._steps: dict[str, int] = {}  # where the code for each kind of machine code is
        module = ir.Module("ownt_chain")
        _write_run(ir.Function(module, ir.FunctionType(_WORD, [_WORDS, _WORD]), "ownt_chain"))
        (place,) = self._load(module)
        self.run = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64)(place)

    def steps(self, kinds: Sequence[Any]) -> list[int]:
        """Where the code is that makes the call of a record, for each of some kinds of machine code."""
        new = {str(kind): kind for kind in kinds if str(kind) not in self._steps}
        if new:
            module = ir.Module("ownt_steps")
            for i, kind in enumerate(new.values(), len(self._steps)):
                _write_step(ir.Function(module, _STEP, f"ownt_step_{i}"), kind)
            self._steps.update(zip(new, self._load(module), strict=True))
        return [self._steps[str(kind)] for kind in kinds]

    def _load(self, module: Any) -> list[int]:
        """Compile a module: the addresses of its functions."""
        self._engine.add_module(llvm.parse_assembly(str(module)))
        self._engine.finalize_object()
        return [self._engine.get_function_address(function.name) for function in module.functions]


_maker: _Maker | None = None


@global_compiler_lock
def _code(kinds: Sequence[Any]) -> tuple[Callable[[int, int], int], list[int]]:
    """(what runs a table of (step, record) and says which failed, or -1; the steps for some kinds of machine code)"""
    global _maker
    _maker = _maker or _Maker()
    return _maker.run, _maker.steps(kinds)


def _write_step(function: Any, kind: Any) -> None:
    """record -> kernel(*arguments): the kernel's address comes first, each argument is a word."""
    build = ir.IRBuilder(function.append_basic_block())
    record = function.args[0]

    def word(i: int) -> Any:
        return build.load(build.gep(record, [_WORD(i)]))

    places = [build.alloca(part.pointee) for part in kind.args[:2]]
    given = [_as(build, word(i), part) for i, part in enumerate(kind.args[2:], 1)]
    build.ret(build.call(build.inttoptr(word(0), kind.as_pointer()), [*places, *given]))


def _as(build: Any, word: Any, kind: Any) -> Any:
    """A word as a value of a kind: the lowest bits of it."""
    if isinstance(kind, ir.PointerType):
        return build.inttoptr(word, kind)
    if isinstance(kind, ir.IntType):
        return word if kind.width == _WORD.width else build.trunc(word, kind)
    return build.bitcast(build.trunc(word, _INT) if isinstance(kind, ir.FloatType) else word, kind)


def _write_run(function: Any) -> None:
    """(table, count) -> the number of the first call that failed, -1 if none did"""
    table, count = function.args
    before, each, failed, onward, done = [function.append_basic_block() for _ in range(5)]
    build = ir.IRBuilder(before)
    build.branch(each)
    build.position_at_end(each)
    i = build.phi(_WORD)
    i.add_incoming(_WORD(0), before)
    at = build.mul(i, _WORD(2))
    step = build.inttoptr(build.load(build.gep(table, [at])), _STEP.as_pointer())
    record = build.inttoptr(build.load(build.gep(table, [build.add(at, _WORD(1))])), _WORDS)
    build.cbranch(build.icmp_signed("!=", build.call(step, [record]), _INT(0)), failed, onward)
    build.position_at_end(failed)
    build.ret(i)
    build.position_at_end(onward)
    following = build.add(i, _WORD(1))
    i.add_incoming(following, onward)
    build.cbranch(build.icmp_signed("<", following, count), each, done)
    build.position_at_end(done)
    build.ret(_WORD(-1))
