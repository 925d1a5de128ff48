"""A reader of pickles that can only make plain data and tensors.

Opcodes are listed by :mod:`pickletools`, which executes nothing, and carried out here on a stack of
our own. A global is only a name; the names in :data:`ALLOWED` mean one of our own functions, any
other is refused by name. Nothing is ever imported or looked up because a file says so.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np

from hounsfield.errors import SourceRefused
from hounsfield.importing.checkpoints.tensors import DTYPES, STORAGES, Storage, Tensor
from hounsfield.importing.claim import printable

MOST_OPCODES = 20_000_000
MOST_BYTES = 512 * 1024**2
_DAMAGED = "the pickle in it is damaged"
_REMEDY = "save only the tensors: torch.save(model.state_dict(), FILE), or use safetensors"


@dataclass(frozen=True)
class Name:
    """A global of the file, by name only."""

    text: str


class _Mark:
    """The pickle machine's mark."""


class Fields(dict[Any, Any]):
    """A dictionary whose ``BUILD`` state (torch keeps ``_metadata`` there) is dropped."""


_MARK = _Mark()
PersistentLoad = Callable[[Any], Any]


def unpickle(data: bytes | BinaryIO, persistent: PersistentLoad) -> Any:
    """Carry out one pickle.

    Parameters
    ----------
    data
        The bytes, or a file at the pickle's start (it is left just behind its end).
    persistent
        Makes a storage of a persistent id.

    Returns
    -------
    Nested dict, list, tuple, set, numbers, texts, :class:`Tensor`, and :class:`Name` for dtypes and devices.

    Raises
    ------
    SourceRefused
        For anything but plain data and tensors, naming it.
    """
    return _Machine(persistent).run(BytesIO(data) if isinstance(data, bytes) else data)


