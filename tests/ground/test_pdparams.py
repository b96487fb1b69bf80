"""Files written by paddle.save are read without running code from them."""

from __future__ import annotations

import collections
import pickle
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resnet50_pipeline.exceptions import CheckpointError
from resnet50_pipeline.pdparams.files import read_pdparams, read_pdstates, require_plain_data, write_pdparams

_WRITE = """
import sys, zlib
import paddle
network = paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3), paddle.nn.BatchNorm2D(4))
optimizer = paddle.optimizer.Momentum(
    paddle.optimizer.lr.CosineAnnealingDecay(0.1, 10), parameters=network.parameters()
)
network(paddle.randn([2, 3, 8, 8])).sum().backward()
optimizer.step()
folder = sys.argv[1]
for protocol in (2, 3, 4):
    paddle.save(network.state_dict(), f"{folder}/p{protocol}.pdparams", protocol=protocol)
half = {name: value.astype("bfloat16") for name, value in network.state_dict().items()}
paddle.save(half, f"{folder}/bfloat16.pdparams")
paddle.save([optimizer.state_dict()], f"{folder}/saved.pdopt")
paddle.save({"metric": paddle.to_tensor(0.5), "epoch": 3}, f"{folder}/saved.pdstates")
import numpy
numpy.savez(f"{folder}/truth.npz", **{name: value.numpy() for name, value in network.state_dict().items()})
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return a folder of files written by paddle.save, and the arrays as loaded by Paddle."""
    folder = tmp_path_factory.mktemp("saved")
    subprocess.run([sys.executable, "-W", "ignore", "-c", _WRITE, str(folder)], check=True, cwd=folder)
    return folder


def _write(path: Path, content: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_state_dict_of_paddle_is_read_exactly(saved, protocol):
    """Names, order, types, and bits of all arrays are preserved, and Paddle's table of names is skipped."""
    arrays = read_pdparams(saved / f"p{protocol}.pdparams")
    truth = np.load(saved / "truth.npz")
    assert list(arrays) == ["0.weight", "0.bias", "1.weight", "1.bias", "1._mean", "1._variance"]
    for name, array in arrays.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, truth[name])
        assert array.flags.writeable
        assert array.flags.owndata


def test_paddle_loads_written_file(saved, tmp_path):
    """Paddle loads the same names and bits from a file written by this project."""
    arrays = read_pdparams(saved / "p4.pdparams")
    path = tmp_path / "written.pdparams"
    write_pdparams(path, arrays)
    check = "import sys, zlib, numpy, paddle\n"
    check += "one, other = (paddle.load(path) for path in sys.argv[1:])\nassert list(one) == list(other)\n"
    check += "assert all(numpy.array_equal(one[name].numpy(), other[name].numpy()) for name in one)\n"
    command = [sys.executable, "-W", "ignore", "-c", check, str(path), str(saved / "p4.pdparams")]
    subprocess.run(command, check=True, cwd=tmp_path)
    for name, array in read_pdparams(path).items():
        np.testing.assert_array_equal(array, arrays[name])


def test_bfloat16_becomes_float32(saved):
    """bfloat16, which Paddle writes as uint16, is read as float32."""
    truth = np.load(saved / "truth.npz")
    for name, array in read_pdparams(saved / "bfloat16.pdparams").items():
        assert array.dtype == np.float32
        np.testing.assert_allclose(array, truth[name], rtol=2**-8)


def test_states_are_read_as_numbers(saved):
    """Numbers, NumPy numbers, and tensors in .pdstates are read as numbers."""
    assert read_pdstates(saved / "saved.pdstates") == {"metric": 0.5, "epoch": 3}


def test_numpy_numbers_become_python_numbers(tmp_path):
    """NumPy numbers are read as Python numbers."""
    assert read_pdstates(_write(tmp_path / "a.pdstates", {"metric": np.float64(0.25)})) == {"metric": 0.25}


def test_optimizer_file_is_accepted_as_plain_data(saved):
    """The optimizer file of a real PaddleClas run passes the check."""
    require_plain_data(saved / "saved.pdopt")


