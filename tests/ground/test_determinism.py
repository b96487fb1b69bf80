"""A deterministic run sets the flags of NVIDIA's libraries, and rejects settings that contradict them."""

from __future__ import annotations

import pytest

from resnet50_pipeline.paddleclas.launch.command import build_launch_command

FLAGS = {
    "FLAGS_cudnn_deterministic": "True",
    "FLAGS_cudnn_exhaustive_search": "False",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "NCCL_ALGO": "Ring",
}


def launch(**environment: str) -> dict:
    return {"device": "gpu", "devices": [0, 1, 2, 3], "environment": environment}


def test_flags_reach_the_ranks(training_parameters, tmp_path):
    """The ranks get the flags, even if the shell sets another value. The user's other variables are kept."""
    training = training_parameters(deterministic=True, launch=launch(NCCL_ALGO="Tree", A="1"))
    inherited = {"FLAGS_cudnn_exhaustive_search": "True"}
    environment = build_launch_command(training.launch, tmp_path, [], inherited).environment
    assert {name: environment[name] for name in (*FLAGS, "A")} == {**FLAGS, "NCCL_ALGO": "Tree", "A": "1"}


def test_default_sets_no_flags(training_parameters):
    """By default, no variable is added, and the log does not mention determinism."""
    training = training_parameters(launch=launch())
    assert training.launch.environment == {}
    assert training.describe_determinism() == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FLAGS_cudnn_exhaustive_search", "True"),
        ("FLAGS_cudnn_deterministic", "0"),
        ("CUBLAS_WORKSPACE_CONFIG", ":0:0"),
    ],
)
def test_contradictions_are_rejected(training_parameters, name: str, value: str):
    """Paddle rejects exhaustive search in combination with deterministic algorithms, so the parameters do too."""
    with pytest.raises(ValueError, match=rf"deterministic is true, but launch\.environment\.{name} is '{value}'"):
        training_parameters(deterministic=True, launch=launch(**{name: value}))


@pytest.mark.parametrize("value", [1, "true"])
def test_only_booleans_are_accepted(training_parameters, value: object):
    """A value that pydantic would convert must not count as true without setting the flags."""
    with pytest.raises(ValueError, match="deterministic"):
        training_parameters(deterministic=value, launch=launch())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"virtual_ranks": 4}, ["none"]),
        ({}, ["all_reduce over more than two ranks"]),
        ({"virtual_ranks": 4, "deterministic_reduction": False}, ["all_reduce over more than two ranks"]),
        ({"loader": {"use_dali": True}}, ["all_reduce over more than two ranks", "DALI's image decoder"]),
    ],
    ids=["virtual-ranks", "data-parallel", "fast-reduction", "dali"],
)
def test_operators_without_a_deterministic_version_are_listed(training_parameters, changes: dict, named: list[str]):
    """The log line lists the operators of this run, and says if there are none."""
    described = training_parameters(deterministic=True, launch=launch(), **changes).describe_determinism()
    assert described.startswith("deterministic; operators without a deterministic version: ")
    found = described.partition(": ")[2].split("; ")
    assert len([part for part in found if part.startswith(tuple(named))]) == len(named)
    assert ("none" in found) == (named == ["none"])
