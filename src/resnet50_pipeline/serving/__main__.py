"""Classifies image files: `python -m resnet50_pipeline.serving MODEL_DIR [--top-k K]`.

Paths come on standard input, one JSON text a line; for each of them standard output gets a line, as soon as its batch
is done:

    {"path": "a.jpg", "status": 200, "error": "", "predictions": [{"id": 3, "name": "three", …}]}
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import zlib  # noqa: F401 - before paddle 2.6.2, which exports zlib's symbols and crashes whoever loads it later
from collections.abc import Iterator
from pathlib import Path

from resnet50_pipeline.exceptions import PipelineError


def main() -> int:
    """Classify until standard input ends; return the exit code."""
    parser = argparse.ArgumentParser(prog="resnet50_pipeline.serving", description=__doc__)
    parser.add_argument("model_dir", type=Path, help="folder of an exported inference model")
    parser.add_argument("--top-k", type=int, help="classes of each image")
    options = parser.parse_args()
    # What Paddle prints must not come between the answers.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        try:
            for line in _classify(options.model_dir, options.top_k):
                print(line, file=answers, flush=True)
        except PipelineError as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            return error.exit_code
    return 0


def _classify(model_dir: Path, top_k: int | None) -> Iterator[str]:
    from resnet50_pipeline.serving.images import UnreadableImage, read_image_file
    from resnet50_pipeline.serving.predictor import MAX_BATCH, Prediction, Predictor

    predictor = Predictor(model_dir)
    paths = (json.loads(line) for line in sys.stdin)
    while batch := list(itertools.islice(paths, MAX_BATCH)):
        found = [read_image_file(path) for path in batch]
        answers = iter(predictor.predict([one for one in found if isinstance(one, bytes)], top_k))
        for path, one in zip(batch, found, strict=True):
            if isinstance(one, UnreadableImage):
                prediction = Prediction(error=one.message, status=one.status)
            else:
                prediction = next(answers)
            yield json.dumps(
                {
                    "path": path,
                    "status": prediction.status,
                    "error": prediction.error,
                    "predictions": [
                        {"id": class_id, "name": name, "synset": synset, "probability": probability}
                        for class_id, name, synset, probability in zip(
                            prediction.ids, prediction.names, prediction.synsets, prediction.probabilities, strict=True
                        )
                    ],
                },
                ensure_ascii=False,
            )


if __name__ == "__main__":
    sys.exit(main())
