"""The nodes, tasks and GPUs of a SLURM job are compared with the parameters of the run."""

from __future__ import annotations

import pytest

from resnet50_pipeline.parameters import LaunchParameters
from resnet50_pipeline.preflight.slurm import check_slurm

JOB = {"SLURM_JOB_ID": "17", "SLURM_JOB_NUM_NODES": "2"}
STEP = JOB | {"SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_GPUS_ON_NODE": "4"}
TWO = LaunchParameters(device="gpu", devices=(0, 1, 2, 3), nnodes=2, master="a:20017")
ONE = LaunchParameters(device="gpu", devices=(0, 1))


@pytest.mark.parametrize(
    ("launch", "environment", "expected"),
    [
        (ONE, {}, {}),
        (TWO, STEP, {"SLURM nodes": "ok", "SLURM tasks": "ok", "SLURM cards": "ok"}),
        (TWO, JOB, {"SLURM nodes": "ok"}),
        (ONE, STEP, {"SLURM nodes": "warning", "SLURM tasks": "ok", "SLURM cards": "warning"}),
        (
            TWO,
            STEP | {"SLURM_GPUS_ON_NODE": "2"},
            {"SLURM nodes": "ok", "SLURM tasks": "ok", "SLURM cards": "blocking"},
        ),
        (TWO, JOB | {"SLURM_JOB_NUM_NODES": "1"}, {"SLURM nodes": "blocking"}),
        (
            TWO,
            STEP | {"SLURM_STEP_NUM_TASKS": "8"},
            {"SLURM nodes": "ok", "SLURM tasks": "blocking", "SLURM cards": "ok"},
        ),
        (LaunchParameters(device="cpu", devices=(0,)), STEP | {"SLURM_STEP_NUM_NODES": "1"}, {"SLURM nodes": "ok"}),
    ],
)
def test_job_and_parameters_are_compared(launch, environment, expected):
    """Too few nodes or GPUs, or several tasks per node, block. Too many warn. Without a job, there is no finding."""
    found = {one.check: one.status for one in check_slurm(launch, environment)}
    assert {check: found[check] for check in expected} == expected
    assert bool(found) == bool(environment)
