"""Several machines at one training: where they meet, and what each tells the others of its end.

Machine 0 runs Kedro and owns `training.output_dir`; the others run `kedro join`, which starts nothing but their ranks.
All see the same files. What belongs to one machine lies beside the folder that machine 0 moves aside or replaces:

06_models/training/               events, checkpoint sets and the logs of machine 0
06_models/training.machines/
  machine-1/                      workerlog.<local rank> and launcher.log of machine 1
  machine-1.ended                 why its ranks ended, where they did not end well
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from resnet50_pipeline.exceptions import ParameterError, RankFailedError
from resnet50_pipeline.files import write_text
from resnet50_pipeline.paddleclas.launch import build_launch_command
from resnet50_pipeline.paddleclas.output_dir import claim_output_dir
from resnet50_pipeline.paddleclas.supervise import run_ranks
from resnet50_pipeline.parameters import LaunchParameters, TrainingParameters
from resnet50_pipeline.progress import DRAWN
from resnet50_pipeline.training_dir import config_path

logger = logging.getLogger(__name__)

FIRST_MACHINE = "machine-0"
_NEWS = ".ended"
_NEWS_SECONDS = 6.0
_LOOK_SECONDS = 0.5


def join_training(training: TrainingParameters) -> None:
    """Run the ranks of this machine, which is not machine 0, until the training that machine 0 started has ended.

    Waits for machine 0, and reads everything but the number of this machine and its devices from the configuration
    that lies in the shared folder by then.

    Raises:
        ParameterError: this is machine 0, or the only one.
        OutputDirectoryInUseError: another process runs the ranks of this machine.
        RankFailedError: a rank failed or hung, here or on another machine.
        PipelineError: the error that a rank itself reported.
    """
    launch = meeting_place(training.launch)
    if not launch.is_elastic and (launch.machines == 1 or launch.rank == 0):
        raise ParameterError(
            f"`kedro join` is for machines 1, 2, … of a training on several: training.launch.nnodes is "
            f"{launch.nnodes} and rank {launch.rank}; set both, and on machine 0 run `kedro run`"
        )
    logs = machine_dir(training)
    with claim_output_dir(logs), sharing_news(training, logs.name) as check:
        command = build_launch_command(launch, logs, train_arguments(training))
        logger.info("starting %s", " ".join(command.arguments), extra=DRAWN)
        logger.info("waiting for machine 0 at %s", launch.master)
        run_ranks(
            command,
            training.output_dir,
            logs,
            launch.hang_timeout_seconds,
            ranks=launch.ranks,
            own_ranks=launch.own_ranks,
            watches_all=False,
            stop_grace_seconds=launch.stop_grace_seconds,
            check=check,
        )
    logger.info("the training has ended; its results are on machine 0, in %s", training.output_dir)


def train_arguments(training: TrainingParameters) -> list[str]:
    """Return the trainer program's arguments, the same on every machine."""
    arguments = ["train", "--config", str(config_path(training.output_dir))]
    # Paddle starts the ranks again with the same arguments when a machine has come or gone.
    return [*arguments, "--go-on"] if training.launch.is_elastic else arguments


def machine_dir(training: TrainingParameters) -> Path:
    """Return the folder of this machine's logs, for a machine that is not machine 0."""
    launch = training.launch
    name = socket.gethostname() if launch.is_elastic else str(launch.rank)
    return _shared_dir(training) / f"machine-{name}"


