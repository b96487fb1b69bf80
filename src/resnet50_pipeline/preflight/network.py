"""Names, addresses and ports that the ranks meet at."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping

from resnet50_pipeline.preflight.findings import Finding, judge

# Names a port for each rank, the first given; otherwise the launcher takes free ones (launch/context/node.py).
FIXED_PORT = "FLAGS_FIXED_PORT"


def check_network(ranks: int, environment: Mapping[str, str]) -> Iterator[Finding]:
    """The launcher gives every rank an address of this host's name and a port; a name that leads elsewhere hangs them.

    Args:
        ranks: ranks of this machine.
        environment: that of the ranks.
    """
    if ranks == 1:
        yield Finding("rendezvous", "ok", "one rank", "none")
        return
    yield _check_host_name()
    if FIXED_PORT in environment:
        yield _check_fixed_ports(environment[FIXED_PORT], ranks)


def _check_host_name() -> Finding:
    """As `get_host_ip` of the launcher: the address of the host's full name, or 127.0.0.1 where there is none."""
    name = socket.gethostname()
    try:
        address = socket.gethostbyname(socket.getfqdn(name))
    except OSError:
        address = "127.0.0.1"
    problem = _try_to_bind(address, 0)
    return judge(
        problem is None,
        "blocking",
        "rendezvous",
        found=f"{name} is {address}" + (f", where no port can be had: {problem}" if problem else ", free ports"),
        needed="an address of this machine",
        remedy=f"give {name} an address of this machine in /etc/hosts",
    )


def _check_fixed_ports(first: str, ranks: int) -> Finding:
    if not first.isdecimal() or not 0 < int(first) <= 65536 - ranks:
        return Finding("ports", "blocking", f"{FIXED_PORT}={first}", "a port number", f"unset {FIXED_PORT}")
    ports = range(int(first), int(first) + ranks)
    taken = [port for port in ports if _try_to_bind("", port)]
    return judge(
        not taken,
        "blocking",
        "ports",
        found=f"in use: {', '.join(map(str, taken))}" if taken else "free",
        needed=f"{ports[0]} to {ports[-1]} ({FIXED_PORT})",
        remedy=f"set another {FIXED_PORT}, or leave it out: the launcher then takes free ones",
    )


def _try_to_bind(address: str, port: int) -> str | None:
    """Return why nobody could listen there, None where somebody could."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections that ended a minute ago do not keep a port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return error.strerror or str(error)
    return None
