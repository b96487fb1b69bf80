"""Every operator gives, from the same random numbers, what PaddleClas' own gives, bit for bit."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet50_pipeline.imaging.operators import TransformOp
from upstream_operators import CASES, RESULTS, SEEDS, Draws, digest, given_picture, load_upstream, picture, run_upstream

DIGESTS: dict[str, str] = json.loads(RESULTS.read_text())


@pytest.mark.parametrize("case", CASES)
def test_results_are_upstreams(case: str):
    """What an operator makes of 64 pictures has the digests that PaddleClas' operator left."""
    name, arguments, _ = CASES[case]
    operator = TransformOp.model_validate({name: arguments}).operator
    found = [digest(operator.apply(given_picture(name, seed), random.Random(seed))) for seed in SEEDS]
    assert found == DIGESTS[case].split()
    assert TransformOp.model_validate(TransformOp(operator=operator).as_mapping()).operator == operator


@pytest.mark.skipif("PADDLECLAS_HOME" not in os.environ, reason="needs a checkout of PaddleClas release/2.6")
@pytest.mark.parametrize("case", CASES)
def test_digests_are_upstreams(case: str):
    """The checkout's operators leave the digests that are kept here."""
    load_upstream(Path(os.environ["PADDLECLAS_HOME"]))
    assert [digest(run_upstream(case, seed)) for seed in SEEDS] == DIGESTS[case].split()


def test_color_jitter_is_paddles(monkeypatch):
    """ColorJitter, which upstream takes from Paddle, gives what Paddle's gives."""
    transforms = pytest.importorskip("paddle.vision.transforms.transforms")
    arguments = {"brightness": 0.4, "contrast": 0.3, "saturation": 0.2, "hue": 0.1}
    operator = TransformOp.model_validate({"ColorJitter": arguments}).operator
    for seed in SEEDS:
        draw = random.Random(seed)
        draw.random()  # upstream's wrapper draws whether to change anything
        monkeypatch.setattr(transforms, "random", Draws(draw))
        expected = transforms.ColorJitter(**arguments)._apply_image(Image.fromarray(picture(seed)))
        np.testing.assert_array_equal(operator.apply(picture(seed), random.Random(seed)), np.asarray(expected))
