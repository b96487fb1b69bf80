"""Checkpoint sets are copied to an object store, and a run resumes from them on another machine."""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from placed import PlacedTraining
from resnet50_pipeline.checkpoint_set import Snapshot, TrainingState, mark_best, read_state, save_checkpoint
from resnet50_pipeline.events import CheckpointSaved, EventWriter, Finished
from resnet50_pipeline.exceptions import RETRY_EXIT_CODE, CheckpointError, ParameterError
from resnet50_pipeline.paddleclas.mirror import store
from resnet50_pipeline.paddleclas.mirror.runs import fetch_newer_sets, mirroring
from resnet50_pipeline.paddleclas.mirror.store import CheckpointMirror
from resnet50_pipeline.training_dir import checkpoint_path, checkpoint_paths, checkpoints_dir, events_path
from s3_server import BUCKET, S3Server
from short_training import assert_same_end, train
from stub_ranks import wait_for
from training_driver import start_training

pytest.importorskip("moto")
pytest.importorskip("s3fs")
pytestmark = pytest.mark.slow

PREFIXES = (f"run-{number}" for number in itertools.count())
# Uploads a set, and kills itself after the given number of requests that change the store.
UPLOAD_AND_DIE = """
import os, signal, sys
import s3fs
from pathlib import Path
from resnet50_pipeline.paddleclas.mirror.store import CheckpointMirror

url, folder, name, requests = sys.argv[1:]
left = int(requests)

def dying(method):
    async def call(*arguments, **named):
        global left
        result = await method(*arguments, **named)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call

for method in ("_put_file", "_pipe_file", "_rm_file"):
    setattr(s3fs.S3FileSystem, method, dying(getattr(s3fs.S3FileSystem, method)))
mirror = CheckpointMirror(url)
mirror.upload(Path(folder), name)
mirror.prune(1, None)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    started = S3Server()
    yield started
    started.close()


@pytest.fixture
def url(server: S3Server, monkeypatch) -> str:
    """An empty folder in the bucket. This process has its credentials."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{next(PREFIXES)}"


@pytest.fixture
def mirrored(training_parameters: Callable[..., PlacedTraining], url: str) -> Callable[..., PlacedTraining]:
    """Return a function that builds the parameters of a run with a mirror."""

    def build(**changes: object) -> PlacedTraining:
        return training_parameters(**{"checkpoint_mirror": url, **changes})

    return build


def save_set(training_dir: Path, epoch: int, best_epoch: int = 0, within: tuple[int, int, int] = (0, 0, 1)) -> str:
    """Save a small checkpoint set and its event, as rank 0 does. Return the name of the set.

    `within` is the step, the step in the epoch and the number of steps per epoch.
    """
    state = TrainingState(epoch, *within, 1, best_epoch, 0.5, {}, {}, "3")
    arrays = {name: np.full(5, epoch, np.float32) for name in "ab"}
    snapshot = Snapshot(state, {"weights.safetensors": arrays, "optimizer.safetensors": arrays})
    path = checkpoints_dir(training_dir) / snapshot.name
    save_checkpoint(path, snapshot)
    if best_epoch:
        mark_best(training_dir, state)
    writer = EventWriter(events_path(training_dir))
    writer.write(saved(path.name))
    writer.close()
    return path.name


def saved(name: str) -> CheckpointSaved:
    return CheckpointSaved(epoch=1, step=1, path=f"checkpoints/{name}", seconds=1, is_best=False)


def test_a_killed_run_continues_on_a_bare_machine(mirrored, dataset_parameters, server, url, tmp_path):
    """After SIGKILL and the loss of the training folder, the resumed run ends like an uninterrupted run."""
    recipe = {"epochs": 3, "ema_decay": 0.9, "resume": "auto"}
    whole = mirrored(output_dir=tmp_path / "whole", **recipe, checkpoint_mirror=None)
    train(whole, dataset_parameters)
    training = mirrored(**recipe)
    process = start_training(training, dataset_parameters.root)
    wait_for(lambda: process.poll() is not None or CheckpointMirror(url).names(), seconds=180)
    process.kill()
    _, stderr = process.communicate()
    assert CheckpointMirror(url).names(), stderr
    shutil.rmtree(training.output_dir, ignore_errors=True)
    train(training, dataset_parameters)
    assert_same_end(whole.output_dir, training.output_dir)
    names = {path.name for path in checkpoint_paths(training.output_dir)}
    assert set(CheckpointMirror(url).names()) == names
    for key in server.keys(url.rpartition("/")[2]):
        assert key.rpartition("/")[0] in names, "neither the write test nor older sets are left"


