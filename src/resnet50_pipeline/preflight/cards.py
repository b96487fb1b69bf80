"""Checks the state of NVIDIA cards before a run, with NVIDIA's management library (NVML) and the kernel log."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet50_pipeline.parameters import TrainingParameters
from resnet50_pipeline.preflight.findings import Finding, Status, judge
from resnet50_pipeline.text import format_bytes, pluralize

# Reasons for reduced clocks that point to a fault in the card, its cooling or its power supply (nvml.h,
# nvmlClocksEventReason*). The power cap and idle clocks are normal.
_SLOWDOWNS = {
    0x08: "hardware slowdown",
    0x20: "too hot (software slowdown)",
    0x40: "too hot (hardware slowdown)",
    0x80: "power brake",
}
_XID = re.compile(r"NVRM: Xid \(PCI:(?P<bus>[0-9a-f:.]+)\): (?P<xid>\d+)", re.IGNORECASE)
_KERNEL_LOG = Path("/dev/kmsg")
_CONTEXT_BYTES = 1000 * 2**20  # CUDA context, the kernels of Paddle, cuDNN and cuBLAS, and cuDNN's workspace
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Card:
    """The state of one card.

    Attributes:
        number: number shown by nvidia-smi.
        name: product name, such as "NVIDIA A100-SXM4-80GB".
        capability: compute capability, such as (8, 0).
        bus: PCI bus ID, such as 0000:3b:00.0.
        free_bytes: free memory.
        total_bytes: total memory.
        ecc_errors: uncorrected memory errors since the driver was loaded; None if the card has no ECC counter.
        needs_reset: whether a faulty memory row is waiting to be remapped at the next reset.
        slowdowns: faults that are currently reducing the clocks.
    """

    number: int
    name: str
    capability: tuple[int, int]
    bus: str
    free_bytes: int
    total_bytes: int
    ecc_errors: int | None = None
    needs_reset: bool = False
    slowdowns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cards:
    """The driver and the cards of a run.

    Attributes:
        driver: version of the driver.
        cuda: latest CUDA version that the driver supports, such as (12, 4).
        cards: cards, in the order of `training.launch.devices`.
        without_peer_access: pairs of card numbers that cannot access each other's memory.
    """

    driver: str
    cuda: tuple[int, int]
    cards: tuple[Card, ...]
    without_peer_access: tuple[tuple[int, int], ...] = ()


def read_cards(numbers: Sequence[int]) -> Cards | str:
    """Return the state of the cards with these nvidia-smi numbers, or an error message if the state cannot be read."""
    try:
        import pynvml
    except ImportError:
        return "the nvidia-ml-py package is missing"
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return f"NVML: {error}"
    try:
        handles = {number: pynvml.nvmlDeviceGetHandleByIndex(number) for number in numbers}
        cuda = pynvml.nvmlSystemGetCudaDriverVersion_v2()
        return Cards(
            driver=pynvml.nvmlSystemGetDriverVersion(),
            cuda=(cuda // 1000, cuda % 1000 // 10),
            cards=tuple(_read_card(pynvml, number, handle) for number, handle in handles.items()),
            without_peer_access=tuple(
                pair for pair in itertools.combinations(numbers, 2) if not _has_peer_access(pynvml, handles, pair)
            ),
        )
    except pynvml.NVMLError as error:
        return f"NVML: {error}"
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def check_cards(
    training: TrainingParameters, probed: Mapping[str, Any], read: Cards | str | None = None
) -> Iterator[Finding]:
    """Yield the findings about the driver and the cards.

    Args:
        training: the cards, and the parameters that determine how much memory a rank needs.
        probed: JSON object printed by the probe. Checks whose values are missing from this object are skipped.
        read: result of `read_cards`, which is called if this is None.
    """
    read = read_cards(training.launch.devices) if read is None else read
    if isinstance(read, str):
        needed = "NVML, which reports the driver, memory, ECC errors and clocks"
        yield Finding("cards", "warning", read, needed, "check that nvidia-smi lists the cards; make setup GPU=1")
        return
    if probed.get("cuda"):
        yield _check_driver(read, probed["cuda"])
    for card in read.cards:
        yield _check_state(card, find_xids(card.bus))
    if "network" in probed:
        yield _check_memory(read.cards, training, **probed["network"])
    if len(read.cards) > 1:
        pairs = ", ".join(f"{one}-{other}" for one, other in read.without_peer_access)
        yield judge(
            not pairs,
            "warning",
            "peer access",
            found=f"none between {pairs}" if pairs else "between all cards",
            needed="direct transfers between cards",
            remedy="without it, gradients go through host memory; check `nvidia-smi topo -p2p r`, and whether an IOMMU "
            "or virtualization blocks peer access",
        )


def rank_memory_bytes(training: TrainingParameters, activations: int, parameters: int) -> int:
    """Estimate the memory that a rank needs on its card.

    The estimate is the sum of three parts: 1000 MiB for CUDA and the workspaces; 4 bytes per parameter each for the
    weights, gradients, momentum and moving average; and the outputs of all convolutions and ReLUs, which are kept for
    the backward pass (4 bytes per value, or 2 in half precision).

    Args:
        training: batch size, image size and precision.
        activations: number of output values for one 224 x 224 image.
        parameters: number of parameters.
    """
    copies = 3 + (training.ema_decay is not None) + (training.optimizer.name == "AdamW")
    value_bytes = 2 if training.amp.use_amp else _FLOAT_BYTES
    images = training.batch_size_per_rank * (training.train_transform.size / 224) ** 2
    return _CONTEXT_BYTES + copies * _FLOAT_BYTES * parameters + round(images * activations * value_bytes)


def _read_card(nvml: Any, number: int, handle: Any) -> Card:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    bus = nvml.nvmlDeviceGetPciInfo(handle).busId
    return Card(
        number=number,
        name=nvml.nvmlDeviceGetName(handle),
        capability=tuple(nvml.nvmlDeviceGetCudaComputeCapability(handle)),
        bus=bus if isinstance(bus, str) else bus.decode(),
        free_bytes=memory.free,
        total_bytes=memory.total,
        ecc_errors=_ask(
            nvml,
            lambda: nvml.nvmlDeviceGetTotalEccErrors(
                handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
            ),
        ),
        needs_reset=bool((_ask(nvml, lambda: nvml.nvmlDeviceGetRemappedRows(handle)) or (0, 0, 0))[2]),
        slowdowns=_slowdowns(_ask(nvml, lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)) or 0),
    )


def _ask(nvml: Any, question: Callable[[], Any]) -> Any:
    """Return NVML's answer, or None if the card or the driver does not support the query."""
    try:
        return question()
    except nvml.NVMLError:
        return None


