"""The manifests are valid for Kubernetes and the training operator, and start this project's commands."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from paddlejob_schema import MANIFEST, schema_of

from resnet50_pipeline.cli import cli
from resnet50_pipeline.parameters import LaunchParameters, TrainingParameters
from resnet50_pipeline.pipeline_registry import STAGES

DEPLOY = MANIFEST.parents[1]
SCHEMA = Path(__file__).with_name("paddlejob.schema.json")


@pytest.fixture
def job() -> dict[str, Any]:
    """Return the PaddleJob."""
    loaded: dict[str, Any] = yaml.safe_load(MANIFEST.read_text())
    return loaded


def worker(job: dict[str, Any]) -> dict[str, Any]:
    """Return the pod of each machine."""
    pod: dict[str, Any] = job["spec"]["paddleReplicaSpecs"]["Worker"]["template"]["spec"]
    return pod


def check(job: dict[str, Any], schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(schema).validate(job)


def test_the_job_is_valid_for_the_operator(job):
    """Every name and type in the manifest is valid according to the operator's definition of a PaddleJob (v1.9.0)."""
    check(job, json.loads(SCHEMA.read_text()))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "paddleReplicaSpec"), {}),
        (("spec", "paddleReplicaSpecs", "Worker", "replicas"), "2"),
        (("spec", "paddleReplicaSpecs", "Worker", "template", "spec", "terminationGraceSeconds"), 5),
        (("spec", "paddleReplicaSpecs", "Worker", "template", "spec", "containers"), {}),
        (("spec", "runPolicy", "cleanPodPolicies"), "Running"),
    ],
)
def test_the_schema_rejects_mistakes(job, path, value):
    """The schema rejects a misspelled name and a wrong type."""
    changed = copy.deepcopy(job)
    place = changed
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        check(changed, json.loads(SCHEMA.read_text()))


def test_the_job_is_valid_for_the_complete_definition(job):
    """If PADDLEJOB_CRD names the operator's complete definition, the manifest is valid according to it."""
    if "PADDLEJOB_CRD" not in os.environ:
        pytest.skip("set PADDLEJOB_CRD to manifests/base/crds/kubeflow.org_paddlejobs.yaml of the training operator")
    check(job, schema_of(yaml.safe_load(Path(os.environ["PADDLEJOB_CRD"]).read_text())))


def test_the_operator_finds_container_and_port(job):
    """The manifest contains a `paddle` container and a `master` port, as the operator's paddlepaddle_types.go does."""
    (container,) = worker(job)["containers"]
    assert container["name"] == "paddle"
    assert [port["name"] for port in container["ports"]] == ["master"]


@pytest.mark.parametrize(("machine", "start"), [("0", "resnet50-pipeline run"), ("1", "resnet50-pipeline join")])
def test_every_machine_runs_its_part(job, tmp_path: Path, machine: str, start: str):
    """Given the operator's variables, the pod's script trains on machine 0 and joins on the others.

    The parameters that the script passes exist in this project and have the expected values.
    """
    (container,) = worker(job)["containers"]
    program = tmp_path / "resnet50-pipeline"
    program.write_text('#!/bin/sh\necho "resnet50-pipeline $*"\n')
    program.chmod(0o755)
    done = subprocess.run(
        [*container["command"], *container["args"]],
        env={
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "PADDLE_NNODES": "2",
            "PADDLE_MASTER": "resnet50-worker-0:37777",
            "MACHINE": machine,
            "POD_IP": f"10.1.0.{machine}",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    words = done.stdout.split()
    assert " ".join(words[:2]) == start
    assert words[1] in cli.commands
    parameters = dict(item.split("=", 1) for item in words[words.index("--params") + 1].split(","))
    launch = {
        name.removeprefix("training.launch."): value
        for name, value in parameters.items()
        if name.startswith("training.launch.")
    }
    launched = LaunchParameters(device="gpu", devices=(0, 1, 2, 3), **launch)
    assert (launched.machines, launched.rank, launched.ranks) == (2, int(machine), 8)
    assert (launched.master, launched.host) == ("resnet50-worker-0:37777", f"10.1.0.{machine}")
    others = {name for name in parameters if name.startswith("training.") and name.count(".") == 1}
    assert {name.removeprefix("training.") for name in others} <= set(TrainingParameters.model_fields)


def test_the_grace_period_of_the_pod_is_longer_than_kedros(job):
    """Kubernetes waits longer for the pod than Kedro waits for the ranks, so the ranks can save."""
    conf = yaml.safe_load((DEPLOY.parents[1] / "conf" / "imagenet" / "parameters_training.yml").read_text())
    grace = conf["training"]["launch"]["stop_grace_seconds"]
    assert worker(job)["terminationGracePeriodSeconds"] >= grace + 30


def test_volumes_and_stages_exist():
    """Pods mount existing claims, and the preparation job runs existing stages."""
    documents = {path: list(yaml.safe_load_all(path.read_text())) for path in sorted(DEPLOY.rglob("*.yaml"))}
    everything = [document for found in documents.values() for document in found]
    made = {one["metadata"]["name"] for one in everything if one["kind"] == "PersistentVolumeClaim"}
    mounted = set(re.findall(r"claimName: (\S+)", "".join(path.read_text() for path in documents)))
    assert mounted == made == {"imagenet", "resnet50-workspace"}
    (preparation,) = [one for one in everything if one["kind"] == "Job"]
    (container,) = preparation["spec"]["template"]["spec"]["containers"]
    assert set(container["args"][1].split(",")) <= set(STAGES)


@pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl builds the folders; the tests above read the files"
)
@pytest.mark.parametrize("folder", ["prepare", "train"])
def test_kustomize_builds_the_folder(folder: str):
    """`kubectl apply -k` receives every resource with its namespace and the image tag."""
    done = subprocess.run(["kubectl", "kustomize", str(DEPLOY / folder)], capture_output=True, text=True, check=True)
    built = list(yaml.safe_load_all(done.stdout))
    assert {one["metadata"]["namespace"] for one in built} == {"training"}
    assert "image: resnet50-pipeline:0.1.0" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("machine", ["0", "1"])
def test_preflight_accepts_the_parameters_of_every_machine(job, tmp_path: Path, machine: str):
    """Preflight accepts the pod's parameters and complains only about the missing GPUs and ImageNet."""
    (container,) = worker(job)["containers"]
    program = tmp_path / "resnet50-pipeline"
    # The pod's command, with preflight instead of run or join.
    program.write_text(
        f"#!/bin/sh\nwhile [ $# -gt 0 ]; do [ $1 = --params ] && parameters=$2; shift; done\n"
        f"exec {sys.executable} -m resnet50_pipeline preflight --json --env imagenet --params $parameters\n"
    )
    program.chmod(0o755)
    done = subprocess.run(
        [*container["command"], *container["args"]],
        cwd=DEPLOY.parents[1],
        env={
            **os.environ,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "PYTHONPATH": str(DEPLOY.parents[1] / "src"),
            "PADDLE_NNODES": "2",
            "PADDLE_MASTER": "127.0.0.1:37777",
            "MACHINE": machine,
            "POD_IP": "127.0.0.1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    findings = json.loads(done.stdout)["findings"]
    blocking = {one["check"] for one in findings if one["status"] == "blocking"}
    assert blocking == {"Paddle", "dataset"}
    assert {"rendezvous", "machine 0"} <= {one["check"] for one in findings if one["status"] == "ok"}
