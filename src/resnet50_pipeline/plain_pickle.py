"""A reader of pickles that can run nothing: a stack machine that knows plain data and NumPy's arrays.

A pickle is a program that may name any function of any module and call it, and `pickle.load` obeys. Here stands a
machine of its own that knows only the instructions of texts, numbers, tuples, lists and dicts, and the few names that
an array needs (protocols 2 to 4, Python 2 and 3), none of which is looked up or called: each is an arm of a `match`.
Every length is checked against what is left of the file before it is used, so no file can ask for more memory than it
brings: arrays are views of its bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_DTYPE_CODES: Final = frozenset({"b1", "f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2"})
_BYTE_ORDERS: Final = frozenset({"<", ">", "|", "="})
_MAX_PROTOCOL: Final = 4


class _Name(Enum):
    """What a file may name. There is nothing in it to call."""

    ENCODE = auto()
    BYTES = auto()
    MAPPING = auto()
    NDARRAY = auto()
    DTYPE = auto()
    RECONSTRUCT = auto()
    SCALAR = auto()
    TUPLE = auto()


_NAMES: Final = {
    "_codecs.encode": _Name.ENCODE,
    "collections.OrderedDict": _Name.MAPPING,
    "numpy.ndarray": _Name.NDARRAY,
    "numpy.dtype": _Name.DTYPE,
    "numpy.core.multiarray._reconstruct": _Name.RECONSTRUCT,
    "numpy._core.multiarray._reconstruct": _Name.RECONSTRUCT,
    "numpy.core.multiarray.scalar": _Name.SCALAR,
    "numpy._core.multiarray.scalar": _Name.SCALAR,
    "builtins.bytes": _Name.BYTES,  # how protocol 2 writes no bytes
    "__builtin__.bytes": _Name.BYTES,
    "builtins.tuple": _Name.TUPLE,
    "__builtin__.tuple": _Name.TUPLE,
}


class RefusedPickleError(Exception):
    """Why a file is not read on."""


class _Dtype:
    """A type of numbers: made, then told its byte order."""

    def __init__(self, code: str) -> None:
        if code not in _DTYPE_CODES:
            raise RefusedPickleError(f"an array of type {code!r:.40}; numbers are expected")
        self.code = code
        self.order = "="

    def as_numpy(self) -> np.dtype[Any]:
        """Return it as NumPy's."""
        return np.dtype(self.order + self.code)


class PickledArray:
    """An array: made empty, then given its content, a view of the file."""

    def __init__(self) -> None:
        self.value: NDArray[Any] = np.zeros(0)


