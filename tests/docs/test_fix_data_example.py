"""The commands in docs/fix-data.md create images with wrong labels, and the fix list that corrects them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from resnet50_pipeline.imagenet.fixing import list_images, make_patch
from resnet50_pipeline.imagenet.lists.fixes import read_fixes
from resnet50_pipeline.imagenet.sample import write_sample
from resnet50_pipeline.parameters import DatasetParameters

PAGE = Path(__file__).parents[2] / "docs" / "fix-data.md"


def test_the_example_relabels_five_images(tmp_path: Path) -> None:
    """The commands run as printed after `make run`, and the fix list relabels the five images, as the page says."""
    write_sample(tmp_path / "data/sample/01_raw/digits", train_images_per_class=20, val_images_per_class=6)
    mark = f"<!-- run by: tests/docs/{Path(__file__).name}::test_the_example_relabels_five_images -->"
    page = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(rf"{re.escape(mark)}\n```sh\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        subprocess.run(["bash", "-euc", block], cwd=tmp_path, check=True)
    fixes = read_fixes(tmp_path / "findings.csv")
    images = list_images(tmp_path / "flipped", DatasetParameters(class_num=10))
    content, warnings = make_patch(images, fixes, source="findings.csv", by="Ada", reason="")
    assert (content.counts, warnings) == ({"relabel": 5}, [])
    assert "0001.json: 5 images relabeled" in page
