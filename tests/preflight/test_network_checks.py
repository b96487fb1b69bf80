"""Ports that are really taken, and a host name that leads elsewhere."""

from __future__ import annotations

import socket

from resnet50_pipeline.preflight.network import FIXED_PORT, check_network


def test_a_port_that_is_taken_is_named():
    """The launcher takes FLAGS_FIXED_PORT as it is, and the ranks would wait for ever."""
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))  # noqa: S104 - every address, as the ranks
        taken.listen()
        port = taken.getsockname()[1]
        name, ports = check_network(2, {FIXED_PORT: str(port)})
    assert name.status == "ok"
    assert (ports.status, ports.found) == ("blocking", f"in use: {port}")
    assert FIXED_PORT in ports.remedy
    _, after = check_network(2, {FIXED_PORT: str(port)})
    assert after.status == "ok"


def test_what_is_no_port_is_refused():
    """Neither words nor numbers beyond 65535 are ports."""
    for value in ("many", "0", "65535"):
        _, ports = check_network(2, {FIXED_PORT: value})
        assert ports.status == "blocking"


def test_one_rank_meets_nobody():
    """A single rank needs no port."""
    (finding,) = check_network(1, {FIXED_PORT: "many"})
    assert finding.status == "ok"


def test_a_host_name_that_leads_elsewhere_is_refused(monkeypatch):
    """A stale /etc/hosts gives the name an address of another machine (192.0.2.1 is nobody's: RFC 5737)."""
    monkeypatch.setattr(socket, "gethostbyname", lambda _name: "192.0.2.1")
    (finding,) = check_network(2, {})
    assert finding.status == "blocking"
    assert "192.0.2.1" in finding.found
    assert "/etc/hosts" in finding.remedy