class PickleReader:
    """Runs one file: a stack, the marks in it, and what was put aside by number."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self.position = 0
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._unspent = len(data)

    def read(self) -> Any:
        """Return what stands on the stack at STOP; arrays are `PickledArray`, here and inside of lists and dicts.

        Raises:
            RefusedPickleError: it names something else than arrays, or claims more than it has.
            IndexError, KeyError, TypeError, ValueError, OverflowError: it is damaged.
        """
        if bytes(self._data[:1]) != b"\x80":
            raise RefusedPickleError("it does not begin as a pickle does")
        while (code := self._number("<B")) != ord("."):
            instruction = _INSTRUCTIONS.get(code)
            if instruction is None:
                raise RefusedPickleError(f"instruction {bytes([code])!r}, which plain data does not need")
            instruction(self)
        return self._stack.pop()

    def take(self, length: int) -> memoryview:
        """Return the next bytes of the file."""
        if length > len(self._data) - self.position:
            raise RefusedPickleError(
                f"{length} bytes are to follow, {len(self._data) - self.position} are left; it is cut off"
            )
        start, self.position = self.position, self.position + length
        return self._data[start : self.position]

    def skip(self, length: int) -> None:
        """Pass over the next bytes."""
        self.take(length)

    def _number(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def line(self) -> str:
        """Return the next line: the name of a module or function."""
        line = bytes(self._data[self.position : self.position + 256]).split(b"\n")
        if len(line) < 2:
            raise RefusedPickleError("a name without an end")
        self.position += len(line[0]) + 1
        return line[0].decode()

    def push(self, value: Any) -> None:
        """Put a value on top."""
        self._stack.append(value)

    def push_number(self, layout: str) -> None:
        """Put a number of the file on top."""
        self.push(self._number(layout))

    def push_long(self) -> None:
        """Put an integer of up to 255 bytes on top."""
        self.push(int.from_bytes(self.take(self._number("<B")), "little", signed=True))

    def push_text(self, layout: str, encoding: str) -> None:
        """Put a text on top; Python 2 wrote bytes as text, which latin-1 keeps as they are."""
        data = self.take(self._number(layout))
        self.push(str(data, encoding, "surrogatepass" if encoding == "utf-8" else "strict"))

    def push_bytes(self, layout: str) -> None:
        """Put bytes on top, as a view of the file."""
        self.push(self.take(self._number(layout)))

    def mark(self) -> None:
        """Begin a group."""
        self._below.append(self._stack)
        self._stack = []

    def pop(self) -> Any:
        """Take what is on top."""
        return self._stack.pop()

    def pop_group(self) -> list[Any]:
        """End a group and take it."""
        group, self._stack = self._stack, self._below.pop()
        return group

    def push_group_as_tuple(self) -> None:
        """End a group: a tuple of it."""
        self.push(tuple(self.pop_group()))

    def push_last_as_tuple(self, count: int) -> None:
        """Put a tuple of the uppermost values on top."""
        if len(self._stack) < count:
            raise IndexError
        self._stack[len(self._stack) - count :] = [tuple(self._stack[len(self._stack) - count :])]

    def append(self, values: list[Any]) -> None:
        """Add to the list on top."""
        if type(self._stack[-1]) is not list:
            raise RefusedPickleError("an append to what is no list")
        self._stack[-1].extend(values)

    def set_items(self, values: list[Any]) -> None:
        """Add keys and values to the dict on top."""
        target = self._stack[-1]
        if type(target) is not dict or len(values) % 2:
            raise RefusedPickleError("items for what is no dict")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, str | int):
                raise RefusedPickleError("a key that is neither a text nor a number")
            target[key] = value

    def keep(self, number: int | None) -> None:
        """Put what is on top aside, by number; by the next one where none is given."""
        self._memo[len(self._memo) if number is None else number] = self._stack[-1]

    def keep_at(self, layout: str) -> None:
        """Put what is on top aside, by a number of the file."""
        self.keep(self._number(layout))

    def fetch(self, layout: str) -> None:
        """Put what was put aside on top."""
        self.push(self._memo[self._number(layout)])

    def push_name(self, module: object, name: object) -> None:
        """Put one of the known names on top."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise RefusedPickleError("a name that is no text")
        known = _NAMES.get(f"{module}.{name}")
        if known is None:
            raise RefusedPickleError(
                f"it names {module[:60]}.{name[:60]}, which has no place in a file of numbers and would be run by "
                f"pickle.load: do not trust where it comes from"
            )
        self.push(known)

    def reduce(self) -> None:
        """Put what a name makes of its arguments on top."""
        arguments, name = self._stack.pop(), self._stack.pop()
        if not isinstance(name, _Name) or not isinstance(arguments, tuple):
            raise RefusedPickleError("a call of what is no name")
        match name, arguments:
            case _Name.RECONSTRUCT, _:
                self.push(PickledArray())
            case _Name.DTYPE, (str(code), *_):
                self.push(_Dtype(code))
            case _Name.ENCODE, (str(text), "latin1"):
                self._spend(len(text))
                self.push(memoryview(text.encode("latin1")))
            case _Name.SCALAR, (_Dtype() as dtype, data):
                self.push(np.frombuffer(self._as_bytes(data), dtype.as_numpy()).reshape(()).item())
            case _Name.TUPLE, (tuple(values),):
                self.push(values)
            case _Name.BYTES, ():
                self.push(memoryview(b""))
            case _Name.MAPPING, ():
                self.push({})
            case _:
                raise RefusedPickleError("a call that no array needs")

    def build(self) -> None:
        """Give the array or type on top its state."""
        state, target = self._stack.pop(), self._stack[-1]
        match target, state:
            case PickledArray(), (_, tuple(shape), _Dtype() as dtype, fortran, data):
                if not all(type(side) is int and side >= 0 for side in shape):
                    raise RefusedPickleError("an array without a shape")
                flat = np.frombuffer(self._as_bytes(data), dtype.as_numpy())
                target.value = flat.reshape(shape, order="F" if fortran is True else "C")
            case _Dtype(), (_, str(order), None, None, None, *_) if order in _BYTE_ORDERS:
                target.order = order
            case _:
                raise RefusedPickleError("something other than an array of numbers")

    def _as_bytes(self, data: object) -> memoryview | bytes:
        match data:
            case memoryview():
                return data
            case str():  # Python 2's
                self._spend(len(data))
                return data.encode("latin1")
        raise RefusedPickleError("an array without bytes")

    def check_protocol(self) -> None:
        """Check which pickle this is."""
        if (protocol := self._number("<B")) > _MAX_PROTOCOL:
            raise RefusedPickleError(f"pickle protocol {protocol}; 2 to {_MAX_PROTOCOL} can be read")

    def _spend(self, length: int) -> None:
        # A text may be fetched and turned into bytes again and again; who means well does it once.
        self._unspent -= length
        if self._unspent < 0:
            raise RefusedPickleError("it makes more bytes than it has")


