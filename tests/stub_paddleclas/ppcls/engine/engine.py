"""A small training engine that behaves, logs, and saves like PaddleClas', with the wheel's networks.

The environment variable `STUB_FAILURE=<kind>@<epoch>` makes it fail: nan (the loss), crash (an exception), hang (after
a step), torn (killed while it saves the epoch), or quit (ends without an error). `STUB_LAYOUT=arch` saves to a folder
named after the network, as older releases do. `STUB_ACCURACY=0.5,0.2` sets the accuracies that it reports.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import time
import zlib  # noqa: F401 - must precede paddle 2.6.2, which exports zlib's symbols and crashes later users of zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import paddle
import paddle.nn.functional as F  # noqa: N812
import yaml

sys.path.append(importlib.util.find_spec("paddleclas").submodule_search_locations[0])
from ppcls.arch import build_model
from ppcls.utils import logger

# Keys of the native engine. Upstream ignores them silently; the stub fails.
_UNKNOWN = {"zero_init_residual", "batch_norm_momentum", "keep_checkpoints", "save_interval_steps", "freeze"}


class Engine:
    """One run of one of the programs train, eval and export."""

    def __init__(self, config_path: str, mode: str) -> None:
        self.config = yaml.safe_load(Path(config_path).read_text())
        unknown = _UNKNOWN & {*self.config["Global"], *self.config["Arch"]}
        assert not unknown, f"native keys: {unknown}"
        assert Path.cwd() == Path(__file__).parents[2], "not started in the checkout"
        self.settings = self.config["Global"]
        self.output_dir = Path(self.settings["output_dir"])
        self.output_dir.mkdir(parents=True, exist_ok=True)
        kind, _, epoch = os.environ.get("STUB_FAILURE", "").partition("@")
        self.failure = (kind, int(epoch or 0))
        logger.init_logger(log_file=str(self.output_dir / f"{mode}.log"))
        paddle.seed(self.settings["seed"])
        paddle.set_device(self.settings["device"])
        logger.info("train with paddle %s and device Place(%s)", paddle.__version__, self.settings["device"])
        arch = {key: value for key, value in self.config["Arch"].items() if key in ("name", "class_num", "pretrained")}
        self.model = build_model({"Arch": arch})
        if self.settings["pretrained_model"]:
            self.model.set_state_dict(paddle.load(self.settings["pretrained_model"]))
        self.val = self._load("Eval")
        if mode == "train":
            self.train_data = self._load("Train")
            self.lr = paddle.optimizer.lr.CosineAnnealingDecay(0.01, 1000)
            self.optimizer = paddle.optimizer.Momentum(self.lr, parameters=self.model.parameters())

    def train(self) -> None:
        """Train, evaluate and save every epoch."""
        best, first = -1.0, 1
        if self.settings["checkpoints"]:
            stem = self.settings["checkpoints"]
            self.optimizer.set_state_dict(paddle.load(f"{stem}.pdopt")[0])
            first = int(paddle.load(f"{stem}.pdstates")["epoch"]) + 1
            best = 0.0  # like upstream, which does not restore the best metric of the previous run
            self.model.set_state_dict(paddle.load(f"{stem}.pdparams"))
            logger.info("Finish load checkpoints from %s", stem)
        for epoch in range(first, self.settings["epochs"] + 1):
            self._train_epoch(epoch)
            accuracy = 0.0
            if epoch % self.settings["eval_interval"] == 0:
                accuracy = self.evaluate(epoch)
                best = max(best, accuracy)
                logger.info("[Eval][Epoch %d][best metric: %s]", epoch, best)
                if accuracy >= best:
                    self._save("best_model", accuracy, epoch)
            if epoch % self.settings["save_interval"] == 0:
                if self.failure == ("torn", epoch):
                    self._kill_while_saving(f"epoch_{epoch}")
                self._save(f"epoch_{epoch}", accuracy, epoch)
            self._save("latest", accuracy, epoch)
            if self.failure == ("quit", epoch):
                return

    def _train_epoch(self, epoch: int) -> None:
        self.model.train()
        images, labels = self.train_data
        size = self.config["DataLoader"]["Train"]["sampler"]["batch_size"]
        starts = range(0, len(images), size)
        seen, loss_sum, hits = 0, 0.0, 0.0
        for iteration, start in enumerate(starts):
            tic = time.perf_counter()
            batch, target = images[start : start + size], labels[start : start + size]
            logits = self.model(paddle.to_tensor(batch))
            loss = F.cross_entropy(logits, paddle.to_tensor(target).reshape([-1, 1]))
            loss.backward()
            self.optimizer.step()
            self.optimizer.clear_grad()
            self.lr.step()
            seen += len(batch)
            loss_sum += (float("nan") if self.failure == ("nan", epoch) else float(loss)) * len(batch)
            hits += float((logits.argmax(axis=-1).numpy() == target).sum())
            if iteration % self.settings["print_batch_step"] == 0:
                cost = time.perf_counter() - tic
                logger.info(
                    "[Train][Epoch %d/%d][Iter: %d/%d]lr(CosineAnnealingDecay): %.8f, top1: %.5f, CELoss: %.5f, "
                    "loss: %.5f, batch_cost: %.5fs, reader_cost: %.5f, ips: %.5f samples/s, eta: 0:00:00",
                    *(epoch, self.settings["epochs"], iteration, len(starts), self.lr.get_lr(), hits / seen),
                    *(loss_sum / seen, loss_sum / seen, cost, cost / 9, len(batch) / cost),
                )
            if self.failure == ("hang", epoch):
                time.sleep(600)
            if self.failure == ("crash", epoch):
                raise RuntimeError("the stub was asked to crash")
        logger.info(
            "[Train][Epoch %d/%d][Avg]top1: %.5f, CELoss: %.5f, loss: %.5f",
            *(epoch, self.settings["epochs"], hits / seen, loss_sum / seen, loss_sum / seen),
        )

    def evaluate(self, epoch: int) -> float:
        """Evaluate the val list in one batch."""
        self.model.eval()
        images, labels = self.val
        tic = time.perf_counter()
        with paddle.no_grad():
            logits = self.model(paddle.to_tensor(images))
            loss = float(F.cross_entropy(logits, paddle.to_tensor(labels).reshape([-1, 1])))
        top1 = float((logits.argmax(axis=-1).numpy() == labels).mean())
        accuracies = os.environ.get("STUB_ACCURACY")
        if accuracies:
            top1 = float(accuracies.split(",")[epoch - 1])
        cost = time.perf_counter() - tic
        line = "CELoss: %.5f, loss: %.5f, top1: %.5f, top3: 1.00000"
        logger.info(
            f"[Eval][Epoch %d][Iter: 0/1]{line}, batch_cost: %.5fs, reader_cost: 0.0s, ips: %.5f images/sec",
            *(epoch, loss, loss, top1, cost, len(images) / cost),
        )
        logger.info(f"[Eval][Epoch %d][Avg]{line}", epoch, loss, loss, top1)
        return top1

    def export(self) -> None:
        """Write the inference model."""
        model = paddle.nn.Sequential(self.model, paddle.nn.Softmax())
        model.eval()
        folder = Path(self.settings["save_inference_dir"])
        spec = paddle.static.InputSpec([None, *self.settings["image_shape"]], "float32", name="x")
        paddle.jit.save(model, str(folder / "inference"), input_spec=[spec])
        logger.info('Export succeeded! The inference model exported has been saved in "%s".', folder)

    def _load(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Return all images, float32 [N, 3, H, W], and labels, without augmentation."""
        dataset = self.config["DataLoader"][split]["dataset"]
        _, height, width = self.settings["image_shape"]
        images, labels = [], []
        for line in Path(dataset["cls_label_path"]).read_text().splitlines():
            path, label = line.split(" ")
            pixels = cv2.imread(str(Path(dataset["image_root"]) / path))
            if pixels is None:
                logger.error("Exception occured when parse line: %s with msg: no image", path)
                pixels = np.zeros((height, width, 3), dtype=np.uint8)  # upstream uses another image
            pixels = cv2.resize(pixels, (width, height))[:, :, ::-1].astype(np.float32) / 255
            pixels = (pixels - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
            images.append(pixels.transpose(2, 0, 1))
            labels.append(int(label))
        return np.stack(images), np.array(labels)

    def _stem(self, prefix: str) -> str:
        folder = self.output_dir
        if os.environ.get("STUB_LAYOUT") == "arch":
            folder = folder / self.config["Arch"]["name"]
            folder.mkdir(exist_ok=True)
        return str(folder / prefix)

    def _save(self, prefix: str, accuracy: float, epoch: int) -> None:
        stem = self._stem(prefix)
        state: dict[str, Any] = self.model.state_dict()
        paddle.save(state, f"{stem}.pdparams")
        if prefix == "best_model":
            paddle.save(state, f"{stem}/model.pdparams")
        paddle.save([self.optimizer.state_dict()], f"{stem}.pdopt")
        paddle.save({"metric": accuracy, "epoch": epoch}, f"{stem}.pdstates")
        logger.info("Already save model in %s", stem)

    def _kill_while_saving(self, prefix: str) -> None:
        """Save the epoch with truncated weights, then kill this process."""
        paddle.save({"metric": 0.0, "epoch": int(prefix.split("_")[1])}, f"{self._stem(prefix)}.pdstates")
        paddle.save([self.optimizer.state_dict()], f"{self._stem(prefix)}.pdopt")
        paddle.save(self.model.state_dict(), f"{self._stem(prefix)}.pdparams")
        with Path(f"{self._stem(prefix)}.pdparams").open("r+b") as file:
            file.truncate(1000)
        os.kill(os.getpid(), signal.SIGKILL)
