"""Each move of an alias is recorded, and concurrent processes move the champion one at a time."""

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
from resnet50_pipeline.tracking.registry import champion as champion_module
from resnet50_pipeline.tracking.registry.champion import ChampionJournal, create_model, journal_experiment
from resnet50_pipeline.tracking.registry.promotion import judge_version, list_champions, promote_version, roll_back

NAME = "probe"
PARAMETERS = ModelRegistrationParameters(model_name=NAME, gate=GateParameters(min_accuracy=0.5))
TAGS = {"data_digest": "sha256:da7a", "list_digest": "sha256:1157"}

# One of several processes, which puts its version through the gate once all are ready.
CONTENDER = """
import sys, time
from pathlib import Path
from mlflow import MlflowClient
from resnet50_pipeline.parameters import GateParameters, ModelRegistrationParameters
from resnet50_pipeline.tracking.registry.promotion import judge_version

uri, version, folder, contenders = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
client = MlflowClient(uri, uri)
client.get_registered_model("probe")
(folder / f"ready.{version}").touch()
while len(list(folder.glob("ready.*"))) < contenders:
    time.sleep(0.001)
parameters = ModelRegistrationParameters(model_name="probe", gate=GateParameters(min_accuracy=0.5))
print(judge_version(client, version, parameters, broken_expectations=(), export_passed=True).alias)
"""


def add_versions(client: MlflowClient, accuracies: Sequence[float]) -> list[int]:
    """Register a version without files for each top-1 accuracy, and return the version numbers."""
    experiment = client.get_experiment_by_name("probe")
    experiment_id = experiment.experiment_id if experiment else client.create_experiment("probe")
    if not client.search_registered_models(f"name = '{NAME}'"):
        create_model(client, NAME, None)
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
    """A client of an empty store."""
    sqlite_store(tmp_path)
    return client_of(tmp_path)


def test_a_better_version_becomes_the_champion_and_a_worse_one_does_not(client):
    """The alias follows the gate's decision, and the tags of each version contain the decision and its reasons."""
    add_versions(client, [0.90, 0.92, 0.91])
    assert [judge(client, version).alias for version in (1, 2, 3)] == ["champion", "champion", ""]
    assert (alias_of(client), versions_of(client)) == (2, [1, 2])
    tags = client.get_model_version(NAME, "3").tags
    assert tags["gate"] == "failed"
    assert all(value in tags["gate_reasons"] for value in ("91.00%", "1.00 points below", "version 2", "92.00%"))
    assert json.loads(tags["gate_decision"])["compared_with"] == 2
    assert client.get_model_version(NAME, "2").tags["gate"] == "passed"


def test_blocking_findings_fail_a_version(client):
    """A version whose data has blocking findings fails, even with a high accuracy."""
    add_versions(client, [0.99])
    assert judge(client, 1, broken=("images_decode",)).alias == ""
    assert alias_of(client) is None


def test_a_candidate_is_promoted_by_hand(client):
    """A passing version becomes the candidate; promoting it moves it from candidate to champion."""
    parameters = PARAMETERS.model_copy(update={"alias": "candidate"})
    add_versions(client, [0.90, 0.95])
    assert judge(client, 2, parameters).alias == "candidate"
    assert judge(client, 1, parameters).alias == "candidate"
    assert (alias_of(client), alias_of(client, "candidate")) == (None, 2), (
        "an older version does not replace the candidate"
    )
    move = promote_version(client, NAME, 2, despite_gate=False, why="looked at the report")
    assert (move.previous, move.champion) == (None, 2)
    assert (alias_of(client), alias_of(client, "candidate")) == (2, None)
    (entry,) = list_champions(client, NAME)
    assert (entry.action, entry.why) == ("promote", "looked at the report")


def test_promoting_the_champion_again_changes_nothing(client):
    """Promoting the current champion succeeds and records nothing."""
    add_versions(client, [0.90])
    judge(client, 1)
    before = list_champions(client, NAME)
    move = promote_version(client, NAME, 1, despite_gate=False, why="again")
    assert (move.previous, move.champion, alias_of(client)) == (1, 1, 1)
    assert list_champions(client, NAME) == before


def test_a_failed_version_is_only_promoted_despite_the_gate(client):
    """The error shows the gate's reasons and the option that overrides them."""
    add_versions(client, [0.4])
    judge(client, 1)
    with pytest.raises(TrackingError, match=r"40\.00%.*promote 1 --despite-gate"):
        promote_version(client, NAME, 1, despite_gate=False)
    promote_version(client, NAME, 1, despite_gate=True)
    assert alias_of(client) == 1


