"""Ports that are really taken, and a host name that leads elsewhere."""

from __future__ import annotations

import socket
from typing import Any

from resnet50_pipeline.parameters import LaunchParameters
from resnet50_pipeline.preflight.network import FIXED_PORT, check_network


def launch(**changes: Any) -> LaunchParameters:
    return LaunchParameters(**{"device": "cpu", "devices": (0, 1), **changes})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def test_a_port_that_is_taken_is_named():
    """The launcher takes FLAGS_FIXED_PORT as it is, and the ranks would wait for ever."""
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))  # noqa: S104 - every address, as the ranks
        taken.listen()
        port = taken.getsockname()[1]
        name, ports = check_network(launch(), {FIXED_PORT: str(port)})
    assert name.status == "ok"
    assert (ports.status, ports.found) == ("blocking", f"in use: {port}")
    assert FIXED_PORT in ports.remedy
    _, after = check_network(launch(), {FIXED_PORT: str(port)})
    assert after.status == "ok"


def test_what_is_no_port_is_refused():
    """Neither words nor numbers beyond 65535 are ports."""
    for value in ("many", "0", "65535"):
        _, ports = check_network(launch(), {FIXED_PORT: value})
        assert ports.status == "blocking"


def test_one_rank_meets_nobody():
    """A single rank needs no port."""
    (finding,) = check_network(launch(devices=(0,)), {FIXED_PORT: "many"})
    assert finding.status == "ok"


def test_a_host_name_that_leads_elsewhere_is_refused(monkeypatch):
    """A stale /etc/hosts gives the name an address of another machine (192.0.2.1 is nobody's: RFC 5737)."""
    monkeypatch.setattr(socket, "gethostbyname", lambda _name: "192.0.2.1")
    (finding,) = check_network(launch(), {})
    assert finding.status == "blocking"
    assert "192.0.2.1" in finding.found
    assert "/etc/hosts" in finding.remedy


def test_machine_0_needs_its_port_free():
    """What listens there is named before the other machines wait for it."""
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        *_, master = check_network(launch(nnodes=2, master=f"127.0.0.1:{port}"), {})
        assert master.status == "blocking"
        assert f"port {port} is in use" in master.found
    *_, master = check_network(launch(nnodes=2, master=f"127.0.0.1:{port}"), {})
    assert (master.status, master.found) == ("ok", f"this one; 127.0.0.1:{port} is free")


def test_the_other_machines_need_a_name_that_leads_somewhere():
    """Machine 0 may start later; a name that nobody knows will not get better (RFC 2606 keeps .invalid free)."""
    *_, master = check_network(launch(nnodes=2, rank=1, master=f"127.0.0.1:{free_port()}"), {})
    assert master.status == "ok"
    assert master.found.endswith("does not listen yet")
    *_, master = check_network(launch(nnodes=2, rank=1, master="nobody.invalid:1234"), {})
    assert master.status == "blocking"
    assert "cannot be resolved" in master.found


def test_a_host_of_another_machine_is_refused():
    """training.launch.host must be an address of this machine."""
    own, _ = check_network(launch(nnodes=2, master=f"127.0.0.1:{free_port()}", host="192.0.2.1"), {})
    assert (own.status, own.check) == ("blocking", "rendezvous")
    assert "training.launch.host" in own.remedy


def test_elastic_training_needs_its_etcd():
    """Neither the server nor Paddle's unnamed dependency is missed only by the launcher."""
    *_, etcd, client = check_network(launch(nnodes="1:2", master=f"etcd://127.0.0.1:{free_port()}"), {})
    assert (etcd.status, etcd.check) == ("blocking", "etcd")
    assert client.check == "etcd client"
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        *_, etcd, _ = check_network(launch(nnodes="1:2", master=f"etcd://127.0.0.1:{server.getsockname()[1]}"), {})
    assert etcd.status == "ok"
