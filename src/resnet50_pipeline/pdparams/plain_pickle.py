"""Reads pickles of plain data and NumPy arrays without executing code from the file.

A pickle is a program that can call any function in any module by name. This reader accepts only eight names, and
substitutes a function in this module for each. It rejects all other names, and all instructions that plain data does
not need.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

_MAX_PROTOCOL: Final = 4
_DTYPE_CODES: Final = frozenset({"b1", "f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2"})
_BYTE_ORDERS: Final = frozenset({"<", ">", "|", "="})
# Instructions for strings, numbers, tuples, lists, dicts and calls, in protocols 2 to 4 as written by Python 2 and 3.
_INSTRUCTIONS: Final = (
    *(pickle.FRAME, pickle.STOP, pickle.MARK, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE),
    *(pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINFLOAT),
    *(pickle.SHORT_BINSTRING, pickle.BINSTRING, pickle.SHORT_BINUNICODE, pickle.BINUNICODE, pickle.BINUNICODE8),
    *(pickle.SHORT_BINBYTES, pickle.BINBYTES, pickle.BINBYTES8),
    *(pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
    *(pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS, pickle.EMPTY_DICT),
    *(pickle.MEMOIZE, pickle.BINPUT, pickle.LONG_BINPUT, pickle.BINGET, pickle.LONG_BINGET),
    *(pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.REDUCE, pickle.BUILD),
)


class RefusedPickleError(Exception):
    """A file contains objects other than plain data and arrays. The message describes the first such object."""


class PickledArray:
    """An array in a pickle. The reader first creates an empty array, then fills it with a view of the file."""

    def __init__(self, reader: PickleReader) -> None:
        self.value: NDArray[Any] = np.zeros(0)
        self._reader = reader

    def __setstate__(self, state: object) -> None:
        """Set the shape, type and bytes of the array."""
        match state:
            case (_, tuple(shape), _Dtype() as dtype, fortran, data) if all(
                type(side) is int and side >= 0 for side in shape
            ):
                flat = np.frombuffer(self._reader.as_bytes(data), dtype.as_numpy())
                self.value = flat.reshape(shape, order="F" if fortran is True else "C")
            case _:
                raise RefusedPickleError("it contains an array whose elements are not numbers")


class _Dtype:
    """A numeric type in a pickle. The reader first creates the type and then sets its byte order."""

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or code not in _DTYPE_CODES:
            raise RefusedPickleError(
                f"it contains an array of type {code if isinstance(code, str) else '?':.40} instead of numbers"
            )
        self._code, self._order = code, "="

    def __setstate__(self, state: object) -> None:
        """Set the byte order. Types with fields have additional state and are rejected."""
        match state:
            case (_, str(order), None, None, None, *_) if order in _BYTE_ORDERS:
                self._order = order
            case _:
                raise RefusedPickleError("it contains an array whose elements are not numbers")

    def as_numpy(self) -> np.dtype[Any]:
        """Return the type as a NumPy dtype."""
        return np.dtype(self._order + self._code)


class _Name:
    """A placeholder for a named function. A pickle can call the placeholder, but cannot set attributes on it."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: object) -> None:
        raise RefusedPickleError("it sets the state of a function")


# The base class is the Python version of `pickle.Unpickler`. The C version allocates the length that a file claims
# before it reads any data. It also accepts nested tuples as dict keys, and hashing them can overflow the stack or run
# forever. In this class, the file is in memory, and a read beyond its end returns only the remaining bytes.
class PickleReader(pickle._Unpickler):
    """Loads a pickle as strings, numbers, tuples, lists and dicts, with a `PickledArray` for each array."""

    # Attributes of the base class, which has no type hints.
    read: Callable[[int], bytes]
    stack: list[Any]

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="latin1")  # Python 2 wrote bytes as strings; latin-1 preserves them
        self._unspent = len(data)
        self._known: dict[str, Callable[..., Any]] = {
            "_codecs.encode": self._encode,
            "collections.OrderedDict": lambda: {},
            "numpy.ndarray": _refuse_call,  # pickles pass it as an argument, but never call it
            "numpy.dtype": _Dtype,
            "multiarray._reconstruct": lambda *_: PickledArray(self),
            "multiarray.scalar": self._make_scalar,
            "builtins.bytes": lambda: b"",  # protocol 2 writes empty bytes this way
            "builtins.tuple": _make_tuple,
        }

    def find_class(self, module: str, name: str) -> _Name:
        """Return the placeholder for a function name.

        Raises:
            RefusedPickleError: if the name is not one of the accepted names.
        """
        # Module names used by Python 2, NumPy 1 and NumPy 2.
        place = {
            "__builtin__": "builtins",
            "numpy.core.multiarray": "multiarray",
            "numpy._core.multiarray": "multiarray",
        }
        known = self._known.get(f"{place.get(module, module)}.{name}")
        if known is None:
            raise RefusedPickleError(
                f"it names {module[:60]}.{name[:60]}, which weights do not need and which pickle.load would run (do "
                f"not trust the source of this file)"
            )
        return _Name(known)

    def as_bytes(self, data: object) -> bytes:
        """Return the bytes of an array. Python 2 stored them as a string, which is converted.

        Raises:
            RefusedPickleError: if `data` is neither bytes nor a string.
        """
        match data:
            case bytes():
                return data
            case str():
                return self._encode(data, "latin1")
        raise RefusedPickleError("it contains an array without bytes")

    def _encode(self, text: object, encoding: object) -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            _refuse_call()
        # A malicious file could encode one string many times to exhaust memory; a real file encodes each string once.
        self._unspent -= len(text)
        if self._unspent < 0:
            raise RefusedPickleError("it creates more bytes than the file contains")
        return text.encode("latin1")

    def _make_scalar(self, dtype: object, data: object) -> Any:
        if not isinstance(dtype, _Dtype):
            _refuse_call()
        return np.frombuffer(self.as_bytes(data), dtype.as_numpy()).reshape(()).item()

    def _load_protocol(self) -> None:
        if (protocol := self.read(1)[0]) > _MAX_PROTOCOL:
            raise RefusedPickleError(f"it uses pickle protocol {protocol}, but only 2 to {_MAX_PROTOCOL} are supported")

    def _load_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    def _set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise RefusedPickleError("it sets items on an object that is not a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | int):
                raise RefusedPickleError("it contains a key that is neither a string nor a number")
            target[key] = value

    class _Instructions(dict[int, Callable[[Any], None]]):
        def __missing__(self, code: int) -> NoReturn:
            raise RefusedPickleError(f"it contains instruction {bytes([code])!r}, which plain data does not need")

    dispatch = _Instructions(
        {code[0]: pickle._Unpickler.dispatch[code[0]] for code in _INSTRUCTIONS}
        | {
            pickle.PROTO[0]: _load_protocol,
            pickle.SETITEM[0]: _load_item,
            pickle.SETITEMS[0]: lambda reader: reader._set_items(reader.pop_mark()),
        }
    )


def _make_tuple(values: object) -> tuple[Any, ...]:
    if not isinstance(values, tuple):
        _refuse_call()
    return values


def _refuse_call(*_: object) -> NoReturn:
    raise RefusedPickleError("it makes a call that arrays do not need")