def meeting_place(launch: LaunchParameters) -> LaunchParameters:
    """Return the same with `master` as Paddle understands it: an address, and on machine 0 this machine's own.

    Paddle's launcher starts the server only where `master` is the very text of the address that it finds for its own
    host name, and waits without an end where it is a name, as that of a Kubernetes service.

    Raises:
        ParameterError: the name cannot be resolved; or, on machine 0, another program listens on the port.
    """
    if launch.master is None or "://" in launch.master or launch.machines == 1:
        return launch
    name, _, port = launch.master.rpartition(":")
    try:
        address = socket.gethostbyname(name)
    except OSError as error:
        if launch.rank != 0 and launch.host is None:
            raise ParameterError(f"training.launch.master: {name} cannot be resolved: {error.strerror}") from error
        address = ""
    if launch.rank != 0:
        # Were it this machine's own address, as in a trial of two programs on one, the launcher that comes first would
        # serve, whichever it is; a name it takes for another machine's.
        where = "localhost" if _is_own(address) else address or name
        return launch.model_copy(update={"master": f"{where}:{port}"})
    host = launch.host or (address if _is_own(address) else socket.gethostbyname(socket.gethostname()))
    _require_free_port(int(port))
    return launch.model_copy(update={"master": f"{host}:{port}", "host": host})


@contextlib.contextmanager
def sharing_news(training: TrainingParameters, name: str = FIRST_MACHINE) -> Iterator[Callable[[], None]]:
    """Tell the other machines how the block ended, where badly; give a function that raises what they have told.

    An error here may be the mere effect of what happened there: so it waits for their news a little, and adds them.
    Elastic training goes on without a machine, unless it is the one with Kedro.

    Args:
        training: names the folder that the machines share.
        name: of this machine, for the others.
    """
    launch = training.launch
    if launch.machines == 1 and not launch.is_elastic:
        yield lambda: None
        return
    heard = "*" if not launch.is_elastic else FIRST_MACHINE if name != FIRST_MACHINE else None
    news = _News(_shared_dir(training), name, heard)
    try:
        yield news.check
    except _OtherMachineError:
        raise
    except BaseException as error:
        news.tell(f"{type(error).__name__}: {error}")
        if isinstance(error, RankFailedError) and (elsewhere := news.wait()):
            raise RankFailedError(f"{error}\n{elsewhere}") from error
        raise


class _OtherMachineError(RankFailedError):
    """Another machine's ranks have ended."""


class _News:
    """The files in which the machines tell one another; those from before this run are passed over."""

    def __init__(self, folder: Path, name: str, heard: str | None) -> None:
        self._folder, self._own, self._heard = folder, folder / f"{name}{_NEWS}", heard
        self._own.unlink(missing_ok=True)
        self._old = self._files()

    def tell(self, what: str) -> None:
        write_text(self._own, what + "\n")

    def check(self) -> None:
        if told := self._told():
            raise _OtherMachineError(told)

    def wait(self) -> str:
        deadline = time.monotonic() + (_NEWS_SECONDS if self._heard else 0)
        while not (told := self._told()) and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        return told

    def _told(self) -> str:
        new = [path for path, written in sorted(self._files().items()) if self._old.get(path) != written]
        return "\n".join(f"{path.stem.replace('-', ' ')}: {path.read_text(encoding='utf-8').strip()}" for path in new)

    def _files(self) -> dict[Path, int]:
        found = self._folder.glob(f"{self._heard}{_NEWS}") if self._heard else ()
        return {path: path.stat().st_mtime_ns for path in found if path != self._own}


def _shared_dir(training: TrainingParameters) -> Path:
    return training.output_dir.with_name(f"{training.output_dir.name}.machines")


def _is_own(address: str) -> bool:
    if not address:
        return False
    addresses = {entry.address for entries in psutil.net_if_addrs().values() for entry in entries}
    return ipaddress.ip_address(address).is_loopback or address in addresses


def try_to_bind(address: str, port: int) -> str | None:
    """Return why nobody could listen there, None where somebody could."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections that ended a minute ago do not keep a port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return error.strerror or str(error)
    return None


def _require_free_port(port: int) -> None:
    if reason := try_to_bind("", port):
        raise ParameterError(
            f"training.launch.master: port {port} is in use{_holder(port)} ({reason}); "
            f"name another one, the same on every machine"
        )


def _holder(port: int) -> str:
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.pid:
                return f" by process {connection.pid} ({psutil.Process(connection.pid).name()})"
    return ""