class _Machine:
    def __init__(self, persistent: PersistentLoad) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.persistent = persistent

    def run(self, file: BinaryIO) -> Any:
        count = 0
        try:
            for opcode, argument, _ in pickletools.genops(file):
                count += 1
                if count > MOST_OPCODES:
                    raise SourceRefused("the pickle in it is too long", _REMEDY)
                if opcode.name == "STOP":
                    return self.stack.pop()
                self._step(opcode.name, argument)
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise SourceRefused(_DAMAGED, "fetch the file again, or save the weights again") from error
        raise SourceRefused(_DAMAGED, "fetch the file again, or save the weights again")

    def _step(self, name: str, argument: Any) -> None:
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _PUSHED:
            self.stack.append(argument)
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in _NOTHING:
            return
        else:
            action = _ACTIONS.get(name)
            if action is None:
                raise SourceRefused(f"the pickle in it uses {name}, which makes objects of its own", _REMEDY)
            action(self, argument)

    def _to_mark(self) -> list[Any]:
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise ValueError("no mark")
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def mark(self, _: Any) -> None:
        self.stack.append(_MARK)

    def pop(self, _: Any) -> None:
        self.stack.pop()

    def pop_mark(self, _: Any) -> None:
        self._to_mark()

    def duplicate(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def put(self, argument: Any) -> None:
        self.memo[int(argument)] = self.stack[-1]

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def get(self, argument: Any) -> None:
        self.stack.append(self.memo[int(argument)])

    def make_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._to_mark()))

    def make_list(self, _: Any) -> None:
        self.stack.append(self._to_mark())

    def make_dict(self, _: Any) -> None:
        items = self._to_mark()
        self.stack.append(dict(zip(items[::2], items[1::2], strict=True)))

    def make_frozenset(self, _: Any) -> None:
        self.stack.append(frozenset(self._to_mark()))

    def append(self, _: Any) -> None:
        item = self.stack.pop()
        self._a(list).append(item)

    def appends(self, _: Any) -> None:
        items = self._to_mark()
        self._a(list).extend(items)

    def add_items(self, _: Any) -> None:
        items = self._to_mark()
        self._a(set).update(items)

    def set_item(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._a(dict)[key] = value

    def set_items(self, _: Any) -> None:
        items = self._to_mark()
        self._a(dict).update(zip(items[::2], items[1::2], strict=True))

    def _a(self, kind: type[Any]) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise TypeError(kind.__name__)
        return self.stack[-1]

    def tuple_of(self, size: int) -> None:
        items = tuple(self.stack[len(self.stack) - size :])
        if len(items) != size or any(item is _MARK for item in items):
            raise ValueError("too few")
        del self.stack[len(self.stack) - size :]
        self.stack.append(items)

    def name(self, argument: Any) -> None:
        module, _, attribute = str(argument).partition(" ")
        self.stack.append(_allowed(f"{module}.{attribute}"))

    def stack_name(self, _: Any) -> None:
        attribute, module = self.stack.pop(), self.stack.pop()
        if not isinstance(attribute, str) or not isinstance(module, str):
            raise TypeError("names")
        self.stack.append(_allowed(f"{module}.{attribute}"))

    def reduce(self, _: Any) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        if not isinstance(called, Name) or not isinstance(arguments, tuple):
            raise SourceRefused("the pickle in it calls what is no known function", _REMEDY)
        maker = ALLOWED[called.text]
        if maker is None:
            raise SourceRefused(f"the pickle in it calls {called.text}", _REMEDY)
        self.stack.append(maker(*arguments))

    def build(self, _: Any) -> None:
        self.stack.pop()
        target = self.stack[-1]
        if not isinstance(target, Fields | np.generic | NumpyType):
            raise SourceRefused("the pickle in it sets the inner state of an object", _REMEDY)

    def persistent_id(self, _: Any) -> None:
        self.stack.append(self.persistent(self.stack.pop()))


def _allowed(text: str) -> Name:
    if text not in ALLOWED:
        raise SourceRefused(f"the pickle in it names {printable(text, 120)!r}, a program's part", _REMEDY)
    return Name(text)


@dataclass
class NumpyType:
    """A numpy dtype by its code; its ``BUILD`` state is dropped."""

    code: str


def _rebuilt(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> Tensor:
    if not isinstance(storage, Storage) or not isinstance(shape, tuple) or not isinstance(stride, tuple):
        raise SourceRefused(_DAMAGED, _REMEDY)
    return Tensor(storage, offset, shape, stride)


def _parameter(data: Any, *_: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise SourceRefused(_DAMAGED, _REMEDY)
    return data


def _ordered(*arguments: Any) -> Fields:
    pairs = arguments[0] if arguments else []
    return Fields((pair[0], pair[1]) for pair in pairs)


def _numpy_type(code: Any, *_: Any) -> NumpyType:
    if not isinstance(code, str) or code not in (
        "f8",
        "f4",
        "f2",
        "i8",
        "i4",
        "i2",
        "i1",
        "u8",
        "u4",
        "u2",
        "u1",
        "b1",
    ):
        raise SourceRefused("the pickle in it holds a numpy type that is no plain number", _REMEDY)
    return NumpyType(code)


def _numpy_scalar(kind: Any, data: Any) -> np.generic:
    if isinstance(data, str):
        data = data.encode("latin-1")
    if not isinstance(kind, NumpyType) or not isinstance(data, bytes):
        raise SourceRefused(_DAMAGED, _REMEDY)
    scalar: np.generic = np.frombuffer(data, "<" + kind.code, 1)[0]
    return scalar


def _encoded(text: Any, coding: Any = "latin1", *_: Any) -> bytes:
    if not isinstance(text, str) or coding not in ("latin1", "latin-1"):
        raise SourceRefused(_DAMAGED, _REMEDY)
    return text.encode("latin-1")


def _device(*arguments: Any) -> str:
    return ":".join(str(argument) for argument in arguments)


def _size(sizes: Any = ()) -> tuple[Any, ...]:
    return tuple(sizes)


def _set(items: Any = ()) -> set[Any]:
    return set(items)


#: Every global that a checkpoint may name; ``None`` for those that are only values.
ALLOWED: dict[str, Callable[..., Any] | None] = {
    "collections.OrderedDict": _ordered,
    "torch._utils._rebuild_tensor_v2": _rebuilt,
    "torch._utils._rebuild_tensor": _rebuilt,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.nn.parameter.Parameter": _parameter,
    "torch.Size": _size,
    "torch.device": _device,
    "builtins.set": _set,
    "__builtin__.set": _set,
    "_codecs.encode": _encoded,
    "numpy.dtype": _numpy_type,
    "numpy.core.multiarray.scalar": _numpy_scalar,
    "numpy._core.multiarray.scalar": _numpy_scalar,
    **{f"torch.{name}": None for name in (*STORAGES, *DTYPES)},
    **{f"torch.storage.{name}": None for name in ("UntypedStorage", "TypedStorage", "_LegacyStorage")},
}

_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": set}
_NOTHING = frozenset({"PROTO", "FRAME"})
_PUSHED = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    }
)
_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_mark,
    "DUP": _Machine.duplicate,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.put),
    "MEMOIZE": _Machine.memoize,
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    "TUPLE": _Machine.make_tuple,
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "LIST": _Machine.make_list,
    "DICT": _Machine.make_dict,
    "FROZENSET": _Machine.make_frozenset,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "ADDITEMS": _Machine.add_items,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.stack_name,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent_id,
}
