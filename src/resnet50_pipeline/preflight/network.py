"""Checks the host names, addresses and ports through which the ranks connect to each other."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Iterator, Mapping

from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.paddleclas.launch.command import find_gloo_interface
from resnet50_pipeline.paddleclas.launch.machines import resolve_master, try_to_bind
from resnet50_pipeline.parameters import LaunchParameters
from resnet50_pipeline.preflight.findings import Finding, judge

# Port of the first rank; the other ranks use the following ports. By default, the launcher picks free ports
# (launch/context/node.py).
FIXED_PORT = "FLAGS_FIXED_PORT"
_ETCD = "etcd://"
_CONNECT_SECONDS = 3.0


def check_network(launch: LaunchParameters, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Check that the ranks can connect to each other. If the address were wrong, the ranks would hang.

    Args:
        launch: the ranks on this machine and the other machines.
        environment: the ranks' environment variables.
    """
    ranks = len(launch.devices)
    if ranks == 1 and launch.is_one_machine:
        yield Finding("rendezvous", "ok", "1 rank", "nothing")
        return
    yield _check_own_address(launch)
    if FIXED_PORT in environment:
        yield _check_fixed_ports(environment[FIXED_PORT], ranks)
    if launch.master is not None and launch.master.startswith(_ETCD):
        yield from _check_etcd(launch.master.removeprefix(_ETCD))
    elif launch.machines > 1:
        yield _check_master(launch)


def _check_own_address(launch: LaunchParameters) -> Finding:
    """Check the result of the launcher's `get_host_ip`: the address of the full host name, or 127.0.0.1.

    On a single machine, the launcher ignores `training.launch.host`, which in this case only selects the network
    interface of the ranks.
    """
    name, needed = socket.gethostname(), "an address of this machine"
    address = None if launch.is_one_machine else launch.host
    remedy = f"map {name} to an address of this machine in /etc/hosts"
    if not launch.is_one_machine:
        remedy += ", or set training.launch.host"
    found = f"{name} is {address}"
    if address is None:
        try:
            address = socket.gethostbyname(socket.getfqdn(name))
            found = f"{name} is {address}"
        except OSError as error:
            reason = f"{name} cannot be resolved ({error.strerror})"
            if not launch.is_one_machine:
                return Finding("rendezvous", "blocking", reason, needed, remedy)
            address = "127.0.0.1"
            found = f"{reason}, so the ranks use {address}"
    if launch.device == "cpu" and launch.host is not None and find_gloo_interface(launch) is None:
        what = f"no network interface has the address {launch.host}"
        return Finding("rendezvous", "blocking", what, needed, "set training.launch.host to an address of this machine")
    problem = try_to_bind(address, 0) or _try_to_connect(address)
    return judge(
        problem is None,
        "blocking",
        "rendezvous",
        found=f"{found}, " + (f"no free port: {problem}" if problem else "free ports"),
        needed=needed,
        remedy=remedy,
    )


def _check_master(launch: LaunchParameters) -> Finding:
    """Check that the port is free on machine 0, or that the name of machine 0 resolves on the other machines."""
    needed = "a free port here" if launch.rank == 0 else "the address of machine 0"
    try:
        master = resolve_master(launch).master or ""
    except (ParameterError, OSError) as error:
        return Finding(
            "machine 0", "blocking", " ".join(str(error).split()), needed
        )  # the error includes the next step
    if launch.rank == 0:
        return Finding("machine 0", "ok", f"this machine; {master} is free", needed)
    host, _, port = master.rpartition(":")
    answers = _answers(host, int(port))
    return Finding("machine 0", "ok", f"{master} {'responds' if answers else 'does not respond yet'}", needed)


def _check_etcd(address: str) -> Iterator[Finding]:
    """Check the etcd server for elastic training, and its Python client, which Paddle imports but does not install."""
    host, _, port = address.rpartition(":")
    answers = _answers(host, int(port))
    yield judge(
        answers,
        "blocking",
        "etcd",
        found=f"{address} {'responds' if answers else 'does not respond'}",
        needed="an etcd server for elastic training",
        remedy="start the etcd server, or set training.launch.master",
    )
    has_client = importlib.util.find_spec("etcd3") is not None
    yield judge(
        has_client,
        "blocking",
        "etcd client",
        found=f"etcd3 is {'' if has_client else 'not '}installed",
        needed="the Python package etcd3",
        remedy="install etcd3 in .venv on every machine",
    )


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=_CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def _try_to_connect(address: str) -> str | None:
    """Return the reason why a program cannot connect to a port on this machine, or None if the connection succeeds.

    A rank that cannot reach another rank hangs. Binding a port is not a sufficient test, because it succeeds even if
    the interface is down.
    """
    try:
        with socket.create_server((address, 0)) as server:
            socket.create_connection(server.getsockname(), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        return f"cannot connect to this address ({error.strerror or error})"
    return None


def _check_fixed_ports(first: str, ranks: int) -> Finding:
    if not first.isdecimal() or not 0 < int(first) <= 65536 - ranks:
        return Finding("ports", "blocking", f"{FIXED_PORT}={first}", "a port number", f"correct or unset {FIXED_PORT}")
    ports = range(int(first), int(first) + ranks)
    taken = [port for port in ports if try_to_bind("", port)]
    return judge(
        not taken,
        "blocking",
        "ports",
        found=f"in use: {', '.join(map(str, taken))}" if taken else "free",
        needed=f"{ports[0]} to {ports[-1]} ({FIXED_PORT})",
        remedy=f"change {FIXED_PORT}, or unset the variable to use any free ports",
    )