def test_optimizer_file_is_rejected_as_weights(saved):
    """An optimizer file passed as a weights file is recognized and rejected."""
    with pytest.raises(CheckpointError, match=r"is it a \.pdopt"):
        read_pdparams(saved / "saved.pdopt")


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_memory_layout_dtype_and_byte_order_are_preserved(tmp_path, protocol):
    """Fortran order, big endian, half precision, integers, scalars, and empty arrays are preserved."""
    content = collections.OrderedDict(
        fortran=np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        big=np.arange(3, dtype=">f8"),
        half=np.ones(2, np.float16),
        count=np.array(7, dtype=np.int64),
        empty=np.zeros((0, 3), np.float32),
        flag=np.array([True, False]),
    )
    arrays = read_pdparams(_write(tmp_path / "a.pdparams", content, protocol))
    for name, array in content.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype.newbyteorder("=")


def test_split_arrays_are_joined(tmp_path):
    """Arrays over 1 GiB, which protocols 2 and 3 split into pieces, are joined (paddle/framework/io_utils.py)."""
    content = {
        "w@@.0": np.arange(4, dtype=np.float32),
        "w@@.1": np.arange(4, 6, dtype=np.float32),
        "b": np.zeros(1, np.float32),
        "UnpackBigParamInfor@@": {"w": {"OriginShape": (2, 3), "slices": ["w@@.0", "w@@.1"]}},
    }
    arrays = read_pdparams(_write(tmp_path / "a.pdparams", content, 2))
    assert set(arrays) == {"w", "b"}
    np.testing.assert_array_equal(arrays["w"], np.arange(6, dtype=np.float32).reshape(2, 3))


def test_python_2_files_are_read(tmp_path):
    """Files written by Python 2, such as the oldest published weights, can be read."""

    def text(value: bytes) -> bytes:
        return b"U" + struct.pack("<B", len(value)) + value

    data = np.array([1.5, -2.0], dtype="<f4").tobytes()
    dtype = b"cnumpy\ndtype\n" + text(b"f4") + b"K\x00K\x01\x87R(K\x03" + text(b"<") + b"NNNJ" + b"\xff" * 4
    dtype += b"J" + b"\xff" * 4 + b"K\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
    array += b"(K\x01\x8a\x01\x02\x85" + dtype + b"\x89" + text(data) + b"tb"
    path = tmp_path / "a.pdparams"
    path.write_bytes(b"\x80\x02}" + text(b"fc.weight") + array + b"s.")
    np.testing.assert_array_equal(read_pdparams(path)["fc.weight"], np.array([1.5, -2.0], np.float32))


class _Running:
    """An object that pickles as a call."""

    def __init__(self, *call: object) -> None:
        self._call = call

    def __reduce__(self) -> tuple[object, ...]:
        return self._call


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize(
    "call",
    [
        lambda file: (__import__("os").system, (f"touch {file}",)),
        lambda file: (eval, (f"open({str(file)!r}, 'w')",)),
        lambda file: (exec, (f"open({str(file)!r}, 'w')",)),
        lambda file: (Path.touch, (file,)),
        lambda file: (open, (str(file), "w")),
        lambda file: (getattr, (file, "touch")),
        lambda file: (np.load, (str(file), None, True)),
    ],
    ids=["system", "eval", "exec", "method", "open", "getattr", "np.load"],
)
def test_malicious_file_is_rejected_without_running_it(tmp_path, protocol, call):
    """A malicious file is rejected before anything is called, with the name of the function (case 43)."""
    file = tmp_path / "ran"
    content = {"conv1.weight": np.zeros(3, np.float32), "fc.weight": _Running(*call(file))}
    path = _write(tmp_path / "a.pdparams", content, protocol)
    for read in (read_pdparams, read_pdstates, require_plain_data):
        with pytest.raises(CheckpointError, match=r"no code from the file was run"):
            read(path)
    assert not file.exists()
    with path.open("rb") as opened:
        if call(file)[0] in (eval, exec, open):
            pickle.load(opened)  # noqa: S301 - shows that the file is malicious
            assert file.exists()


def test_eval_of_pickled_tensor_is_rejected(tmp_path):
    """The eval call that old Paddle versions used to pickle a bare DenseTensor is rejected."""
    content = {"w": _Running(eval, ("data", {"data": np.zeros(2)}))}
    with pytest.raises(CheckpointError, match=r"builtins\.eval"):
        read_pdparams(_write(tmp_path / "a.pdparams", content))


def test_object_and_record_arrays_are_rejected(tmp_path):
    """Arrays of Python objects or records are rejected because of their type."""
    for array in (np.array([{}], dtype=object), np.zeros(2, dtype=[("a", "f4")]), np.array(["text"])):
        with pytest.raises(CheckpointError, match=r"numbers"):
            read_pdparams(_write(tmp_path / "a.pdparams", {"w": array}))


