"""Checks that the nodes, tasks and GPUs of a SLURM job match the parameters of the run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from resnet50_pipeline.parameters import LaunchParameters
from resnet50_pipeline.preflight.findings import Finding, judge
from resnet50_pipeline.text import pluralize

# Set for the job and for its `srun` step; see sbatch(1) and srun(1).
_JOB, _NODES, _CARDS = "SLURM_JOB_ID", "SLURM_JOB_NUM_NODES", "SLURM_GPUS_ON_NODE"
_STEP_NODES, _STEP_TASKS = "SLURM_STEP_NUM_NODES", "SLURM_STEP_NUM_TASKS"


def check_slurm(launch: LaunchParameters, environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Compare the parameters with the SLURM job, if there is one.

    Args:
        launch: machines and devices of the run.
        environment: environment of this process.
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
            found=f"{pluralize(tasks, 'task')} on {pluralize(step, 'node')}",
            needed="1 task per node, which starts the node's ranks",
            remedy="srun --ntasks-per-node=1",
        )
    cards = _number(environment, _CARDS)
    if cards is not None and launch.device == "gpu":
        yield _check_cards(launch, cards)


def _check_machines(launch: LaunchParameters, nodes: int) -> Finding:
    # A run may leave nodes of the job idle. A run that needs more nodes would wait for machines that never join.
    return judge(
        nodes == launch.machines,
        "blocking" if nodes < launch.machines else "warning",
        "SLURM nodes",
        found=str(nodes),
        needed=f"{launch.machines} (training.launch.nnodes)",
        remedy="set training.launch.nnodes=$SLURM_NNODES, or change sbatch --nodes",
    )


def _check_cards(launch: LaunchParameters, cards: int) -> Finding:
    wanted = len(launch.devices)
    return judge(
        cards == wanted,
        "blocking" if cards < wanted else "warning",
        "SLURM cards",
        found=f"{cards} on this node",
        needed=f"{wanted} (training.launch.devices)",
        remedy="change training.launch.devices or sbatch --gpus-per-node",
    )


def _number(environment: Mapping[str, str], name: str) -> int | None:
    value = environment.get(name, "")
    return int(value) if value.isdecimal() else None
