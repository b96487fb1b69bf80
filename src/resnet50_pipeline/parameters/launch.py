"""Defines `training.launch`: the ranks, their machines and devices, and how they are supervised and stopped."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Self

from pydantic import Field, field_validator, model_validator

from resnet50_pipeline.frozen_model import FiniteModel

_ETCD = "etcd://"


class LaunchParameters(FiniteModel):
    """`training.launch`: the ranks, their machines and devices, and how they are supervised and stopped."""

    device: str = Field(description="cpu, gpu, or the name of a Paddle custom device (iluvatar_gpu, xpu, npu, …).")
    devices: tuple[int, ...] = Field(
        min_length=1,
        description="Device numbers, one per rank on each machine. For gpu, use the numbers that nvidia-smi shows.",
    )
    threads_per_rank: int = Field(default=1, ge=1, description="Number of CPU threads per rank (OMP_NUM_THREADS).")
    environment: dict[str, str] = Field(
        default_factory=dict,
        description="Additional environment variables for the ranks, such as FLAGS_cudnn_exhaustive_search.",
    )
    hang_timeout_seconds: float = Field(
        default=1800.0, gt=0, description="Time without a heartbeat after which a rank is considered hung."
    )
    stop_grace_seconds: float = Field(
        default=60.0,
        ge=0,
        description="Time that the ranks have after Ctrl-C, SIGTERM or SIGHUP to finish their step and save a "
        "checkpoint set. Ranks that take longer are killed.",
    )
    nnodes: int | str = Field(
        default=1,
        description='Number of machines, or "2:4" (with quotes) for elastic training on two to four machines.',
    )
    master: str | None = Field(
        default=None,
        description="Address that all machines connect to: host:port of machine 0, or etcd://host:port for elastic "
        "training.",
    )
    rank: int = Field(
        default=0,
        ge=0,
        description="Number of this machine. Machine 0 runs `kedro run`; the other machines run `kedro join`.",
    )
    host: str | None = Field(
        default=None,
        description="IPv4 address of this machine for connections between ranks. Needed if the host name "
        "resolves to a different address. On a single machine, this address selects the network interface for CPU "
        "ranks.",
    )
    job_id: str = Field(
        default="resnet50",
        pattern=r"^[\w.-]+$",
        description="Name of the training run. Runs that share an etcd server must have different names.",
    )
    max_restarts: int = Field(
        default=0,
        ge=0,
        description="*native*: maximum number of times that the ranks are restarted from the newest checkpoint set "
        "after a rank is killed, crashes or hangs, on a single machine or in elastic training. A wrong parameter, "
        "a full disk or a NaN ends the run immediately. 0: any failure ends the run.",
    )

    days_between_failures: float = Field(
        default=154.0,
        gt=0,
        description="Mean time between failures of one machine in days. Preflight and training use it only to report "
        "the interval between checkpoint sets that minimizes lost time. The default corresponds to the rate of "
        "hardware failures of machines with 8 GPUs at Meta, 6.5 per 1000 days (Kokolis et al. 2025, Revisiting "
        "Reliability in Large-Scale Machine Learning Research Clusters); preemptions are not included.",
    )

    @property
    def is_elastic(self) -> bool:
        """Whether the number of machines may change during a run."""
        return isinstance(self.nnodes, str) and ":" in self.nnodes

    @property
    def machines(self) -> int:
        """The number of machines. For elastic training, this is the minimum."""
        return int(str(self.nnodes).split(":")[0])

    @property
    def is_one_machine(self) -> bool:
        """Whether training uses only this machine for the entire run."""
        return self.machines == 1 and not self.is_elastic

    @property
    def ranks(self) -> int:
        """The total number of ranks across all machines. For elastic training, this is the minimum."""
        return self.machines * len(self.devices)

    @property
    def own_ranks(self) -> range:
        """The ranks on this machine. Elastic training renumbers them when a machine joins or leaves."""
        return range(self.rank * len(self.devices), (self.rank + 1) * len(self.devices))

    def on_this_machine_alone(self) -> LaunchParameters:
        """Return a copy for a single machine, for evaluation and export."""
        return self.model_copy(update={"nnodes": 1, "master": None, "rank": 0})

    @field_validator("devices", mode="before")
    @classmethod
    def _require_list_of_devices(cls, devices: object) -> object:
        if isinstance(devices, int):
            raise ValueError(f"devices must be a list of device numbers, one per rank: set [{devices}]")
        if isinstance(devices, str):
            raise ValueError(f"devices must be a list of device numbers, one per rank: set [{devices.strip('[]')}]")
        return devices

    @field_validator("environment", mode="before")
    @classmethod
    def _require_texts(cls, environment: object) -> object:
        for name, value in environment.items() if isinstance(environment, Mapping) else ():
            if isinstance(value, bool | int | float):
                # The original text is lost: YAML reads 0123 as 83 and yes as true.
                raise ValueError(f'environment.{name} must be a string: quote the value in YAML, such as "{value}"')
        return environment

    @model_validator(mode="after")
    def _require_distinct_devices(self) -> Self:
        if len(set(self.devices)) != len(self.devices):
            raise ValueError(f"devices contains a duplicate: {list(self.devices)}; remove it")
        return self

    @model_validator(mode="after")
    def _require_consistent_machines(self) -> Self:
        if not re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", str(self.nnodes)):
            raise ValueError(f'nnodes is {self.nnodes!r}; set it to a number of machines or to "minimum:maximum"')
        if self.is_elastic:
            minimum, maximum = map(int, str(self.nnodes).split(":"))
            if minimum > maximum:
                raise ValueError(f"nnodes is {self.nnodes}: the minimum must come first; set {maximum}:{minimum}")
            if not (self.master or "").startswith(_ETCD):
                raise ValueError(
                    f"nnodes {self.nnodes} means elastic training, which requires etcd; set master: etcd://host:port"
                )
            return self
        if self.machines > 1 and self.master is None:
            raise ValueError(f"nnodes is {self.nnodes}, but master is not set; set master to host:port of machine 0")
        if self.rank >= self.machines:
            raise ValueError(
                f"rank is {self.rank}; set a number from 0 to {self.machines - 1} (nnodes is {self.nnodes})"
            )
        if self.master and not re.fullmatch(r"[\w.-]+:\d{1,5}", self.master.removeprefix(_ETCD)):
            raise ValueError(f"master is {self.master!r}; set host:port, or etcd://host:port")
        return self
