"""The label issues of folds are a fix list for the train and val lists."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from resnet50_pipeline.child_runs.run_file import label_map_path_of, predictions_path_of
from resnet50_pipeline.folds.results import write_out_of_fold_predictions
from resnet50_pipeline.imagenet.fixing import list_images
from resnet50_pipeline.imagenet.lists.fixes import read_fixes
from resnet50_pipeline.parameters import DatasetParameters


def test_label_issues_are_found_in_both_lists(digits: Path, tmp_path: Path):
    """Folds divide train and val images together, so the table does not claim that an image is in the train list."""
    images = list_images(digits, DatasetParameters(class_num=10))
    folders, wrong = [], set()
    for split, labels in images.found.items():
        table = pd.DataFrame({"path": list(labels), "label": list(labels.values())})
        table["top5_ids"] = [[(label + rank) % 10 for rank in range(5)] for label in table["label"]]
        table["top5_probabilities"] = [np.array([0.9, 0.05, 0.01, 0.01, 0.01])] * len(table)
        table["loss"] = -np.log(0.9)
        # The first image of each list has a wrong label.
        best, second, *others = table.at[0, "top5_ids"]
        table.at[0, "top5_ids"] = [second, best, *others]
        table.at[0, "loss"] = -np.log(0.05)
        wrong.add((split, table.at[0, "path"]))
        folders.append(tmp_path / split)
        path = predictions_path_of(folders[-1])
        path.parent.mkdir(parents=True)
        table.to_parquet(path)
    classes = [{"id": one.id, "synset": one.synset, "name": one.name} for one in images.classes]
    label_map = label_map_path_of(folders[0])
    label_map.parent.mkdir(parents=True)
    label_map.write_text(json.dumps({"class_num": 10, "classes": classes}))
    _, issues = write_out_of_fold_predictions(tmp_path, folders)
    fixes = read_fixes(issues)
    assert {images.find_image(fix.path, fix.split) for fix in fixes} == wrong
    assert {fix.split for fix in fixes} == {None}
