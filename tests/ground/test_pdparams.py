"""Files of paddle.save: what is in them is read, and nothing that they ask for is run."""

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
from resnet50_pipeline.pdparams import read_pdparams, read_pdstates, require_plain_data, write_pdparams

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
    """Return a folder of what paddle.save itself wrote, and the arrays as Paddle gives them."""
    folder = tmp_path_factory.mktemp("saved")
    subprocess.run([sys.executable, "-W", "ignore", "-c", _WRITE, str(folder)], check=True, cwd=folder)
    return folder


def _write(path: Path, content: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_a_state_dict_of_paddle_reads_back_bit_for_bit(saved, protocol):
    """Every array has its name, its order, its type and its bits; Paddle's table of names is no array."""
    arrays = read_pdparams(saved / f"p{protocol}.pdparams")
    truth = np.load(saved / "truth.npz")
    assert list(arrays) == ["0.weight", "0.bias", "1.weight", "1.bias", "1._mean", "1._variance"]
    for name, array in arrays.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, truth[name])
        assert array.flags.writeable
        assert array.flags.owndata


def test_what_is_written_is_what_paddle_would_load(saved, tmp_path):
    """Paddle loads a written file as its own, with the same names and bits."""
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
    """Paddle writes bfloat16 as the uint16 of its bits, which read as numbers would be weights of 16000."""
    truth = np.load(saved / "truth.npz")
    for name, array in read_pdparams(saved / "bfloat16.pdparams").items():
        assert array.dtype == np.float32
        np.testing.assert_allclose(array, truth[name], rtol=2**-8)


def test_states_are_numbers_whatever_they_were(saved):
    """PaddleClas puts a number, a NumPy number or a tensor into .pdstates."""
    assert read_pdstates(saved / "saved.pdstates") == {"metric": 0.5, "epoch": 3}


def test_numpy_numbers_are_numbers(tmp_path):
    """A metric that NumPy computed is read as one that Python computed."""
    assert read_pdstates(_write(tmp_path / "a.pdstates", {"metric": np.float64(0.25)})) == {"metric": 0.25}


def test_an_optimizer_file_is_plain_data(saved):
    """What an honest PaddleClas run leaves passes the check before a resume."""
    require_plain_data(saved / "saved.pdopt")


def test_an_optimizer_file_is_no_weights(saved):
    """The wrong file is named as what it is."""
    with pytest.raises(CheckpointError, match=r"is it a \.pdopt"):
        read_pdparams(saved / "saved.pdopt")


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_memory_layout_type_and_byte_order_survive(tmp_path, protocol):
    """Fortran order, big endian, half precision, integers, a scalar and an empty array are all arrays."""
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


def test_arrays_that_were_cut_are_joined(tmp_path):
    """Above 1 GiB, protocols 2 and 3 cut an array into pieces (paddle/framework/io_utils.py)."""
    content = {
        "w@@.0": np.arange(4, dtype=np.float32),
        "w@@.1": np.arange(4, 6, dtype=np.float32),
        "b": np.zeros(1, np.float32),
        "UnpackBigParamInfor@@": {"w": {"OriginShape": (2, 3), "slices": ["w@@.0", "w@@.1"]}},
    }
    arrays = read_pdparams(_write(tmp_path / "a.pdparams", content, 2))
    assert set(arrays) == {"w", "b"}
    np.testing.assert_array_equal(arrays["w"], np.arange(6, dtype=np.float32).reshape(2, 3))


def test_files_of_python_2_are_read(tmp_path):
    """The oldest published weights were written by Python 2, whose texts are bytes and whose bytes are texts."""

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
    """Pickles as a call."""

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
def test_a_malicious_file_is_refused_and_runs_nothing(tmp_path, protocol, call):
    """A name other than an array's ends the reading before anything is called; the message says which (case 43)."""
    file = tmp_path / "ran"
    content = {"conv1.weight": np.zeros(3, np.float32), "fc.weight": _Running(*call(file))}
    path = _write(tmp_path / "a.pdparams", content, protocol)
    for read in (read_pdparams, read_pdstates, require_plain_data):
        with pytest.raises(CheckpointError, match=r"names .* nothing of it was run"):
            read(path)
    assert not file.exists()
    with path.open("rb") as opened:
        if call(file)[0] in (eval, exec, open):
            pickle.load(opened)  # noqa: S301 - to show that the file is what it is called
            assert file.exists()


