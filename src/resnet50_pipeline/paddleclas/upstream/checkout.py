"""Finds a checkout of PaddleClas and builds the command that trains with it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.paddleclas.launch.command import LaunchCommand, Program, build_launch_command
from resnet50_pipeline.parameters import LaunchParameters

HOME_VARIABLE = "PADDLECLAS_HOME"


@dataclass(frozen=True)
class PaddleClasCheckout:
    """A checkout of PaddleClas. `home` is the folder that contains `tools/` and `ppcls/`."""

    home: Path

    @classmethod
    def find(cls, home: Path | None) -> PaddleClasCheckout:
        """Return the checkout in `home` (`training.paddleclas_home`) or, if `home` is None, in PADDLECLAS_HOME.

        Raises:
            ParameterError: if neither is set, or if the folder does not contain PaddleClas' training engine.
        """
        source = "training.paddleclas_home"
        if home is None:
            source, given = HOME_VARIABLE, os.environ.get(HOME_VARIABLE)
            if not given:
                raise ParameterError(
                    "training.engine is paddleclas, which needs a checkout of PaddleClas (branch release/2.6), because "
                    "the PyPI package does not include the training engine; set training.paddleclas_home or "
                    f"{HOME_VARIABLE}, or set training.engine: native"
                )
            home = Path(given)
        checkout = cls(home.absolute())
        missing = [name for name in ("tools/train.py", "ppcls/engine/engine.py") if not (home / name).is_file()]
        if missing:
            raise ParameterError(
                f"{source}: {home} is not a complete checkout of PaddleClas, because it does not contain "
                f"{' and '.join(missing)}; clone PaddlePaddle/PaddleClas with `git clone -b release/2.6`"
            )
        return checkout

    def train_command(self, config: Path, launch: LaunchParameters, log_dir: Path) -> LaunchCommand:
        """Return the command `python -u -m paddle.distributed.launch … tools/train.py -c <config>`.

        The command runs in the checkout's folder. The command has no `-o` overrides, because upstream passes the values
        of overrides to `eval` and accepts mistyped keys.
        """
        program = Program(self.home / "tools" / "train.py", import_path=self.home, working_dir=self.home)
        arguments = ["-c", str(config.absolute())]
        return build_launch_command(launch, log_dir.absolute(), arguments, program=program)
