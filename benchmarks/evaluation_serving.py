"""Measures the latency of one image with `mlflow models serve`. Part of `evaluation.py`, without a target.

A ResNet50 for images of 224 x 224 pixels with random weights is exported, registered and served by one worker on this
machine. For comparison, a process without a server measures the network in Paddle Inference, the predictor with
decoding and preprocessing, and the pyfunc model with its DataFrame. /ping measures HTTP alone.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from evaluation_sample import CLASSES, run_with_paddle, transform_ops
from targets import Target

SIZE, REQUESTS = 224, 40


def measure(folder: Path) -> list[Target]:
    """Serve a model, measure its latency and print the share of each step."""
    from resnet50_pipeline.parameters import TrackingParameters
    from resnet50_pipeline.tracking.registry.versions import ModelFiles, register_model
    from resnet50_pipeline.tracking.runs import RunDescription, open_run

    here = run_with_paddle(Path(__file__), folder)
    tracking = TrackingParameters(uri="sqlite:///mlflow.db", experiment="latency", artifact_root=Path("artifacts"))
    run = open_run(RunDescription("latency", "latency", {}, {}), tracking, folder)
    version = register_model(run, ModelFiles(folder / "model"), name="latency", tags={}, metrics={})
    client, _ = run.connect()
    source = str(client.get_model_version("latency", str(version.version)).source)
    run.end("FINISHED")
    image = base64.b64encode((folder / "image.jpg").read_bytes()).decode()
    served = measure_server(
        source, folder, json.dumps({"dataframe_split": {"columns": ["image"], "data": [[image]]}}).encode()
    )
    print(
        "serving, median ms per image: "
        f"network {here['network']:.1f}; with decoding and preprocessing {here['predictor']:.1f}; with the table "
        f"{here['pyfunc']:.1f}; over HTTP {served['invocations']:.1f} (empty request {served['ping']:.1f}, "
        f"MLflow's JSON and schema check {served['invocations'] - served['ping'] - here['pyfunc']:.1f})"
    )
    return []


def measure_server(source: str, folder: Path, request: bytes) -> dict[str, float]:
    """Return the median latency of /ping and of `request` in milliseconds."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", source, "--env-manager", "local"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with (folder / "serve.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(server, port, folder / "serve.log")
        return {
            "ping": median_ms(lambda: send(port, "GET", "/ping")),
            "invocations": median_ms(lambda: send(port, "POST", "/invocations", request)),
        }
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def send(port: int, method: str, path: str, body: bytes | None = None) -> bytes:
    """Send one request on a new connection and return the body of the response."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise SystemExit(f"{path}: {response.status}: {content!r}")
    return content


def wait_for(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Return as soon as the server responds."""
    deadline = time.monotonic() + 240
    while True:
        try:
            send(port, "GET", "/ping")
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(log.read_text()) from None
            time.sleep(0.2)
        else:
            return


def measure_here(folder: Path) -> None:
    """Export a model and print its latencies without a server as JSON."""
    import cv2
    import numpy as np
    import paddle
    import pandas as pd
    import yaml

    from resnet50_pipeline.recipe.run import ArchConfig
    from resnet50_pipeline.serving.predictor import Predictor
    from resnet50_pipeline.serving.pyfunc import ImageClassifier
    from resnet50_pipeline.trainer.network import build_network

    model_dir = folder / "model"
    model_dir.mkdir()
    network = paddle.nn.Sequential(build_network(ArchConfig(name="ResNet50", class_num=CLASSES)), paddle.nn.Softmax())
    network.eval()
    spec = paddle.static.InputSpec([None, 3, SIZE, SIZE], "float32", name="x")
    paddle.jit.save(network, str(model_dir / "inference"), input_spec=[spec])
    settings = {"PreProcess": {"transform_ops": transform_ops(SIZE)}, "PostProcess": {"Topk": {"topk": 5}}}
    (model_dir / "inference.yml").write_text(yaml.safe_dump(settings))
    classes = [{"id": number, "synset": "", "name": str(number)} for number in range(CLASSES)]
    (model_dir / "label_map.json").write_text(json.dumps({"class_num": CLASSES, "classes": classes}))
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    encoded = cv2.imencode(".jpg", cv2.resize(noise, (500, 400), interpolation=cv2.INTER_CUBIC))[1].tobytes()
    (folder / "image.jpg").write_bytes(encoded)
    predictor = Predictor(model_dir)
    pixels = predictor._transform(encoded, None)[None]
    table = pd.DataFrame({"image": [encoded]})
    figures = {
        "network": median_ms(lambda: predictor._classify(pixels)),
        "predictor": median_ms(lambda: predictor.predict([encoded])),
        "pyfunc": median_ms(lambda: ImageClassifier(predictor).predict(table)),
    }
    print(json.dumps(figures), flush=True)


def median_ms(task: Callable[[], object]) -> float:
    """Return the median duration of `REQUESTS` calls in milliseconds, after three warm-up calls."""
    times = []
    for _ in range(REQUESTS + 3):
        started = time.perf_counter()
        task()
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times[3:])


if __name__ == "__main__":
    measure_here(Path(sys.argv[1]))
