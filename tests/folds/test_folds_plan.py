"""`FoldsPlan.describe` contains exactly what affects the results of the folds."""

from __future__ import annotations

from pathlib import Path

import pytest

from resnet50_pipeline.folds.plan import FoldsPlan
from resnet50_pipeline.imagenet.lists.patches import PatchContent, read_patches, write_patch
from resnet50_pipeline.parameters import TrackingParameters


@pytest.fixture
def make_plan(tmp_path: Path, training_parameters):
    """Return a function that creates a plan with one fold and these training parameters."""
    for name in ("train_list.txt", "val_list.txt"):
        (tmp_path / name).write_text("a.png 0\n")

    def make(**changes: object) -> FoldsPlan:
        return FoldsPlan(
            lists=(tmp_path,),
            patches=tmp_path / "patches",
            folder=tmp_path / "folds",
            recipe=None,
            training=training_parameters(**changes),
            tracking=TrackingParameters.model_construct(),
            project_path=tmp_path,
            environment=None,
            conf_source=None,
            given={},
        )

    return make


def test_patches_belong_to_the_definition(make_plan, tmp_path: Path):
    """Each patch changes the definition. Without patches, the definition has no such key."""
    plan = make_plan()
    assert "patches" not in plan.describe()
    (tmp_path / "patches").mkdir()
    content = PatchContent(by="a", at="2026-11-30T10:00:00Z", reason="", source="fixes.csv", kept=0, rows=())
    write_patch(tmp_path / "patches", content)
    first = plan.describe()["patches"]
    write_patch(tmp_path / "patches", content)
    ids = [patch.id for patch in read_patches(tmp_path / "patches")]
    assert first == ids[0]
    assert plan.describe()["patches"] == ", ".join(ids)


def test_measurements_may_change_between_folds(make_plan):
    """Settings that do not affect the weights are not part of the definition; deterministic is, if it is set."""
    plain = make_plan().describe()
    assert make_plan(record_margins=True, update_ratios=True, profile_steps=(1, 2)).describe() == plain
    assert "training.deterministic" not in plain
    assert make_plan(deterministic=True).describe() == plain | {"training.deterministic": "True"}
    assert make_plan(epochs=9).describe()["training.epochs"] == "9"