def test_a_second_rollback_goes_one_champion_further_back(client):
    """Each rollback goes one champion further back. At the first champion, a rollback fails."""
    add_versions(client, [0.90, 0.92, 0.94])
    for version in (1, 2, 3):
        judge(client, version)
    assert [(move.previous, move.champion) for move in (roll_back(client, NAME), roll_back(client, NAME))] == [
        (3, 2),
        (2, 1),
    ]
    assert (alias_of(client), versions_of(client)) == (1, [1, 2, 3, 2, 1])
    with pytest.raises(TrackingError, match=f"{NAME} .*promote"):
        roll_back(client, NAME)


def test_an_alias_moved_by_hand_is_recorded(client):
    """A move made in MLflow's UI becomes an entry, and the next version is compared with that champion."""
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


def test_listing_champions_writes_nothing(client, monkeypatch):
    """Listing shows an alias set or moved by hand, and leaves the tags and the journal unchanged."""
    add_versions(client, [0.90, 0.95])
    client.set_registered_model_alias(NAME, "champion", "2")
    assert versions_of(client) == [2]
    assert ChampionJournal(client, NAME).history() == []
    client.delete_registered_model_alias(NAME, "champion")
    judge(client, 1)
    client.set_registered_model_alias(NAME, "champion", "2")
    assert versions_of(client) == [1, 2]
    assert [entry.version for entry in ChampionJournal(client, NAME).history()] == [1]


def test_the_move_of_a_dead_process_is_completed(client, monkeypatch):
    """If a process dies between writing its entry and moving the alias, the next process moves the alias."""
    add_versions(client, [0.90, 0.95])
    judge(client, 1)
    journal = ChampionJournal(client, NAME)
    monkeypatch.setattr(ChampionJournal, "settle", lambda _: None)
    assert journal.change(champion_module.Champion(1, 1), 2, "gate", "killed here")
    monkeypatch.undo()
    assert alias_of(client) == 1
    assert ChampionJournal(client, NAME).settle() == champion_module.Champion(2, 2)
    assert alias_of(client) == 2


def test_a_change_based_on_an_older_champion_fails(client):
    """If two processes expect the same champion, one succeeds and the other's change has no effect."""
    add_versions(client, [0.90, 0.95, 0.96])
    judge(client, 1)
    journal, other = ChampionJournal(client, NAME), ChampionJournal(client, NAME)
    expected = journal.settle()
    assert journal.change(expected, 2, "gate", "")
    assert not other.change(expected, 3, "gate", "")
    assert (alias_of(client), versions_of(client)) == (2, [1, 2])


def test_a_deleted_journal_is_reported(client):
    """Without the journal, no version becomes the champion, and the error shows the command that restores it."""
    add_versions(client, [0.90])
    judge(client, 1)
    client.delete_run(client.get_registered_model(NAME).tags["champion_journal"])
    with pytest.raises(TrackingError, match=r"mlflow runs restore --run-id \w+"):
        judge(client, 1)


def contend(uri: str, client: MlflowClient, folder: Path, accuracies: Sequence[float]) -> None:
    """Put all versions through the gate at the same time, each in a separate process, and check the result."""
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
    aliases = {}
    for number, process in zip(numbers, processes, strict=True):
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        aliases[number] = output.strip()
    quality = {int(v.version): float(v.tags["top1"]) for v in client.search_model_versions(f"name = '{NAME}'")}
    champions = versions_of(client)
    assert all(quality[b] > quality[a] for a, b in itertools.pairwise(champions)), (
        "each champion is better than the one before"
    )
    assert alias_of(client) == champions[-1] == max(quality, key=lambda version: quality[version])
    assert {n for n, alias in aliases.items() if alias == "champion"} == set(champions) & set(numbers), (
        "every champion is in the journal"
    )
    for number in numbers:
        decision = json.loads(client.get_model_version(NAME, str(number)).tags["gate_decision"])
        before = champions[champions.index(number) - 1 : champions.index(number)] if number in champions else None
        if before is not None:
            assert [decision["compared_with"]] == (before or [None]), (
                "the gate compared the version with the champion that it replaced"
            )


