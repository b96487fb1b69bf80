"""Aliases move for a reason, in one place, one after the other: also when several processes want to at once."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mlflow_stores import MlflowServer, client_of, sqlite_store
from resnet50_pipeline.exceptions import TrackingError
from resnet50_pipeline.parameters import GateParameters, ModelRegistrationParameters
from resnet50_pipeline.tracking import champion as champion_module
from resnet50_pipeline.tracking.champion import ChampionJournal
from resnet50_pipeline.tracking.promotion import judge_version, list_champions, promote_version, roll_back

NAME = "probe"
PARAMETERS = ModelRegistrationParameters(model_name=NAME, gate=GateParameters(min_top1=0.5))
TAGS = {"data_digest": "sha256:da7a", "list_digest": "sha256:1157"}

# One process of several that were started together: waits for the others, then takes its version through the gate.
CONTENDER = """
import sys, time
from pathlib import Path
from mlflow import MlflowClient
from resnet50_pipeline.parameters import GateParameters, ModelRegistrationParameters
from resnet50_pipeline.tracking.promotion import judge_version

uri, version, folder, contenders = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
client = MlflowClient(uri, uri)
client.get_registered_model("probe")
(folder / f"ready.{version}").touch()
while len(list(folder.glob("ready.*"))) < contenders:
    time.sleep(0.001)
parameters = ModelRegistrationParameters(model_name="probe", gate=GateParameters(min_top1=0.5))
print(judge_version(client, version, parameters, broken_expectations=(), export_passed=True).alias)
"""


def add_versions(client: MlflowClient, accuracies: Sequence[float]) -> list[int]:
    """Register a version for each top-1, without a model in it, and return their numbers."""
    experiment = client.get_experiment_by_name("probe")
    experiment_id = experiment.experiment_id if experiment else client.create_experiment("probe")
    if not client.search_registered_models(f"name = '{NAME}'"):
        client.create_registered_model(NAME)
    numbers = []
    for top1 in accuracies:
        run = client.create_run(experiment_id)
        tags = {**TAGS, "top1": str(top1)}
        numbers.append(int(client.create_model_version(NAME, run.info.artifact_uri, run.info.run_id, tags).version))
        client.set_terminated(run.info.run_id)
    return numbers


def judge(client, version, parameters=PARAMETERS, broken=()):
    return judge_version(client, version, parameters, broken_expectations=broken, export_passed=True)


def alias_of(client: MlflowClient, alias: str = "champion") -> int | None:
    version = client.get_registered_model(NAME).aliases.get(alias)
    return None if version is None else int(version)


def versions_of(client: MlflowClient) -> list[int | None]:
    return [entry.version for entry in list_champions(client, NAME)]


@pytest.fixture
def client(tmp_path) -> MlflowClient:
    """An empty store."""
    sqlite_store(tmp_path)
    return client_of(tmp_path)


def test_a_better_version_becomes_the_champion_and_a_worse_one_does_not(client):
    """The alias moves with the gate's word, and every version carries the decision and its reasons."""
    add_versions(client, [0.90, 0.92, 0.91])
    assert [judge(client, version).alias for version in (1, 2, 3)] == ["champion", "champion", ""]
    assert (alias_of(client), versions_of(client)) == (2, [1, 2])
    tags = client.get_model_version(NAME, "3").tags
    assert tags["gate"] == "failed"
    assert tags["gate_reasons"].startswith("top-1 91.00% is 1.00% below the champion, version 2 (92.00%)")
    assert json.loads(tags["gate_decision"])["compared_with"] == 2
    assert client.get_model_version(NAME, "2").tags["gate"] == "passed"


def test_blocking_findings_keep_a_version_out(client):
    """Data that the validation objects to is a reason of its own, however good the numbers are."""
    add_versions(client, [0.99])
    assert judge(client, 1, broken=("images_decode",)).alias == ""
    assert alias_of(client) is None


def test_with_candidate_a_person_decides(client):
    """A version that passes waits as candidate; promoting it makes it the champion and takes that alias away."""
    parameters = PARAMETERS.model_copy(update={"alias": "candidate"})
    add_versions(client, [0.90, 0.95])
    assert judge(client, 2, parameters).alias == "candidate"
    assert judge(client, 1, parameters).alias == "candidate"
    assert (alias_of(client), alias_of(client, "candidate")) == (None, 2), "an older version takes nothing away"
    move = promote_version(client, NAME, 2, despite_gate=False, why="looked at the report")
    assert (move.previous, move.champion) == (None, 2)
    assert (alias_of(client), alias_of(client, "candidate")) == (2, None)
    (entry,) = list_champions(client, NAME)
    assert (entry.action, entry.why) == ("promote", "looked at the report")


def test_a_refused_version_is_promoted_only_if_a_person_insists(client):
    """The refusal names the gate's reasons and the command that goes past them."""
    add_versions(client, [0.4])
    judge(client, 1)
    with pytest.raises(TrackingError, match=r"did not pass the gate: top-1 40.00% is below .*promote 1 --despite-gate"):
        promote_version(client, NAME, 1, despite_gate=False)
    promote_version(client, NAME, 1, despite_gate=True)
    assert alias_of(client) == 1