@pytest.mark.parametrize("requests", [1, 3, 4, 6, 7])
def test_a_torn_upload_is_never_taken(mirrored, server, url: str, requests: int, tmp_path: Path):
    """A process that is killed during the upload of epoch 2 leaves epoch 1 usable, and the next upload completes it.

    The upload has six requests: four files of the set, the events and the list of files. The seventh deletes the list
    of epoch 1, before its files are deleted.
    """
    training = mirrored(resume=True)
    mirror = CheckpointMirror(url)
    mirror.upload(training.output_dir, save_set(training.output_dir, 1))
    name = save_set(training.output_dir, 2)
    command = [sys.executable, "-c", UPLOAD_AND_DIE, url, str(training.output_dir), name, str(requests)]
    environment = {**os.environ, **server.environment, "PYTHONPATH": str(Path(store.__file__).parents[3])}
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    both = ["epoch-0001", "epoch-0002"]
    complete = both[:1] if requests < 6 else both if requests == 6 else both[1:]
    assert mirror.names() == complete
    bare = tmp_path / "bare"
    fetch_newer_sets(training, bare)
    assert [path.name for path in checkpoint_paths(bare)] == complete[-1:]
    assert read_state(checkpoint_path(bare, int(complete[-1][-4:]))).epoch == int(complete[-1][-4:])
    mirror.upload(training.output_dir, name)
    mirror.prune(1, None)
    assert mirror.names() == ["epoch-0002"]
    assert {key.partition("/")[0] for key in server.keys(url.rpartition("/")[2])} == {"epoch-0002"}


def test_damaged_copies_are_skipped(mirrored, server, url: str, tmp_path: Path, caplog):
    """A copy whose content differs from its digest is not used. If no copy is intact, the run does not start."""
    training = mirrored(resume="auto")
    mirror, prefix = CheckpointMirror(url), url.rpartition("/")[2]
    for epoch in (1, 2):
        mirror.upload(training.output_dir, save_set(training.output_dir, epoch))
    server.client.put_object(Bucket=BUCKET, Key=f"{prefix}/epoch-0002/weights.safetensors", Body=b"damaged")
    fetch_newer_sets(training, tmp_path / "bare")
    assert [path.name for path in checkpoint_paths(tmp_path / "bare")] == ["epoch-0001"]
    assert "epoch-0002/weights.safetensors is damaged" in caplog.text
    server.client.delete_object(Bucket=BUCKET, Key=f"{prefix}/epoch-0001/state.json")
    with pytest.raises(CheckpointError, match=r"epoch-0001/state\.json is missing"):
        fetch_newer_sets(training, tmp_path / "other")
    assert not checkpoint_paths(tmp_path / "other")


def test_a_damaged_copy_is_replaced(mirrored, server, url: str, tmp_path: Path):
    """A run that continues from an older set uploads its own sets, despite the damaged copy of a later set.

    Otherwise, the copy of epoch 3 would remain the newest set, and sets of earlier epochs would be deleted immediately.
    """
    training, mirror = mirrored(resume=True, keep_checkpoints=1), CheckpointMirror(url)
    for epoch in (1, 3):
        mirror.upload(training.output_dir, save_set(training.output_dir, epoch))
    key = f"{url.rpartition('/')[2]}/epoch-0003/weights.safetensors"
    server.client.put_object(Bucket=BUCKET, Key=key, Body=b"damaged")
    bare = tmp_path / "bare"
    fetch_newer_sets(training, bare)
    for epoch in (2, 3):
        with mirroring(training, bare) as notice:
            notice(saved(save_set(bare, epoch)))
        assert mirror.names() == [f"epoch-000{epoch}"]
    fetch_newer_sets(training, tmp_path / "next")
    assert read_state(checkpoint_path(tmp_path / "next", 3)).epoch == 3