def _slowdowns(reasons: int) -> tuple[str, ...]:
    return tuple(text for bit, text in _SLOWDOWNS.items() if reasons & bit)


def _has_peer_access(nvml: Any, handles: dict[int, Any], pair: tuple[int, int]) -> bool:
    one, other = (handles[number] for number in pair)
    status = _ask(nvml, lambda: nvml.nvmlDeviceGetP2PStatus(one, other, nvml.NVML_P2P_CAPS_INDEX_READ))
    return bool(status == nvml.NVML_P2P_STATUS_OK)


def _check_driver(read: Cards, cuda: str) -> Finding:
    needed = tuple(int(part) for part in cuda.split(".")[:2])
    found = f"{read.driver}, which supports CUDA {read.cuda[0]}.{read.cuda[1]}"
    # CUDA's minor version compatibility: within a major version, newer libraries run on older drivers, with limited
    # features.
    status: Status = "blocking" if read.cuda[0] < needed[0] else "warning"
    remedy = f"update NVIDIA's driver, or install a Paddle build for CUDA {read.cuda[0]}.{read.cuda[1]}"
    needed_text = f"CUDA {cuda} or later (Paddle's version)"
    return judge(read.cuda >= needed, status, "driver", found=found, needed=needed_text, remedy=remedy)


def _check_state(card: Card, xids: tuple[int, ...] | None) -> Finding:
    problems = list(card.slowdowns)
    if card.ecc_errors:
        problems.append(pluralize(card.ecc_errors, "uncorrected memory error"))
    if card.needs_reset:
        problems.append("reset pending to remap a faulty memory row")
    if xids:
        problems.append(f"Xid {', '.join(map(str, xids))} in the kernel log")
    unknown = "" if xids is not None else "; Xid errors not checked (cannot read the kernel log)"
    return judge(
        not problems,
        "warning",
        f"card {card.number}",
        found=f"{card.name}: {', '.join(problems) or 'no errors'}{unknown}",
        needed="no memory errors, Xid errors or slowdowns",
        remedy="see `nvidia-smi -q -d ECC,PERFORMANCE,ROW_REMAPPER`; remove the card from training.launch.devices, or "
        "reset the card while it is idle",
    )


def _check_memory(cards: Sequence[Card], training: TrainingParameters, activations: int, parameters: int) -> Finding:
    fullest = min(cards, key=lambda card: card.free_bytes)
    needed = rank_memory_bytes(training, activations, parameters)
    precision = "half precision" if training.amp.use_amp else "float32"
    total = format_bytes(fullest.total_bytes)
    return judge(
        fullest.free_bytes >= needed,
        "warning",
        "card memory",
        found=f"{format_bytes(fullest.free_bytes)} of {total} free on card {fullest.number}",
        needed=f"about {format_bytes(needed)} ({training.batch_size_per_rank} images in {precision})",
        remedy="lower training.batch_size_per_rank, set training.amp.use_amp, or stop other programs on the card",
    )


def find_xids(bus: str, log: Path = _KERNEL_LOG) -> tuple[int, ...] | None:
    """Return the numbers of the Xid errors that the driver has logged for a card, or None if the log cannot be read.

    NVIDIA's manual "XID Errors" explains the numbers.
    """
    wanted = bus.lower().partition(".")[0][-10:]  # the PCI domain has 8 digits in NVML, but 4 in the log
    found: dict[int, None] = {}
    try:
        descriptor = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        # /dev/kmsg returns one record per read. After the last record, reading raises BlockingIOError.
        while record := os.read(descriptor, 8192):
            for match in _XID.finditer(record.decode(errors="replace")):
                if match["bus"].lower().endswith(wanted):
                    found[int(match["xid"])] = None
    except BlockingIOError:
        pass
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return tuple(found)
