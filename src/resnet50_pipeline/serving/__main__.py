"""Classifies image files: `python -m resnet50_pipeline.serving MODEL_DIR [--top-k K] [--features]`.

The program reads paths from standard input, one JSON string per line, and classifies the images in batches. For each
path, it writes one line to standard output:

    {"path": "a.jpg", "status": 200, "error": "", "predictions": [{"id": 3, "name": "three", …}]}

With `--features`, each line also contains the pooled features of the image as a list of numbers.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import zlib  # noqa: F401 - must precede paddle 2.6.2, which exports zlib's symbols and crashes later users of zlib
from collections.abc import Iterator
from pathlib import Path

from resnet50_pipeline.exceptions import PipelineError


def main() -> int:
    """Classify images until standard input ends, and return the exit code."""
    parser = argparse.ArgumentParser(prog="resnet50_pipeline.serving", description=__doc__)
    parser.add_argument("model_dir", type=Path, help="folder of the exported inference model")
    parser.add_argument("--top-k", type=int, help="number of classes per image")
    parser.add_argument("--features", action="store_true", help="also write the pooled features")
    options = parser.parse_args()
    # Paddle's libraries print to file descriptor 1. Redirect it to stderr and keep the original for the results.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as output:
        os.dup2(2, 1)
        try:
            for line in _classify(options.model_dir, options.top_k, with_features=options.features):
                print(line, file=output, flush=True)
        except PipelineError as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            return error.exit_code
    return 0


def _classify(model_dir: Path, top_k: int | None, *, with_features: bool) -> Iterator[str]:
    from resnet50_pipeline.serving.images import UnreadableImage, read_image_file
    from resnet50_pipeline.serving.predictor import MAX_BATCH, Prediction, Predictor

    predictor = Predictor(model_dir, with_features=with_features)
    paths = (json.loads(line) for line in sys.stdin)
    while batch := list(itertools.islice(paths, MAX_BATCH)):
        images = [read_image_file(path) for path in batch]
        predictions = iter(predictor.predict([image for image in images if isinstance(image, bytes)], top_k))
        for path, image in zip(batch, images, strict=True):
            if isinstance(image, UnreadableImage):
                prediction = Prediction(error=image.message, status=image.status)
            else:
                prediction = next(predictions)
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
                    **({"features": prediction.features} if with_features else {}),
                }
            )


if __name__ == "__main__":
    sys.exit(main())
