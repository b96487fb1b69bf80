"""Tests the checks of NVIDIA cards with a stub of NVML."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from resnet50_pipeline.parameters import TrainingParameters
from resnet50_pipeline.preflight.cards import Card, Cards, check_cards, find_xids, rank_memory_bytes, read_cards
from resnet50_pipeline.preflight.findings import Finding

GIB = 2**30
# The values that the probe counts for ResNet50 with images of 224 x 224 pixels.
RESNET50 = {"parameters": 25_557_032, "activations": 20_724_000}
PROBED = {"cuda": "11.8", "network": RESNET50}
A100 = Card(0, "NVIDIA A100-SXM4-80GB", (8, 0), "00000000:3B:00.0", 79 * GIB, 80 * GIB, ecc_errors=0)


class NVMLError(Exception):
    """As in pynvml."""


def stub_nvml() -> SimpleNamespace:
    """Return a stub of NVML with two cards. The second does not count ECC errors, and its clocks are reduced."""

    def ask(*answers: Any) -> Callable[..., Any]:
        def answer(handle: int, *_: Any) -> Any:
            if handle >= len(answers) or isinstance(answers[handle], str):
                raise NVMLError("Not Supported" if handle < len(answers) else "Invalid Argument")
            return answers[handle]

        return answer

    memory = [SimpleNamespace(free=free * GIB, total=24 * GIB) for free in (8, 9)]
    return SimpleNamespace(
        NVMLError=NVMLError,
        NVML_MEMORY_ERROR_TYPE_UNCORRECTED=1,
        NVML_VOLATILE_ECC=0,
        NVML_P2P_CAPS_INDEX_READ=0,
        NVML_P2P_STATUS_OK=0,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlSystemGetDriverVersion=lambda: "535.161.08",
        nvmlSystemGetCudaDriverVersion_v2=lambda: 12020,
        nvmlDeviceGetHandleByIndex=ask(0, 1),
        nvmlDeviceGetName=lambda handle: f"card {handle}",
        nvmlDeviceGetCudaComputeCapability=ask([8, 6], [8, 9]),
        nvmlDeviceGetPciInfo=lambda handle: SimpleNamespace(busId=f"00000000:3{handle}:00.0".encode()),
        nvmlDeviceGetMemoryInfo=ask(*memory),
        nvmlDeviceGetTotalEccErrors=ask(2, "not supported"),
        nvmlDeviceGetRemappedRows=ask((0, 1, 0, 0), (0, 1, 1, 0)),
        nvmlDeviceGetCurrentClocksThrottleReasons=ask(0x1, 0x4 | 0x40),
        nvmlDeviceGetP2PStatus=lambda _one, _other, _index: 3,
    )


@pytest.fixture
def on_cards(training_parameters: Callable[..., TrainingParameters]) -> Callable[..., TrainingParameters]:
    """Return a function that builds the parameters of a run with images of 224 x 224 pixels on cards 0 and 1."""

    def build(**changes: Any) -> TrainingParameters:
        values = {"batch_size_per_rank": 64, "train_transform": {"size": 224}, "eval_batch_size_per_rank": 64}
        built = training_parameters(**values | changes)
        return built.model_copy(update={"launch": built.launch.model_copy(update={"device": "gpu", "devices": (0, 1)})})

    return build


def findings_by_name(
    training: TrainingParameters, read: Cards | str, probed: dict[str, Any] = PROBED
) -> dict[str, Finding]:
    return {one.check: one for one in check_cards(training, probed, read)}


def test_state_of_the_cards_is_read(monkeypatch: pytest.MonkeyPatch):
    """Driver, CUDA version, memory, errors, clocks and peer access come from NVML. Unsupported values are None."""
    monkeypatch.setitem(sys.modules, "pynvml", stub_nvml())
    read = read_cards((0, 1))
    assert read == Cards(
        "535.161.08",
        (12, 2),
        (
            Card(0, "card 0", (8, 6), "00000000:30:00.0", 8 * GIB, 24 * GIB, 2, needs_reset=False),
            Card(
                1, "card 1", (8, 9), "00000000:31:00.0", 9 * GIB, 24 * GIB, None, True, ("too hot (hardware slowdown)",)
            ),
        ),
        without_peer_access=((0, 1),),
    )


def test_missing_card_yields_a_message(monkeypatch: pytest.MonkeyPatch, on_cards):
    """If NVML reports an error, a warning says what was not checked."""
    monkeypatch.setitem(sys.modules, "pynvml", stub_nvml())
    read = read_cards((0, 2))
    assert isinstance(read, str)
    assert "Invalid Argument" in read
    assert {name: one.status for name, one in findings_by_name(on_cards(), read).items()} == {"cards": "warning"}


def test_missing_driver_yields_a_message():
    """If NVML finds no driver or is not installed, as on the test machine, the result is a message."""
    assert isinstance(read_cards((0,)), str) or Path("/proc/driver/nvidia").exists()


def test_healthy_cards_pass(on_cards):
    """Two A100 cards with a current driver pass all checks."""
    read = Cards("535.161.08", (12, 2), (A100, A100))
    found = findings_by_name(on_cards(), read)
    assert {name: one.status for name, one in found.items()} == dict.fromkeys(
        ("driver", "card 0", "card memory", "peer access"), "ok"
    )


@pytest.mark.parametrize(
    ("cuda", "status"), [((10, 2), "blocking"), ((11, 4), "warning"), ((11, 8), "ok"), ((12, 2), "ok")]
)
def test_driver_is_compared_with_paddles_cuda(on_cards, cuda, status):
    """A driver for an earlier major CUDA version blocks. An earlier minor version only causes a warning."""
    assert findings_by_name(on_cards(), Cards("470.1", cuda, (A100,)))["driver"].status == status


@pytest.mark.parametrize(
    ("changes", "value"),
    [
        ({"ecc_errors": 3}, "3 uncorrected"),
        ({"needs_reset": True}, "reset"),
        ({"slowdowns": ("power brake",)}, "power brake"),
    ],
)
def test_a_faulty_card_is_named(on_cards, changes, value):
    """Memory errors, a pending reset and reduced clocks are warnings that include the number of the card."""
    card = Card(**{**vars(A100), "number": 5, **changes})
    finding = findings_by_name(on_cards(), Cards("535.1", (12, 2), (A100, card)))["card 5"]
    assert finding.status == "warning"
    assert value in finding.found


def test_memory_estimate_follows_batch_size_and_precision(on_cards):
    """In ResNet50, the activations of 64 images take 5.3 GB in float32, and half of that in half precision."""
    full = rank_memory_bytes(on_cards(), RESNET50["activations"], RESNET50["parameters"])
    assert full == 1000 * 2**20 + 3 * 4 * 25_557_032 + 64 * 20_724_000 * 4
    amp = on_cards().amp.model_copy(update={"use_amp": True})
    in_half = on_cards().model_copy(update={"amp": amp})
    half = rank_memory_bytes(in_half, RESNET50["activations"], RESNET50["parameters"])
    assert full - half == 64 * 20_724_000 * 2
    small = rank_memory_bytes(on_cards(train_transform={"size": 112}), RESNET50["activations"], RESNET50["parameters"])
    assert full - small == 64 * 20_724_000 * 3


def test_a_full_card_is_named(on_cards):
    """The finding depends on the card with the least free memory."""
    full = Card(**{**vars(A100), "number": 1, "free_bytes": 6 * GIB})
    finding = findings_by_name(on_cards(), Cards("535.1", (12, 2), (A100, full)))["card memory"]
    assert finding.status == "warning"
    assert "card 1" in finding.found
    enough = Card(**{**vars(A100), "number": 1, "free_bytes": 7 * GIB})
    assert findings_by_name(on_cards(), Cards("535.1", (12, 2), (A100, enough)))["card memory"].status == "ok"


def test_xid_errors_of_a_card_come_from_the_kernel_log(tmp_path: Path):
    """Only errors with the card's own bus address count, each once. An unreadable log is not treated as empty."""
    log = tmp_path / "kmsg"
    log.write_text(
        "4,1,1,-;NVRM: Xid (PCI:0000:3b:00): 79, pid=1, GPU has fallen off the bus.\n"
        "4,2,1,-;NVRM: Xid (PCI:0000:3b:00): 79, pid=2\n"
        "4,3,1,-;NVRM: Xid (PCI:0000:86:00): 31, pid=2\n"
        "4,4,1,-;NVRM: Xid (PCI:0000:3b:00): 48, pid=2\n"
    )
    assert find_xids("00000000:3B:00.0", log) == (79, 48)
    assert find_xids("00000000:AF:00.0", log) == ()
    assert find_xids("00000000:3B:00.0", tmp_path / "missing") is None
