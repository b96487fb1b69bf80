"""`training.launch`: the ranks, the machines and devices they run on, and how they are watched and stopped."""

from __future__ import annotations

import re
from typing import Self

from pydantic import Field, model_validator

from resnet50_pipeline.parameters.base import ParameterModel

_ETCD = "etcd://"


class LaunchParameters(ParameterModel):
    """`training.launch`: the ranks, the machines and devices they run on, and how they are watched and stopped."""

    device: str = Field(description="cpu, gpu, or a Paddle custom device by name (iluvatar_gpu, xpu, npu, …).")
    devices: tuple[int, ...] = Field(
        min_length=1,
        description="One rank an entry, on each machine; on gpu the cards' numbers in nvidia-smi.",
    )
    threads_per_rank: int = Field(default=1, ge=1, description="OMP_NUM_THREADS of each rank.")
    environment: dict[str, str] = Field(
        default_factory=dict, description="Further variables of the ranks, as FLAGS_cudnn_exhaustive_search."
    )
    hang_timeout_seconds: float = Field(
        default=1800.0, gt=0, description="A rank whose heartbeat is older than this is taken to hang."
    )
    stop_grace_seconds: float = Field(
        default=60.0,
        ge=0,
        description="From Ctrl-C or SIGTERM until the ranks, which finish their step and save, are killed.",
    )
    nnodes: int | str = Field(
        default=1, description='Machines; "2:4" (quoted in YAML) for elastic training on two to four of them.'
    )
    master: str | None = Field(
        default=None,
        description="Where machines meet: host:port of machine 0, or etcd://host:port, which elastic training needs.",
    )
    rank: int = Field(default=0, ge=0, description="The number of this machine; 0 runs Kedro, the others `kedro join`.")
    host: str | None = Field(
        default=None, description="This machine's IPv4 address for the others, where its host name leads elsewhere."
    )
    job_id: str = Field(
        default="resnet50", pattern=r"^[\w.-]+$", description="Tells trainings apart that share an etcd."
    )
    max_restarts: int = Field(default=3, ge=0, description="How often elastic training starts the ranks again.")

    @property
    def is_elastic(self) -> bool:
        """Whether the number of machines may change during a run."""
        return isinstance(self.nnodes, str) and ":" in self.nnodes

    @property
    def machines(self) -> int:
        """How many machines there are; the fewest that elastic training goes on with."""
        return int(str(self.nnodes).split(":")[0])

    @property
    def ranks(self) -> int:
        """How many ranks there are on all machines; the fewest that elastic training goes on with."""
        return self.machines * len(self.devices)

    @property
    def own_ranks(self) -> range:
        """The ranks of this machine (which elastic training numbers anew whenever machines come or go)."""
        return range(self.rank * len(self.devices), (self.rank + 1) * len(self.devices))

    def on_this_machine_alone(self) -> LaunchParameters:
        """Return the same without the other machines, for evaluation and export."""
        return self.model_copy(update={"nnodes": 1, "master": None, "rank": 0})

    @model_validator(mode="after")
    def _name_each_device_once(self) -> Self:
        if len(set(self.devices)) != len(self.devices):
            raise ValueError(f"devices names a device twice: {list(self.devices)}")
        return self

    @model_validator(mode="after")
    def _let_machines_meet(self) -> Self:
        if not re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", str(self.nnodes)):
            raise ValueError(f'nnodes is {self.nnodes!r}; it is a number of machines, or "fewest:most"')
        if self.is_elastic:
            fewest, most = map(int, str(self.nnodes).split(":"))
            if fewest > most:
                raise ValueError(f"nnodes {self.nnodes}: the fewest machines come first")
            if not (self.master or "").startswith(_ETCD):
                raise ValueError(f"nnodes {self.nnodes} is elastic, which takes an etcd: set master: etcd://host:port")
            return self
        if self.machines > 1 and self.master is None:
            raise ValueError(f"nnodes is {self.nnodes}: set master to host:port of machine 0, so that they can meet")
        if self.rank >= self.machines:
            raise ValueError(f"rank {self.rank} is outside 0..{self.machines - 1} (nnodes is {self.nnodes})")
        if self.master and not re.fullmatch(r"[\w.-]+:\d{1,5}", self.master.removeprefix(_ETCD)):
            raise ValueError(f"master is {self.master!r}; it is host:port, or etcd://host:port")
        return self
