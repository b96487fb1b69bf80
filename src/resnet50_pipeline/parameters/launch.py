"""`training.launch`: the ranks and where they run."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from resnet50_pipeline.parameters.base import ParameterModel


class LaunchParameters(ParameterModel):
    """`training.launch`: the ranks and where they run."""

    device: str = Field(description="cpu, gpu, or a Paddle custom device by name (iluvatar_gpu, xpu, npu, …).")
    devices: tuple[int, ...] = Field(min_length=1, description="One rank an entry; on gpu the cards' numbers.")
    threads_per_rank: int = Field(default=1, ge=1, description="OMP_NUM_THREADS of each rank.")
    environment: dict[str, str] = Field(
        default_factory=dict, description="Further variables of the ranks, as FLAGS_cudnn_exhaustive_search."
    )
    hang_timeout_seconds: float = Field(
        default=1800.0, gt=0, description="A rank whose heartbeat is older than this is taken to hang."
    )

    @model_validator(mode="after")
    def _name_each_device_once(self) -> Self:
        if len(set(self.devices)) != len(self.devices):
            raise ValueError(f"devices names a device twice: {list(self.devices)}")
        return self
