"""Reads what `paddle.save` wrote (`.pdparams`, `.pdopt`, `.pdstates`) without running anything that a file asks for.

    read_pdparams(Path("ResNet50_pretrained.pdparams"))  # {"conv1.conv.weight": float32 [64, 3, 7, 7], …}

Such files are pickles, and `paddle.load` runs what they name. The format is that of paddle/framework/io.py, 2.x and
3.x: a dict of arrays (a state dict), or dicts, lists and numbers, in which a tensor is `(name, array)`.
"""

from __future__ import annotations

import pickle  # to write; nothing is read with it
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import CheckpointError
from resnet50_pipeline.files import write_bytes
from resnet50_pipeline.plain_pickle import PickledArray, PickleReader, RefusedPickleError

Array = NDArray[Any]

# What `paddle.save` adds to the tensors: the names of a process, and how arrays above 1 GiB were cut (protocol < 4).
_NAME_TABLE: Final = "StructuredToParameterName@@"
_CUT_ARRAYS: Final = "UnpackBigParamInfor@@"


def read_pdparams(path: Path) -> dict[str, Array]:
    """Return the arrays of a state dict by name, in the file's order; bfloat16 (uint16 in the file) as float32.

    Raises:
        CheckpointError: the file is missing, cut off, damaged, no state dict, or asks for more than arrays.
    """
    content = _read(path)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds {_kind(content)}, not weights by name; is it a .pdopt?")
    cut = content.pop(_CUT_ARRAYS, {})
    content.pop(_NAME_TABLE, None)
    arrays: dict[str, Array] = {}
    unclaimed = path.stat().st_size
    for name, value in content.items():
        array = _array_of(value)
        if not isinstance(name, str) or array is None:
            raise CheckpointError(f"{path}: {name!r:.60} is {_kind(value)}; weights are arrays by name")
        unclaimed -= array.nbytes
        if unclaimed < 0:  # one array under a million names
            raise CheckpointError(f"{path}: its arrays claim more bytes than the file has; nothing of it was used")
        arrays[name] = _widened(array)
    return _joined(arrays, cut, path)


def write_pdparams(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write a state dict as `paddle.save` does (protocol 4), for PaddleClas to load."""
    content: dict[str, Any] = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    # With a name for each, Paddle loads them as tensors and not as bare arrays.
    content[_NAME_TABLE] = {name: name for name in arrays}
    write_bytes(path, pickle.dumps(content, protocol=4))


def read_pdstates(path: Path) -> dict[str, float]:
    """Return the numbers of a `.pdstates`, as PaddleClas writes them: `{"metric": 0.76, "epoch": 118}`.

    Raises:
        CheckpointError: as `read_pdparams`.
    """
    content = _read(path)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds {_kind(content)}, not numbers by name; is it a .pdstates?")
    numbers: dict[str, float] = {}
    for name, value in content.items():
        array = _array_of(value)
        number = array.item() if array is not None and array.size == 1 else value
        if not isinstance(name, str) or not isinstance(number, int | float):
            raise CheckpointError(f"{path}: {name!r:.60} is {_kind(value)}, not a number")
        numbers[name] = number
    return numbers


def require_plain_data(path: Path) -> None:
    """Check that a file of `paddle.save` names nothing but arrays, so that `paddle.load` of it runs nothing else.

    Raises:
        CheckpointError: as `read_pdparams`.
    """
    _read(path)


def _read(path: Path) -> Any:
    """Return what a file holds: texts, numbers, lists, dicts and `PickledArray`s."""
    try:
        data = memoryview(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    reader = PickleReader(data)
    try:
        return reader.read()
    except RefusedPickleError as refusal:
        raise CheckpointError(f"{path}: byte {reader.position}: {refusal}; nothing of it was run") from refusal
    except (IndexError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(
            f"{path}: byte {reader.position}: damaged ({type(error).__name__}); fetch or write the file again"
        ) from error


def _array_of(value: object) -> Array | None:
    """Return the array of a value: it alone (a state dict's) or with a name (a tensor elsewhere)."""
    match value:
        case PickledArray() as array:
            return array.value
        case (str(), PickledArray() as array):
            return array.value
    return None


def _widened(array: Array) -> Array:
    """Return a copy in this machine's byte order; Paddle writes bfloat16 as the uint16 of its bits."""
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(array.dtype.newbyteorder("="))


def _joined(arrays: dict[str, Array], cut: object, path: Path) -> dict[str, Array]:
    """Put arrays together again that were too large for one piece: `name@@.0`, `name@@.1` and on."""
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
                    raise CheckpointError(f"{path}: {name!r:.60}: its {len(slices)} pieces do not fit") from error
            case _:
                raise CheckpointError(f"{path}: {name!r:.60}: pieces are missing")
    return arrays


def _kind(value: object) -> str:
    names = {PickledArray: "an array", dict: "a dict", list: "a list", str: "a text", memoryview: "bytes"}
    return names.get(type(value), f"a {type(value).__name__}")