_INSTRUCTIONS: Final[dict[int, Callable[[PickleReader], None]]] = {
    ord(code): instruction
    for code, instruction in {
        "\x80": PickleReader.check_protocol,
        "\x95": lambda reader: reader.skip(8),  # the length of a frame, which says nothing new
        "N": lambda reader: reader.push(None),
        "\x88": lambda reader: reader.push(True),
        "\x89": lambda reader: reader.push(False),
        "K": lambda reader: reader.push_number("<B"),
        "M": lambda reader: reader.push_number("<H"),
        "J": lambda reader: reader.push_number("<i"),
        "G": lambda reader: reader.push_number(">d"),
        "\x8a": PickleReader.push_long,
        "U": lambda reader: reader.push_text("<B", "latin-1"),
        "T": lambda reader: reader.push_text("<I", "latin-1"),
        "\x8c": lambda reader: reader.push_text("<B", "utf-8"),
        "X": lambda reader: reader.push_text("<I", "utf-8"),
        "\x8d": lambda reader: reader.push_text("<Q", "utf-8"),
        "C": lambda reader: reader.push_bytes("<B"),
        "B": lambda reader: reader.push_bytes("<I"),
        "\x8e": lambda reader: reader.push_bytes("<Q"),
        "(": PickleReader.mark,
        ")": lambda reader: reader.push(()),
        "t": PickleReader.push_group_as_tuple,
        "\x85": lambda reader: reader.push_last_as_tuple(1),
        "\x86": lambda reader: reader.push_last_as_tuple(2),
        "\x87": lambda reader: reader.push_last_as_tuple(3),
        "]": lambda reader: reader.push([]),
        "a": lambda reader: reader.append([reader.pop()]),
        "e": lambda reader: reader.append(reader.pop_group()),
        "}": lambda reader: reader.push({}),
        "s": lambda reader: reader.set_items([reader.pop(), reader.pop()][::-1]),
        "u": lambda reader: reader.set_items(reader.pop_group()),
        "\x94": lambda reader: reader.keep(None),
        "q": lambda reader: reader.keep_at("<B"),
        "r": lambda reader: reader.keep_at("<I"),
        "h": lambda reader: reader.fetch("<B"),
        "j": lambda reader: reader.fetch("<I"),
        "c": lambda reader: reader.push_name(reader.line(), reader.line()),
        "\x93": lambda reader: reader.push_name(*[reader.pop(), reader.pop()][::-1]),
        "R": PickleReader.reduce,
        "b": PickleReader.build,
    }.items()
}