def test_no_run_with_a_version_has_parameters_of_the_journal(client):
    """The journal's entries are parameters of a run in a separate experiment, so that no comparison shows them."""
    add_versions(client, [0.90, 0.92])
    for version in (1, 2):
        judge(client, version)
    journal = client.get_run(client.get_registered_model(NAME).tags["champion_journal"])
    assert set(journal.data.params) == {f"champion.000{n}{end}" for n in (1, 2) for end in ("", ".settled")}
    assert journal.info.experiment_id != client.get_experiment_by_name("probe").experiment_id
    for version in ("1", "2"):
        assert client.get_run(client.get_model_version(NAME, version).run_id).data.params == {}


def test_one_process_creates_the_model_and_its_journal(client):
    """If the model already exists, creating it again leaves its journal unchanged and no run behind."""
    for _ in range(2):
        create_model(client, NAME, None)
    journal = client.get_experiment_by_name("champion journals")
    (run,) = client.search_runs([journal.experiment_id])
    assert client.get_registered_model(NAME).tags["champion_journal"] == run.info.run_id


@pytest.mark.parametrize(
    ("experiment", "expected"),
    [
        ("digits", "champion journals"),
        ("team/digits", "champion journals"),
        ("/digits", "champion journals"),
        ("/Users/ada@example.com/digits", "/Users/ada@example.com/champion journals"),
    ],
)
def test_journals_are_in_the_folder_of_the_experiment(client, experiment, expected):
    """If the experiment's name is a path, as on Databricks, the experiment of the journals is in the same folder."""
    create_model(client, NAME, None, journal_experiment(experiment))
    journal = client.get_run(client.get_registered_model(NAME).tags["champion_journal"])
    assert client.get_experiment(journal.info.experiment_id).name == expected


def test_a_model_is_registered_without_the_experiment_of_the_journals(client):
    """If the journals' experiment was deleted, the run of the first version contains the journal."""
    client.delete_experiment(client.create_experiment("champion journals"))
    (version,) = add_versions(client, [0.8])
    assert "champion_journal" not in client.get_registered_model(NAME).tags
    assert judge(client, version).alias == "champion"
    first_run = client.get_model_version(NAME, str(version)).run_id
    assert client.get_registered_model(NAME).tags["champion_journal"] == first_run


def test_a_repeated_request_keeps_the_journal(client, monkeypatch):
    """If MLflow's client repeats a request whose response was lost, the journal of the created model is kept."""
    create = client.create_registered_model

    def create_twice(*arguments: object):
        create(*arguments)
        return create(*arguments)

    monkeypatch.setattr(client, "create_registered_model", create_twice)
    create_model(client, NAME, None)
    journal = client.get_registered_model(NAME).tags["champion_journal"]
    assert client.get_run(journal).info.lifecycle_stage == "active"


@pytest.mark.slow
@pytest.mark.parametrize("is_ours", [True, False])
def test_concurrent_runs_are_judged_one_after_the_other(client, tmp_path, is_ours):
    """With four processes on a SQLite file and then three more, the best version ends up as the champion.

    This also holds for a model that another program created, which has no journal yet.
    """
    if not is_ours:
        client.create_registered_model(NAME)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    contend(uri, client, tmp_path / "first", [0.91, 0.94, 0.92, 0.93])
    contend(uri, client, tmp_path / "second", [0.95, 0.97, 0.96])


@pytest.mark.exhaustive
@pytest.mark.slow
def test_concurrent_runs_on_a_server_are_judged_one_after_the_other(tmp_path):
    """Processes that share only a tracking server are also judged one after the other."""
    (tmp_path / "server").mkdir()
    with MlflowServer(tmp_path / "server") as server:
        server.start()
        contend(server.uri, MlflowClient(server.uri, server.uri), tmp_path / "race", [0.91, 0.93, 0.92])


@pytest.mark.parametrize("lost", ["journal", "all"])
def test_a_lost_journal_is_replaced(client, lost, caplog):
    """If `mlflow gc` has removed the journal's run, a new journal starts with the current champion."""
    add_versions(client, [0.80, 0.90])
    judge(client, 1)
    journal = client.get_registered_model(NAME).tags["champion_journal"]
    runs = {client.get_model_version(NAME, str(number)).run_id for number in (1, 2)}
    for run_id in {journal} if lost == "journal" else {journal, *runs}:
        client._tracking_client.store._hard_delete_run(run_id)
    assert [entry.version for entry in list_champions(client, NAME)] == [1]
    assert judge(client, 2).alias == "champion"
    assert journal in caplog.text
    assert promote_version(client, NAME, 1, despite_gate=False).previous == 2
    assert roll_back(client, NAME).champion == 2
