"""Reads files written by `paddle.save` (`.pdparams`, `.pdopt`, `.pdstates`) without executing code from them.

    read_pdparams(Path("ResNet50_pretrained.pdparams"))  # {"conv1.conv.weight": float32 [64, 3, 7, 7], …}

These files are pickles, and `paddle.load` runs any function that a pickle names. The format is defined by
paddle/framework/io.py in Paddle 2 and 3: a dict of arrays (a state dict), or dicts, lists and numbers, in which a
tensor is stored as `(name, array)`.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import CheckpointError
from resnet50_pipeline.files import write_bytes
from resnet50_pipeline.pdparams.plain_pickle import PickledArray, PickleReader, RefusedPickleError

Array = NDArray[Any]

# Keys that `paddle.save` adds: the names of the tensors in the process, and how arrays larger than 1 GiB were split
# (protocol < 4).
_NAME_TABLE: Final = "StructuredToParameterName@@"
_CUT_ARRAYS: Final = "UnpackBigParamInfor@@"


def read_pdparams(path: Path) -> dict[str, Array]:
    """Return the arrays of a state dict, keyed by name, in file order. bfloat16 arrays are converted to float32.

    Raises:
        CheckpointError: if the file is missing, truncated or damaged, is not a state dict, or contains objects other
            than arrays.
    """
    content = _read(path)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} contains {_kind(content)}, not a dict of named weights; is it a .pdopt file?")
    cut = content.pop(_CUT_ARRAYS, {})
    content.pop(_NAME_TABLE, None)
    arrays: dict[str, Array] = {}
    unclaimed = path.stat().st_size
    for name, value in content.items():
        array = _array_of(value)
        if not isinstance(name, str) or array is None:
            raise CheckpointError(f"{path}: {name!r:.60} is {_kind(value)}, but weights must be arrays")
        unclaimed -= array.nbytes
        if unclaimed < 0:  # for example, one array under a million names
            raise CheckpointError(
                f"{path}: the arrays claim more bytes than the file contains; do not trust the source of this file"
            )
        arrays[name] = _widened(array)
    return _joined(arrays, cut, path)


def write_pdparams(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write a state dict in the `paddle.save` format (protocol 4), so that PaddleClas can load it."""
    content: dict[str, Any] = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    # With this table, Paddle loads tensors instead of bare arrays.
    content[_NAME_TABLE] = {name: name for name in arrays}
    write_bytes(path, pickle.dumps(content, protocol=4))


def read_pdstates(path: Path) -> dict[str, float]:
    """Return the numbers in one of PaddleClas' `.pdstates` files, such as `{"metric": 0.76, "epoch": 118}`.

    Raises:
        CheckpointError: as in `read_pdparams`.
    """
    content = _read(path)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} contains {_kind(content)}, not a dict of named numbers; is it a .pdstates file?")
    numbers: dict[str, float] = {}
    for name, value in content.items():
        array = _array_of(value)
        number = array.item() if array is not None and array.size == 1 else value
        if not isinstance(name, str) or not isinstance(number, int | float):
            raise CheckpointError(f"{path}: {name!r:.60} is {_kind(value)}, not a number")
        numbers[name] = number
    return numbers


def require_plain_data(path: Path) -> None:
    """Check that a file contains only arrays and plain data, so that `paddle.load` cannot run code from it.

    Raises:
        CheckpointError: as in `read_pdparams`.
    """
    _read(path)


def _read(path: Path) -> Any:
    """Return the content of a file: strings, numbers, lists, dicts and `PickledArray`s."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    try:
        return PickleReader(data).load()
    except RefusedPickleError as refusal:
        raise CheckpointError(f"{path} was rejected: {refusal}; no code from the file was run") from refusal
    except Exception as error:  # a damaged pickle can raise almost any exception
        raise CheckpointError(f"{path} is damaged ({type(error).__name__}); download or write it again") from error


def _array_of(value: object) -> Array | None:
    """Return the array in a value, or None if there is none. For a tensor, the value is a (name, array) pair."""
    match value:
        case PickledArray() as array:
            return array.value
        case (str(), PickledArray() as array):
            return array.value
    return None


def _widened(array: Array) -> Array:
    """Return a copy in native byte order. uint16 arrays become float32, because Paddle stores bfloat16 as uint16."""
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(array.dtype.newbyteorder("="))


def _joined(arrays: dict[str, Array], cut: object, path: Path) -> dict[str, Array]:
    """Join arrays that were saved in pieces: `name@@.0`, `name@@.1`, and so on."""
    if not isinstance(cut, dict):
        raise CheckpointError(f"{path}: {_CUT_ARRAYS} is {_kind(cut)}, not a dict")
    for name, pieces in cut.items():
        match pieces:
            case {"OriginShape": tuple(shape), "slices": list(slices)} if all(
                isinstance(piece, str) and piece in arrays for piece in slices
            ):
                try:
                    arrays[name] = np.concatenate([arrays.pop(piece) for piece in slices]).reshape(shape)
                except (ValueError, TypeError, KeyError) as error:
                    raise CheckpointError(
                        f"{path}: the {len(slices)} pieces of {name!r:.60} do not fit together; download or write the "
                        f"file again"
                    ) from error
            case _:
                raise CheckpointError(f"{path}: pieces of {name!r:.60} are missing; download or write the file again")
    return arrays


def _kind(value: object) -> str:
    names = {PickledArray: "an array", dict: "a dict", list: "a list", str: "a string", bytes: "bytes"}
    return names.get(type(value), f"a {type(value).__name__}")
