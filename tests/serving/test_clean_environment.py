"""The registered model works in a new environment with only the requirements that it lists."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive, pytest.mark.timeout(900)]

PROGRAM = """
import base64, json, pathlib, sys
import mlflow, pandas as pd

model = mlflow.pyfunc.load_model(sys.argv[1])
paths = sys.argv[2:]
images = [pathlib.Path(path).read_bytes() for path in paths]
tables = (
    pd.DataFrame({"image": images}),
    pd.DataFrame({"image": [base64.b64encode(image).decode() for image in images]}),
    pd.DataFrame({"path": paths}),
)
answers = [model.predict(table) for table in tables]
assert answers[0].equals(answers[1]) and answers[0].equals(answers[2])
assert model.predict(tables[0][:1]).loc[0, "top_ids"] == answers[0].loc[0, "top_ids"]
import resnet50_pipeline
print(json.dumps({"home": resnet50_pipeline.__file__, "rows": answers[0].to_dict("records")}))
"""


@pytest.fixture(scope="module")
def python(registered_folder: Path, tmp_path_factory) -> Path:
    """The interpreter of a new environment with the model's requirements. Skipped if pip cannot reach an index."""
    root = tmp_path_factory.mktemp("clean")
    subprocess.run([sys.executable, "-m", "venv", root / "venv"], check=True)
    interpreter: Path = root / "venv" / "bin" / "python"
    environment = clean_environment(root)
    pip = [interpreter, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    first = (registered_folder / "requirements.txt").read_text().split()[0]
    probe = [*pip, "download", "--quiet", "--no-deps", "--retries", "0", "--timeout", "10", "--dest", root, first]
    found = subprocess.run(probe, env=environment, capture_output=True, text=True, check=False)
    if found.returncode != 0:
        pytest.skip(f"pip cannot download {first}: {found.stderr.strip().splitlines()[-1]}")
    install = [*pip, "install", "--quiet", "--no-compile", "--requirement", registered_folder / "requirements.txt"]
    done = subprocess.run(install, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return interpreter


def clean_environment(home: Path) -> dict[str, str]:
    """Return environment variables that contain pip's index settings, but no settings of this environment's Python."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or "proxy" in name.lower()}
    return {**kept, "PATH": "/usr/bin:/bin", "HOME": str(home), "MLFLOW_DISABLE_TELEMETRY": "true"}


def test_model_needs_only_its_requirements(python: Path, registered_folder, exported_model, tmp_path):
    """Bytes, base64 and paths lead to the network's predictions, without this project or its environment."""
    paths = []
    for number, image in enumerate(exported_model.images):
        paths.append(tmp_path / f"{number:02}.img")
        paths[-1].write_bytes(image)
    done = subprocess.run(
        [python, "-W", "ignore", "-c", PROGRAM, registered_folder, *paths],
        cwd=tmp_path,
        env=clean_environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["home"].startswith(str(registered_folder))
    for row, expected in zip(found["rows"], exported_model.probabilities, strict=True):
        best = np.argsort(-expected, kind="stable")[:5]
        assert (row["status"], row["top_ids"]) == (200, best.tolist())
        np.testing.assert_allclose(row["top_probabilities"], expected[best], atol=1e-5)
