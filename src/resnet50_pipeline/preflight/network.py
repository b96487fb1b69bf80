"""Names, addresses and ports that the ranks meet at."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Iterator, Mapping

from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.paddleclas.machines import meeting_place, try_to_bind
from resnet50_pipeline.parameters import LaunchParameters
from resnet50_pipeline.preflight.findings import Finding, judge

# Names a port for each rank, the first given; otherwise the launcher takes free ones (launch/context/node.py).
FIXED_PORT = "FLAGS_FIXED_PORT"
_ETCD = "etcd://"
_CONNECT_SECONDS = 3.0


def check_network(launch: LaunchParameters, environment: Mapping[str, str]) -> Iterator[Finding]:
    """The launcher gives every rank an address of this host and a port; a name that leads elsewhere hangs them.

    Args:
        launch: the ranks, here and on other machines.
        environment: that of the ranks.
    """
    ranks = len(launch.devices)
    if ranks == 1 and launch.machines == 1 and not launch.is_elastic:
        yield Finding("rendezvous", "ok", "one rank", "none")
        return
    yield _check_own_address(launch.host)
    if FIXED_PORT in environment:
        yield _check_fixed_ports(environment[FIXED_PORT], ranks)
    if launch.master is not None and launch.master.startswith(_ETCD):
        yield from _check_etcd(launch.master.removeprefix(_ETCD))
    elif launch.machines > 1:
        yield _check_master(launch)


def _check_own_address(host: str | None) -> Finding:
    """As `get_host_ip` of the launcher: the address of the host's full name, or 127.0.0.1 where there is none."""
    name, address = socket.gethostname(), host
    if address is None:
        try:
            address = socket.gethostbyname(socket.getfqdn(name))
        except OSError:
            address = "127.0.0.1"
    problem = try_to_bind(address, 0)
    return judge(
        problem is None,
        "blocking",
        "rendezvous",
        found=f"{name} is {address}" + (f", where no port can be had: {problem}" if problem else ", free ports"),
        needed="an address of this machine",
        remedy=f"give {name} an address of this machine in /etc/hosts, or set training.launch.host",
    )


def _check_master(launch: LaunchParameters) -> Finding:
    """Machine 0 opens the port and needs it free; the others need its name to lead somewhere."""
    needed = "a free port here" if launch.rank == 0 else "the address of machine 0"
    try:
        master = meeting_place(launch).master or ""
    except (ParameterError, OSError) as error:
        return Finding("machine 0", "blocking", " ".join(str(error).split()), needed)  # it says what to do
    if launch.rank == 0:
        return Finding("machine 0", "ok", f"this one; {master} is free", needed)
    host, _, port = master.rpartition(":")
    answers = _answers(host, int(port))
    return Finding("machine 0", "ok", f"{master} {'answers' if answers else 'does not listen yet'}", needed)


def _check_etcd(address: str) -> Iterator[Finding]:
    """Elastic training meets at an etcd that is there already, through a Python package that Paddle does not bring."""
    host, _, port = address.rpartition(":")
    answers = _answers(host, int(port))
    yield judge(
        answers,
        "blocking",
        "etcd",
        found=f"{address} {'answers' if answers else 'does not answer'}",
        needed="an etcd for elastic training",
        remedy="start it, or set training.launch.master",
    )
    has_client = importlib.util.find_spec("etcd3") is not None
    yield judge(
        has_client,
        "blocking",
        "etcd client",
        found=f"etcd3 is {'' if has_client else 'not '}installed",
        needed="the Python package etcd3",
        remedy="install etcd3 into .venv of every machine; Paddle's launcher imports it",
    )


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=_CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def _check_fixed_ports(first: str, ranks: int) -> Finding:
    if not first.isdecimal() or not 0 < int(first) <= 65536 - ranks:
        return Finding("ports", "blocking", f"{FIXED_PORT}={first}", "a port number", f"unset {FIXED_PORT}")
    ports = range(int(first), int(first) + ranks)
    taken = [port for port in ports if try_to_bind("", port)]
    return judge(
        not taken,
        "blocking",
        "ports",
        found=f"in use: {', '.join(map(str, taken))}" if taken else "free",
        needed=f"{ports[0]} to {ports[-1]} ({FIXED_PORT})",
        remedy=f"set another {FIXED_PORT}, or leave it out: the launcher then takes free ones",
    )
