"""Every operator matches PaddleClas' operator bit for bit, given the same random numbers."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet50_pipeline.imaging.operators import TransformOp
from upstream_operators import (
    CASES,
    RESULTS,
    SEEDS,
    Draws,
    digest,
    given_picture,
    load_upstream,
    picture,
    run_upstream,
    same_pixels_on_every_cpu,
)

DIGESTS: dict[str, str] = json.loads(RESULTS.read_text())


@pytest.fixture(autouse=True)
def _same_pixels_on_every_cpu() -> Iterator[None]:
    with same_pixels_on_every_cpu():
        yield


@pytest.mark.parametrize("case", CASES)
def test_results_match_upstream(case: str):
    """The results for 64 images match the stored digests of PaddleClas' operator."""
    name, arguments, _ = CASES[case]
    operator = TransformOp.model_validate({name: arguments}).operator
    found = [digest(operator.apply(given_picture(name, seed), random.Random(seed))) for seed in SEEDS]
    assert found == DIGESTS[case].split()
    assert TransformOp.model_validate(TransformOp(operator=operator).as_mapping()).operator == operator


@pytest.mark.skipif("PADDLECLAS_HOME" not in os.environ, reason="needs a checkout of PaddleClas release/2.6")
@pytest.mark.parametrize("case", CASES)
def test_stored_digests_are_current(case: str):
    """The operators of the checkout produce the stored digests."""
    load_upstream(Path(os.environ["PADDLECLAS_HOME"]))
    assert [digest(run_upstream(case, seed)) for seed in SEEDS] == DIGESTS[case].split()


def test_color_jitter_matches_paddle(monkeypatch):
    """The result matches Paddle's ColorJitter, which upstream's operator wraps."""
    transforms = pytest.importorskip("paddle.vision.transforms.transforms")
    arguments = {"brightness": 0.4, "contrast": 0.3, "saturation": 0.2, "hue": 0.1}
    operator = TransformOp.model_validate({"ColorJitter": arguments}).operator
    for seed in SEEDS:
        draw = random.Random(seed)
        draw.random()  # upstream's wrapper draws whether to change anything
        monkeypatch.setattr(transforms, "random", Draws(draw))
        expected = transforms.ColorJitter(**arguments)._apply_image(Image.fromarray(picture(seed)))
        np.testing.assert_array_equal(operator.apply(picture(seed), random.Random(seed)), np.asarray(expected))