def test_rolled_back_twice_it_is_the_one_before_that(client):
    """A rollback goes one champion back, and another goes on from there; at the first one there is nowhere to go."""
    add_versions(client, [0.90, 0.92, 0.94])
    for version in (1, 2, 3):
        judge(client, version)
    assert [(move.previous, move.champion) for move in (roll_back(client, NAME), roll_back(client, NAME))] == [
        (3, 2),
        (2, 1),
    ]
    assert (alias_of(client), versions_of(client)) == (1, [1, 2, 3, 2, 1])
    with pytest.raises(TrackingError, match="no champion before"):
        roll_back(client, NAME)


def test_an_alias_that_a_person_moved_is_respected(client):
    """What was clicked in MLflow's page becomes an entry; the next version is compared with that champion."""
    add_versions(client, [0.90, 0.95, 0.92])
    for version in (1, 2):
        judge(client, version)
    client.set_registered_model_alias(NAME, "champion", "1")
    assert judge(client, 3).alias == "champion"
    assert [(entry.version, entry.action) for entry in list_champions(client, NAME)] == [
        (1, "gate"),
        (2, "gate"),
        (1, "by_hand"),
        (3, "gate"),
    ]


def test_what_a_dead_process_began_is_finished(client, monkeypatch):
    """Killed between its entry and the alias, a process has won: whoever comes next moves the alias for it."""
    add_versions(client, [0.90, 0.95])
    judge(client, 1)
    journal = ChampionJournal(client, NAME)
    monkeypatch.setattr(ChampionJournal, "settle", lambda _: None)
    assert journal.change(champion_module.Champion(1, 1), 2, "gate", "killed here")
    monkeypatch.undo()
    assert alias_of(client) == 1
    assert ChampionJournal(client, NAME).settle() == champion_module.Champion(2, 2)
    assert alias_of(client) == 2


def test_who_saw_an_older_champion_changes_nothing(client):
    """Of two that saw the same champion one wins; the other's change is refused, and it can look again."""
    add_versions(client, [0.90, 0.95, 0.96])
    judge(client, 1)
    journal, other = ChampionJournal(client, NAME), ChampionJournal(client, NAME)
    seen = journal.settle()
    assert journal.change(seen, 2, "gate", "")
    assert not other.change(seen, 3, "gate", "")
    assert (alias_of(client), versions_of(client)) == (2, [1, 2])


def test_a_deleted_journal_is_named(client):
    """Without its journal nobody becomes the champion unseen: the error says how to bring it back."""
    add_versions(client, [0.90])
    judge(client, 1)
    client.delete_run(client.get_registered_model(NAME).tags["champion_journal"])
    with pytest.raises(TrackingError, match="mlflow runs restore --run-id"):
        judge(client, 1)


def contend(uri: str, client: MlflowClient, folder: Path, accuracies: Sequence[float]) -> None:
    """Take the versions through the gate at once, each in a process of its own, and check what came of it."""
    numbers = add_versions(client, accuracies)
    folder.mkdir()
    command = [sys.executable, "-W", "ignore", "-c", CONTENDER, uri]
    processes = [
        subprocess.Popen(
            [*command, str(number), str(folder), str(len(numbers))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in numbers
    ]
    answers = {}
    for number, process in zip(numbers, processes, strict=True):
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        answers[number] = output.strip()
    quality = {int(v.version): float(v.tags["top1"]) for v in client.search_model_versions(f"name = '{NAME}'")}
    champions = versions_of(client)
    assert all(quality[b] > quality[a] for a, b in itertools.pairwise(champions)), "each beat the one before"
    assert alias_of(client) == champions[-1] == max(quality, key=lambda version: quality[version])
    assert {n for n, alias in answers.items() if alias == "champion"} == set(champions) & set(numbers), (
        "nobody won unseen"
    )
    for number in numbers:
        decision = json.loads(client.get_model_version(NAME, str(number)).tags["gate_decision"])
        before = champions[champions.index(number) - 1 : champions.index(number)] if number in champions else None
        if before is not None:
            assert [decision["compared_with"]] == (before or [None]), (
                "judged against the very champion that it replaced"
            )


@pytest.mark.slow
def test_runs_that_finish_at_once_are_judged_one_after_the_other(client, tmp_path):
    """Four processes on one database file, then three: the best ends as champion, having beaten each one before it."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    contend(uri, client, tmp_path / "first", [0.91, 0.94, 0.92, 0.93])
    contend(uri, client, tmp_path / "second", [0.95, 0.97, 0.96])


@pytest.mark.slow
def test_the_same_holds_over_a_server(tmp_path):
    """Processes that share nothing but the address of a tracking server cannot both win unseen either."""
    (tmp_path / "server").mkdir()
    with MlflowServer(tmp_path / "server") as server:
        server.start()
        contend(server.uri, MlflowClient(server.uri, server.uri), tmp_path / "race", [0.91, 0.93, 0.92])