def test_a_damaged_best_set_does_not_stop_the_run(mirrored, server, url: str, tmp_path: Path, caplog):
    """If the copy of the best set is damaged, the run continues from the newest set with a warning, every time."""
    training, mirror = mirrored(resume=True), CheckpointMirror(url)
    for epoch in (1, 3):
        mirror.upload(training.output_dir, save_set(training.output_dir, epoch, best_epoch=1))
    key = f"{url.rpartition('/')[2]}/epoch-0001/weights.safetensors"
    server.client.put_object(Bucket=BUCKET, Key=key, Body=b"damaged")
    for _ in range(2):
        caplog.clear()
        fetch_newer_sets(training, tmp_path / "bare")
        assert [path.name for path in checkpoint_paths(tmp_path / "bare")] == ["epoch-0003"]
        assert "the best set so far, epoch-0001, is missing" in caplog.text


def test_an_interrupted_start_downloads_the_best_set_later(mirrored, url: str, tmp_path: Path):
    """If a machine is lost after it has downloaded the newest set, the next start downloads the best set."""
    training, mirror = mirrored(resume=True), CheckpointMirror(url)
    for epoch in (1, 3):
        mirror.upload(training.output_dir, save_set(training.output_dir, epoch, best_epoch=1))
    mirror.download("epoch-0003", tmp_path / "bare")
    fetch_newer_sets(training, tmp_path / "bare")
    assert [path.name for path in checkpoint_paths(tmp_path / "bare")] == ["epoch-0001", "epoch-0003"]


def test_the_best_set_is_uploaded_first(mirrored, server, url: str, monkeypatch):
    """If an upload is interrupted, no set in the mirror refers to a best set that is missing there."""
    training, uploaded = mirrored(resume=True), []
    for epoch in (1, 2):
        save_set(training.output_dir, epoch, best_epoch=1)
    monkeypatch.setattr(CheckpointMirror, "upload", lambda _mirror, _folder, name: uploaded.append(name))
    with mirroring(training, training.output_dir):
        pass
    assert uploaded[:2] == ["epoch-0001", "epoch-0002"]


def test_a_set_that_is_saved_during_an_upload_is_uploaded_at_the_end(mirrored, url: str, monkeypatch):
    """If a run ends while an earlier set is being uploaded, the last set follows."""
    training, upload = mirrored(), CheckpointMirror.upload
    begun, ended = threading.Event(), threading.Event()

    def upload_slowly(mirror: CheckpointMirror, folder: Path, name: str) -> None:
        begun.set()
        assert ended.wait(30)
        upload(mirror, folder, name)

    monkeypatch.setattr(CheckpointMirror, "upload", upload_slowly)
    with mirroring(training, training.output_dir) as notice:
        notice(saved(save_set(training.output_dir, 1)))
        assert begun.wait(30)
        notice(saved(save_set(training.output_dir, 2)))
        threading.Timer(1, ended.set).start()  # the block has ended by then
    assert CheckpointMirror(url).names() == ["epoch-0001", "epoch-0002"]


def test_auto_does_not_mix_a_finished_run_with_a_new_one(mirrored, url: str, tmp_path: Path):
    """On a bare machine, `auto` does not start from scratch if the run in the mirror has finished; `true` continues."""
    training, mirror = mirrored(resume="auto"), CheckpointMirror(url)
    name = save_set(training.output_dir, 1)
    writer = EventWriter(events_path(training.output_dir))
    writer.write(Finished(epochs=1, step=1, best_epoch=1, best_top1=1, seconds=1, images_per_second=1))
    writer.close()
    mirror.upload(training.output_dir, name)
    with pytest.raises(ParameterError, match=r"training\.resume=true"):
        fetch_newer_sets(training, tmp_path / "bare")
    fetch_newer_sets(mirrored(resume=True), tmp_path / "bare")
    assert [path.name for path in checkpoint_paths(tmp_path / "bare")] == [name]


