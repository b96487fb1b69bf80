"""A checkout of PaddleClas, and the command lines that run its programs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.paddleclas.launch import LaunchCommand, Program, build_launch_command
from resnet50_pipeline.parameters import LaunchParameters

HOME_VARIABLE = "PADDLECLAS_HOME"


@dataclass(frozen=True)
class PaddleClasCheckout:
    """The folder that holds `tools/` and `ppcls/`."""

    home: Path

    @classmethod
    def find(cls, home: Path | None) -> PaddleClasCheckout:
        """Return the checkout at `training.paddleclas_home`, or else at PADDLECLAS_HOME.

        Raises:
            ParameterError: neither is set, or no training engine of PaddleClas is there.
        """
        source = "training.paddleclas_home"
        if home is None:
            source, given = HOME_VARIABLE, os.environ.get(HOME_VARIABLE)
            if not given:
                raise ParameterError(
                    f"training.engine is paddleclas, which needs a checkout of PaddleClas (branch release/2.6): set "
                    f"training.paddleclas_home or {HOME_VARIABLE}; the paddleclas package on PyPI carries no training "
                    f"engine. Or set training.engine: native"
                )
            home = Path(given)
        checkout = cls(home.absolute())
        missing = [name for name in ("tools/train.py", "ppcls/engine/engine.py") if not (home / name).is_file()]
        if missing:
            raise ParameterError(
                f"{source} is {home}, and {' and '.join(missing)} is not there: it is no checkout of PaddleClas, or "
                f"not a whole one (`git clone -b release/2.6` of PaddlePaddle/PaddleClas)"
            )
        return checkout

    def command(self, tool: str, config: Path, launch: LaunchParameters, log_dir: Path) -> LaunchCommand:
        """Return `python -u -m paddle.distributed.launch … tools/<tool>.py -c <config>`, to be run in the checkout.

        No `-o`: upstream passes the values of overrides to `eval`, and takes a mistyped key with only a print.
        """
        program = Program(self.home / "tools" / f"{tool}.py", import_path=self.home, working_dir=self.home)
        arguments = ["-c", str(config.absolute())]
        return build_launch_command(launch, log_dir.absolute(), arguments, program=program)
