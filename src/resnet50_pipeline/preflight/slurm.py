"""What a SLURM job was given, against the machines, ranks and cards that the run is going to use."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from resnet50_pipeline.parameters import LaunchParameters
from resnet50_pipeline.preflight.findings import Finding, judge

# sbatch(1), srun(1): of the job, and of the step that `srun` has started inside it.
_JOB, _NODES, _CARDS = "SLURM_JOB_ID", "SLURM_JOB_NUM_NODES", "SLURM_GPUS_ON_NODE"
_STEP_NODES, _STEP_TASKS = "SLURM_STEP_NUM_NODES", "SLURM_STEP_NUM_TASKS"


def check_slurm(launch: LaunchParameters, environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Compare what the parameters say with what SLURM says; outside a job there is nothing to compare.

    Args:
        launch: machines and devices.
        environment: that of this process.
    """
    if _JOB not in environment:
        return
    step, job = _number(environment, _STEP_NODES), _number(environment, _NODES)
    nodes = step or job
    if nodes is not None:
        yield _check_machines(launch, nodes)
    tasks = _number(environment, _STEP_TASKS)
    if tasks is not None and step is not None:
        yield judge(
            tasks <= step,
            "blocking",
            "SLURM tasks",
            found=f"{tasks} on {step} node{'s' if step > 1 else ''}",
            needed="one a node, which starts the node's ranks",
            remedy="srun --ntasks-per-node=1",
        )
    cards = _number(environment, _CARDS)
    if cards is not None and launch.device == "gpu":
        yield _check_cards(launch, cards)


def _check_machines(launch: LaunchParameters, nodes: int) -> Finding:
    # With fewer than it was given the run ends well; with more it waits for machines that do not come.
    return judge(
        nodes == launch.machines,
        "blocking" if nodes < launch.machines else "warning",
        "SLURM nodes",
        found=str(nodes),
        needed=f"{launch.machines} (training.launch.nnodes)",
        remedy="set training.launch.nnodes=$SLURM_NNODES, or sbatch --nodes, so that they agree",
    )


def _check_cards(launch: LaunchParameters, cards: int) -> Finding:
    wanted = len(launch.devices)
    return judge(
        cards == wanted,
        "blocking" if cards < wanted else "warning",
        "SLURM cards",
        found=f"{cards} on this node",
        needed=f"{wanted} (training.launch.devices)",
        remedy="set training.launch.devices, or sbatch --gpus-per-node, so that they agree",
    )


def _number(environment: Mapping[str, str], name: str) -> int | None:
    value = environment.get(name, "")
    return int(value) if value.isdecimal() else None