def test_truncated_file_is_rejected_at_every_length(saved, tmp_path):
    """A file truncated at any length is rejected, and the error identifies the file."""
    whole = (saved / "p4.pdparams").read_bytes()
    path = tmp_path / "cut.pdparams"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"cut\.pdparams"):
            read_pdparams(path)


@pytest.mark.parametrize(
    "claim",
    [
        b"\x8e" + struct.pack("<Q", 2**62) + b"x.",
        b"B" + struct.pack("<I", 2**32 - 1) + b"x.",
        b"X" + struct.pack("<I", 2**32 - 1) + b"x.",
        b"\x8d" + struct.pack("<Q", 2**63) + b"x.",
        b"}r" + struct.pack("<I", 2**32 - 1) + b".",
        b"\x95" + struct.pack("<Q", 2**63) + b"}.",
        b"T" + struct.pack("<I", 2**31) + b"x.",
    ],
)
def test_huge_claimed_length_allocates_no_memory(tmp_path, claim):
    """A claimed length beyond the end of the file allocates no memory (the C version of `pickle` would allocate it)."""
    path = tmp_path / "a.pdparams"
    path.write_bytes(b"\x80\x04" + claim)
    tracemalloc.start()
    try:
        read_pdparams(path)
    except CheckpointError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 1_000_000


def test_array_repeated_under_many_names_is_rejected(tmp_path):
    """One array under many names, which would multiply its memory, is rejected."""
    array = np.zeros(250_000, np.float32)
    with pytest.raises(CheckpointError, match="more bytes"):
        read_pdparams(_write(tmp_path / "a.pdparams", {f"w{number}": array for number in range(1000)}))


def test_repeatedly_encoded_string_is_rejected(tmp_path):
    """A string that is encoded repeatedly, which would multiply its memory, is rejected."""
    call = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"
    path = tmp_path / "a.pdparams"
    path.write_bytes(b"\x80\x02X" + struct.pack("<I", 100_000) + b"x" * 100_000 + b"q\x00(" + call * 1000 + b"t.")
    with pytest.raises(CheckpointError, match="more bytes"):
        read_pdparams(path)


def test_deep_nesting_is_rejected(tmp_path):
    """A million nested tuples do not overflow the stack and are not accepted as a dict key."""
    path = tmp_path / "a.pdparams"
    for end in (b".", b"K\x01s.", b"N\x86."):
        path.write_bytes(b"\x80\x02})" + b"\x85" * 1_000_000 + end)
        with pytest.raises(CheckpointError):
            read_pdparams(path)


def test_newer_pickle_protocols_are_rejected_by_name(tmp_path):
    """The error about a pickle protocol above 4, which paddle.save does not write, identifies the protocol."""
    with pytest.raises(CheckpointError, match="protocol 5"):
        read_pdparams(_write(tmp_path / "a.pdparams", {"w": np.zeros(2)}, 5))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip", b"\x80\x04.", b"\x80\x04N.", b"\x80"])
def test_other_file_formats_are_rejected(tmp_path, content):
    """An empty file, a PyTorch zip file, and a pickled None are rejected."""
    path = tmp_path / "a.pdparams"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.pdparams"):
        read_pdparams(path)


def test_a_missing_file_is_named(tmp_path):
    """The error about a missing file includes its path."""
    with pytest.raises(CheckpointError, match=r"missing\.pdparams"):
        read_pdparams(tmp_path / "missing.pdparams")


def test_nested_dicts_are_rejected(tmp_path):
    """A nested dict is rejected, and the error identifies its key."""
    with pytest.raises(CheckpointError, match="'model' is a dict"):
        read_pdparams(_write(tmp_path / "a.pdparams", {"model": {"w": np.zeros(2)}}))


_TEMPLATE = pickle.dumps({"w": np.arange(4, dtype=np.float32), "n": ("a", [1, 2.5, None, True])}, 4)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.data())
def test_damaged_file_gives_arrays_or_checkpoint_error(tmp_path, data):
    """A file with altered bytes yields either arrays or a CheckpointError, never another exception."""
    content = bytearray(_TEMPLATE)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "a.pdparams"
    path.write_bytes(bytes(content))
    for read in (read_pdparams, require_plain_data):
        try:
            read(path)
        except CheckpointError as error:
            assert "a.pdparams" in str(error)