def test_paddles_own_eval_of_a_tensor_is_refused_too(tmp_path):
    """Old Paddle pickled a bare DenseTensor as a call of eval, which no state dict holds."""
    content = {"w": _Running(eval, ("data", {"data": np.zeros(2)}))}
    with pytest.raises(CheckpointError, match=r"builtins\.eval"):
        read_pdparams(_write(tmp_path / "a.pdparams", content))


def test_objects_and_records_are_no_numbers(tmp_path):
    """An array of Python objects, or of records with fields, is refused by its type."""
    for array in (np.array([{}], dtype=object), np.zeros(2, dtype=[("a", "f4")]), np.array(["text"])):
        with pytest.raises(CheckpointError, match=r"numbers"):
            read_pdparams(_write(tmp_path / "a.pdparams", {"w": array}))


def test_every_cut_is_noticed(saved, tmp_path):
    """A file that ends early is refused wherever it ends, and is named."""
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
def test_huge_counts_cost_no_memory(tmp_path, claim):
    """A length is compared with what is left of the file before anything is allocated (`pickle` allocates first)."""
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


def test_one_array_under_many_names_is_refused(tmp_path):
    """A thousand names for one megabyte would be a gigabyte; paddle.save writes each array once."""
    array = np.zeros(250_000, np.float32)
    with pytest.raises(CheckpointError, match="more bytes than the file has"):
        read_pdparams(_write(tmp_path / "a.pdparams", {f"w{number}": array for number in range(1000)}))


def test_one_text_made_into_bytes_again_and_again_is_refused(tmp_path):
    """The text costs the file once, so what is made of it may not cost the memory a thousand times."""
    call = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"
    path = tmp_path / "a.pdparams"
    path.write_bytes(b"\x80\x02X" + struct.pack("<I", 100_000) + b"x" * 100_000 + b"q\x00(" + call * 1000 + b"t.")
    with pytest.raises(CheckpointError, match="more bytes than it has"):
        read_pdparams(path)


def test_deep_nesting_ends_in_an_error(tmp_path):
    """A million tuples in one another neither overflow the stack nor become a key."""
    path = tmp_path / "a.pdparams"
    for end in (b".", b"K\x01s.", b"N\x86."):
        path.write_bytes(b"\x80\x02})" + b"\x85" * 1_000_000 + end)
        with pytest.raises(CheckpointError):
            read_pdparams(path)


def test_newer_protocols_are_named(tmp_path):
    """paddle.save writes 2 to 4; another writer's file says so instead of failing somewhere inside."""
    with pytest.raises(CheckpointError, match="protocol 5"):
        read_pdparams(_write(tmp_path / "a.pdparams", {"w": np.zeros(2)}, 5))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip", b"\x80\x04.", b"\x80\x04N.", b"\x80"])
def test_other_files_are_refused(tmp_path, content):
    """An empty file, a zip (PyTorch's) and a pickle of nothing are named as no weights."""
    path = tmp_path / "a.pdparams"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.pdparams"):
        read_pdparams(path)


def test_a_missing_file_is_named(tmp_path):
    """The error names the path."""
    with pytest.raises(CheckpointError, match=r"missing\.pdparams: cannot be read"):
        read_pdparams(tmp_path / "missing.pdparams")


def test_nested_dicts_are_no_weights(tmp_path):
    """A training script's own bundle is refused with the key that holds the dict."""
    with pytest.raises(CheckpointError, match="'model' is a dict"):
        read_pdparams(_write(tmp_path / "a.pdparams", {"model": {"w": np.zeros(2)}}))


_TEMPLATE = pickle.dumps({"w": np.arange(4, dtype=np.float32), "n": ("a", [1, 2.5, None, True])}, 4)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_never_surprises(tmp_path, data):
    """Whatever bytes are changed, the outcome is arrays or a CheckpointError, never another exception."""
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