def test_the_newest_set_may_have_a_lower_step_number(mirrored, url: str, tmp_path: Path):
    """After a resume with more images per step, the sets with lower step numbers are kept and downloaded."""
    training, mirror = mirrored(resume=True, keep_checkpoints=1), CheckpointMirror(url)
    old = save_set(training.output_dir, 3, within=(350, 50, 100))
    mirror.upload(training.output_dir, old)
    shutil.copytree(training.output_dir, tmp_path / "old")
    with mirroring(training, training.output_dir) as notice:
        new = save_set(training.output_dir, 3, within=(180, 30, 50))
        notice(saved(new))
    assert mirror.names() == [new] == ["epoch-0003-step-0000000180"]
    for folder in (tmp_path / "bare", tmp_path / "old"):
        fetch_newer_sets(training, folder)
        assert checkpoint_paths(folder)[-1].name == new


def test_the_newest_sets_and_the_best_set_are_kept(mirrored, url: str, tmp_path: Path):
    """The mirror keeps as many sets as the training folder. A new machine downloads only the newest and best sets."""
    training = mirrored(resume=True, keep_checkpoints=2)
    with mirroring(training, training.output_dir) as notice:
        for epoch in range(1, 6):
            name = save_set(training.output_dir, epoch, best_epoch=1)
            notice(saved(name))
            wait_for(lambda name=name: CheckpointMirror(url).names()[-1:] == [name], seconds=30)
    assert CheckpointMirror(url).names() == ["epoch-0001", "epoch-0004", "epoch-0005"]
    fetch_newer_sets(training, tmp_path / "bare")
    assert [path.name for path in checkpoint_paths(tmp_path / "bare")] == ["epoch-0001", "epoch-0005"]
    assert events_path(tmp_path / "bare").read_bytes() == events_path(training.output_dir).read_bytes()


def test_training_survives_an_outage(mirrored, server, url: str, monkeypatch, caplog):
    """If the store does not respond, a warning is logged, and the next set is uploaded after the outage."""
    options = {"config_kwargs": {"connect_timeout": 1, "read_timeout": 1, "retries": {"max_attempts": 1}}}
    monkeypatch.setitem(store._OPTIONS, "s3", options)
    caplog.set_level(logging.INFO)
    training = mirrored()
    with mirroring(training, training.output_dir) as notice:
        server.pause()
        try:
            notice(saved(save_set(training.output_dir, 1)))
            wait_for(lambda: "training continues" in caplog.text, seconds=60)
        finally:
            server.proceed()
        notice(saved(save_set(training.output_dir, 2)))
        wait_for(lambda: "uploaded epoch-0002" in caplog.text, seconds=60)
    assert CheckpointMirror(url).names() == ["epoch-0002"]


def test_a_run_from_scratch_needs_an_unused_folder(mirrored, url: str):
    """The sets of two runs are never mixed."""
    training = mirrored()
    CheckpointMirror(url).upload(training.output_dir, save_set(training.output_dir, 1))
    with pytest.raises(ParameterError, match=r"contains the checkpoint sets of an earlier run \(newest: epoch-0001\)"):
        fetch_newer_sets(training, training.output_dir)


@pytest.mark.parametrize(
    ("place", "code"),
    [("s3://missing-bucket/run", 1), ("s3://training/run", RETRY_EXIT_CODE)],
    ids=["bucket", "server"],
)
def test_errors_at_the_start_tell_whether_to_repeat(mirrored, place: str, code: int, striped_dataset, monkeypatch):
    """A wrong setting ends the run with exit code 1. If the store does not respond, the run may be repeated."""
    if code == RETRY_EXIT_CODE:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    training = mirrored(checkpoint_mirror=place)
    process = start_training(training, striped_dataset)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == code, stderr
    assert f"error: {place}: " in stderr


def test_the_copy_lists_its_files(mirrored, server, url: str):
    """The list contains the digests of all files of the set and of the events, so that a download can be checked."""
    training = mirrored()
    name = save_set(training.output_dir, 1)
    CheckpointMirror(url).upload(training.output_dir, name)
    prefix = url.rpartition("/")[2]
    listed = json.loads(server.client.get_object(Bucket=BUCKET, Key=f"{prefix}/{name}/UPLOADED.json")["Body"].read())
    files = {f"{name}/{file}" for file in (*listed, "UPLOADED.json")}
    assert set(server.keys(prefix)) == files
    assert {"weights.safetensors", "state.json", "MANIFEST.json", "events.jsonl"} <= listed.keys()
