"""The registered model answers requests in `mlflow models serve`, and loads without the project installed."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import site
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ports import free_port

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def serving(model: Path, folder: Path) -> Iterator[str]:
    """Serve a model on a free port, in a folder without this project, and yield the URL for requests."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(model), "--env-manager", "local"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # MLflow starts uvicorn by name, which is on the PATH only if the environment is activated.
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 240
        while not answers(f"http://127.0.0.1:{port}/ping"):
            assert process.poll() is None, (folder / "serve.log").read_text()
            assert time.monotonic() < deadline, (folder / "serve.log").read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def ask(address: str, content: object) -> tuple[int, dict]:
    """Return the status and body of the response to a JSON request."""
    request = urllib.request.Request(
        address, json.dumps(content).encode(), headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_server_answers_requests(registered_folder, exported_model, tmp_path):
    """The server accepts several images and `top_k`. Each bad row has a status, and a bad table gets status 400."""
    texts = [base64.b64encode(image).decode() for image in exported_model.images]
    with serving(registered_folder, tmp_path) as address:
        status, one = ask(address, {"dataframe_split": {"columns": ["image"], "data": [[texts[0]]]}})
        assert status == 200
        best = np.argsort(-exported_model.probabilities[0])[:5]
        (row,) = one["predictions"]
        assert row["top_ids"] == best.tolist()
        assert row["top_names"] == [f"name {number}" for number in best]
        assert np.allclose(row["top_probabilities"], exported_model.probabilities[0][best], atol=1e-5)

        bad = ["*no base64*", base64.b64encode(b"<html>").decode(), texts[1][:400]]
        records = [{"image": text} for text in [*texts, *bad]] + [{"path": "/etc/hostname"}]
        status, many = ask(address, {"dataframe_records": records, "params": {"top_k": 2}})
        assert status == 200
        rows = many["predictions"]
        assert [row["status"] for row in rows] == [200] * len(texts) + [400, 415, 415, 403]
        assert rows[0]["top_ids"] == best[:2].tolist()
        assert all(row["error"] for row in rows[len(texts) :])

        status, by_column = ask(address, {"inputs": {"image": texts}, "params": {"top_k": 2}})
        assert status == 200
        assert by_column["predictions"] == many["predictions"][: len(texts)]
        status, refused = ask(address, {"dataframe_records": [{"picture": texts[0]}]})
        assert status == 400
        assert "error_code" in refused


def test_model_loads_without_the_project(registered_folder, exported_model, tmp_path):
    """If the project is not installed, the copy of the package in the model's folder is imported."""
    (tmp_path / "image.png").write_bytes(exported_model.images[0])
    program = (
        "import sys\n"
        "sys.path.append(sys.argv[1])\n"  # without processing .pth files, which would add this project
        "import importlib.util\n"
        "assert importlib.util.find_spec('resnet50_pipeline') is None\n"
        "import mlflow, pandas as pd\n"
        "model = mlflow.pyfunc.load_model(sys.argv[2])\n"
        "print(model.predict(pd.DataFrame({'path': [sys.argv[3]]}))['top_ids'][0][0])\n"
        "import resnet50_pipeline; print(resnet50_pipeline.__file__)\n"
    )
    command = [sys.executable, "-I", "-S", "-W", "ignore", "-c", program, site.getsitepackages()[0], registered_folder]
    done = subprocess.run(
        [*command, str(tmp_path / "image.png")], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    best, home = done.stdout.splitlines()[-2:]
    assert int(best) == int(exported_model.probabilities[0].argmax())
    assert home.startswith(str(registered_folder))
