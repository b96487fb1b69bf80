"""Coordinates training on several machines: finds machine 0 and exchanges failure reports.

Machine 0 runs Kedro and owns the training folder. The other machines run `kedro join`, which only starts their ranks.
All machines share the file system. The other machines' files are outside the training folder, because machine 0 may
move or replace this folder:

06_models/training/               events, checkpoint sets and logs of machine 0
06_models/training.machines/
  machine-1/                      workerlog.<local rank> and launcher.log of machine 1
  machine-1.ended                 the error that ended machine 1, if it failed
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from resnet50_pipeline.exceptions import RETRY_EXIT_CODE, ParameterError, RankFailedError
from resnet50_pipeline.files import write_text
from resnet50_pipeline.paddleclas.launch.command import build_launch_command
from resnet50_pipeline.paddleclas.launch.output_dir import claim_output_dir
from resnet50_pipeline.paddleclas.launch.supervise import run_ranks
from resnet50_pipeline.parameters import LaunchParameters
from resnet50_pipeline.progress import DRAWN
from resnet50_pipeline.training_dir import config_path

logger = logging.getLogger(__name__)

FIRST_MACHINE = "machine-0"
_REPORT_SUFFIX = ".ended"
_REPORT_TIMEOUT_SECONDS = 6.0
_RETRY_EXIT_CODES = (RETRY_EXIT_CODE, 128 + signal.SIGTERM, 128 + signal.SIGHUP)
# Ends the report of an error that may not occur again.
_MAY_SUCCEED = "\n(repeating the run may succeed)"
_POLL_SECONDS = 0.5


def join_training(launch: LaunchParameters, training_dir: Path) -> None:
    """Run this machine's ranks until the training run on machine 0 has ended.

    Call this function on every machine except machine 0. The ranks wait for machine 0, and then read the configuration
    that machine 0 wrote to the shared folder. Only two of the settings in `launch` are used: this machine's number and
    its devices.

    Raises:
        ParameterError: if this is machine 0 or the only machine.
        OutputDirectoryInUseError: if another process is already running this machine's ranks.
        RankFailedError: if a rank failed or hung, on this or another machine.
        PipelineError: if a rank reported an error. The exception has the class of that error.
    """
    launch = resolve_master(launch)
    if not launch.is_elastic and (launch.machines == 1 or launch.rank == 0):
        raise ParameterError(
            "`kedro join` is only for machines 1, 2, … of a training run on several machines, but "
            f"training.launch.nnodes is {launch.nnodes} and training.launch.rank is {launch.rank}; set both, and run "
            "`kedro run` on machine 0"
        )
    logs = machine_dir(launch, training_dir)
    with claim_output_dir(logs), reporting_failures(launch, training_dir, logs.name) as check:
        command = build_launch_command(launch, logs, train_arguments(launch, training_dir))
        logger.info("starting %s", " ".join(command.arguments), extra=DRAWN)
        logger.info("waiting for machine 0 at %s", launch.master)
        run_ranks(
            command,
            training_dir,
            logs,
            launch.hang_timeout_seconds,
            ranks=launch.ranks,
            own_ranks=launch.own_ranks,
            watches_all=False,
            stop_grace_seconds=launch.stop_grace_seconds,
            check=check,
        )
    logger.info("training has ended; the results are on machine 0, in %s", training_dir)


def train_arguments(launch: LaunchParameters, training_dir: Path) -> list[str]:
    """Return the arguments for the trainer program, which are the same on every machine."""
    arguments = ["train", "--config", str(config_path(training_dir))]
    # If a machine joins or leaves, Paddle restarts the ranks with the same arguments.
    return [*arguments, "--resume-newest"] if launch.is_elastic else arguments


def machine_dir(launch: LaunchParameters, training_dir: Path) -> Path:
    """Return the log folder of a machine other than machine 0."""
    name = socket.gethostname() if launch.is_elastic else str(launch.rank)
    return _shared_dir(training_dir) / f"machine-{name}"


def resolve_master(launch: LaunchParameters) -> LaunchParameters:
    """Return the parameters with the host name in `master` replaced by an address.

    Paddle's launcher starts its server only if `master` is literally the machine's IP address. With a name, such as the
    name of a Kubernetes service, the launcher would wait forever. On machine 0, `master` and `host` are therefore set
    to an address of this machine.

    Raises:
        ParameterError: if the name cannot be resolved, or, on machine 0, if another program uses the port.
    """
    if launch.master is None or "://" in launch.master or launch.machines == 1:
        return launch
    name, _, port = launch.master.rpartition(":")
    try:
        address = socket.gethostbyname(name)
    except OSError as error:
        if launch.rank != 0 and launch.host is None:
            raise ParameterError(
                f"training.launch.master: the host name {name} cannot be resolved ({error.strerror}); set a name or "
                f"address that this machine can reach"
            ) from error
        address = ""
    if launch.rank != 0:
        # In tests, several launchers can run on the same machine. With an address, the first one to start would also
        # start the server, even if it is not the launcher of machine 0. With a name, Paddle assumes that the server
        # runs on another machine.
        host = "localhost" if _is_local(address) else address or name
        return launch.model_copy(update={"master": f"{host}:{port}"})
    host = launch.host or (address if _is_local(address) else socket.gethostbyname(socket.gethostname()))
    _require_free_port(int(port))
    return launch.model_copy(update={"master": f"{host}:{port}", "host": host})


@contextlib.contextmanager
def reporting_failures(
    launch: LaunchParameters, training_dir: Path, name: str = FIRST_MACHINE
) -> Iterator[Callable[[], None]]:
    """Exchange failure reports with the other machines while the block runs.

    Yields a function that raises RankFailedError if another machine has reported an error. An error in the block is
    reported to the other machines. Since it may be the consequence of an error elsewhere, the context manager waits a
    few seconds for the other machines' reports and adds them to the error. Elastic training continues without a failed
    machine, unless it is machine 0.

    Args:
        launch: number and ranks of the machines.
        training_dir: training folder, which all machines share.
        name: name of this machine in the reports.
    """
    if launch.is_one_machine:
        yield lambda: None
        return
    watched = "*" if not launch.is_elastic else FIRST_MACHINE if name != FIRST_MACHINE else None
    reports = _FailureReports(_shared_dir(training_dir), name, watched)
    try:
        yield reports.check
    except _OtherMachineError:
        raise
    except BaseException as error:
        may_succeed = getattr(error, "exit_code", None) in _RETRY_EXIT_CODES
        reports.write(f"{type(error).__name__}: {error}{_MAY_SUCCEED if may_succeed else ''}")
        if isinstance(error, RankFailedError) and (other_errors := reports.wait()):
            # If the other machines report a specific error, it is the cause. Otherwise, either error may be.
            is_cause = error.is_transient and "RankFailedError:" in other_errors
            raise RankFailedError(
                f"{error}\n{other_errors}", is_transient=is_cause or _MAY_SUCCEED in other_errors
            ) from error
        raise


class _OtherMachineError(RankFailedError):
    """The ranks of another machine have failed."""


class _FailureReports:
    """The machines' error reports, as files in the shared folder. Reports from earlier runs are ignored."""

    def __init__(self, folder: Path, name: str, watched: str | None) -> None:
        self._folder, self._own_report, self._watched = folder, folder / f"{name}{_REPORT_SUFFIX}", watched
        self._own_report.unlink(missing_ok=True)
        # Other machines delete their reports from earlier runs when they start, but they may start after this machine.
        self._earlier_reports = self._find_reports()

    def write(self, error: str) -> None:
        write_text(self._own_report, error + "\n")

    def check(self) -> None:
        if errors := self._read_new():
            raise _OtherMachineError(errors, is_transient=_MAY_SUCCEED in errors)

    def wait(self) -> str:
        deadline = time.monotonic() + (_REPORT_TIMEOUT_SECONDS if self._watched else 0)
        while not (errors := self._read_new()) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        return errors

    def _read_new(self) -> str:
        reports = sorted(self._find_reports().items())
        new = [path for path, mtime_ns in reports if self._earlier_reports.get(path) != mtime_ns]
        return "\n".join(f"{path.stem.replace('-', ' ')}: {path.read_text(encoding='utf-8').strip()}" for path in new)

    def _find_reports(self) -> dict[Path, int]:
        found = self._folder.glob(f"{self._watched}{_REPORT_SUFFIX}") if self._watched else ()
        return {path: path.stat().st_mtime_ns for path in found if path != self._own_report}


def _shared_dir(training_dir: Path) -> Path:
    return training_dir.with_name(f"{training_dir.name}.machines")


def _is_local(address: str) -> bool:
    if not address:
        return False
    addresses = {entry.address for entries in psutil.net_if_addrs().values() for entry in entries}
    return ipaddress.ip_address(address).is_loopback or address in addresses


def try_to_bind(address: str, port: int) -> str | None:
    """Return the error message if this process cannot listen on the port, or None if the port is free."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Servers set this option too. Without it, recently closed connections would block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return error.strerror or str(error)
    return None


def _require_free_port(port: int) -> None:
    if reason := try_to_bind("", port):
        raise ParameterError(
            f"training.launch.master: port {port} is in use{_port_owner(port)} ({reason}); "
            f"choose another port, and set it on every machine"
        )


def _port_owner(port: int) -> str:
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.pid:
                return f" by process {connection.pid} ({psutil.Process(connection.pid).name()})"
    return ""
