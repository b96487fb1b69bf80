"""Tests the checks of host names and ports with ports that are really in use."""

from __future__ import annotations

import socket
from typing import Any

from ports import free_port
from resnet50_pipeline.parameters import LaunchParameters
from resnet50_pipeline.preflight.network import FIXED_PORT, check_network


def launch(**changes: Any) -> LaunchParameters:
    return LaunchParameters(**{"device": "cpu", "devices": (0, 1), **changes})


def test_a_fixed_port_in_use_blocks():
    """The launcher does not check FLAGS_FIXED_PORT, so the ranks would wait forever."""
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))  # noqa: S104 - all addresses, like the ranks
        taken.listen()
        port = taken.getsockname()[1]
        name, ports = check_network(launch(), {FIXED_PORT: str(port)})
    assert name.status == "ok"
    assert ports.status == "blocking"
    assert str(port) in ports.found
    assert FIXED_PORT in ports.remedy
    _, after = check_network(launch(), {FIXED_PORT: str(port)})
    assert after.status == "ok"


def test_an_invalid_fixed_port_blocks():
    """Words, 0, and a port that leaves no room for the next rank below 65536 are invalid."""
    for value in ("many", "0", "65535"):
        _, ports = check_network(launch(), {FIXED_PORT: value})
        assert ports.status == "blocking"


def test_one_rank_needs_no_network():
    """The ports are not checked for a single rank."""
    (finding,) = check_network(launch(devices=(0,)), {FIXED_PORT: "many"})
    assert finding.status == "ok"


def test_a_host_name_with_a_foreign_address_blocks(monkeypatch):
    """A stale /etc/hosts that maps the name to another machine blocks (RFC 5737 reserves 192.0.2.1)."""
    monkeypatch.setattr(socket, "gethostbyname", lambda _name: "192.0.2.1")
    (finding,) = check_network(launch(), {})
    assert finding.status == "blocking"
    assert "192.0.2.1" in finding.found
    assert "/etc/hosts" in finding.remedy


def test_an_address_that_cannot_be_reached_blocks(monkeypatch):
    """Binding to an address works even if its interface is down, so the check also connects to it."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", fail)
    found = list(check_network(launch(devices=[0, 1], host="127.0.0.1"), {}))
    assert [(one.check, one.status) for one in found] == [("rendezvous", "blocking")]


def test_machine_0_needs_a_free_port():
    """If the port is in use, machine 0 is blocked before the other machines wait for it."""
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        *_, master = check_network(launch(nnodes=2, master=f"127.0.0.1:{port}"), {})
        assert master.status == "blocking"
        assert str(port) in master.found
    *_, master = check_network(launch(nnodes=2, master=f"127.0.0.1:{port}"), {})
    assert master.status == "ok"
    assert str(port) in master.found


def test_the_other_machines_need_a_name_that_resolves():
    """Machine 0 may start later, but an unknown name blocks (RFC 2606 reserves .invalid)."""
    port = free_port()
    *_, master = check_network(launch(nnodes=2, rank=1, master=f"127.0.0.1:{port}"), {})
    assert master.status == "ok"
    assert str(port) in master.found
    *_, master = check_network(launch(nnodes=2, rank=1, master="unknown.invalid:1234"), {})
    assert master.status == "blocking"
    assert "unknown.invalid" in master.found


def test_the_host_must_be_this_machine():
    """`training.launch.host` with the address of another machine is a blocking finding."""
    own, _ = check_network(launch(nnodes=2, master=f"127.0.0.1:{free_port()}", host="192.0.2.1"), {})
    assert (own.status, own.check) == ("blocking", "rendezvous")
    assert "training.launch.host" in own.remedy


def test_elastic_training_needs_etcd():
    """The etcd server and the Python client are checked before the launcher needs them."""
    *_, etcd, client = check_network(launch(nnodes="1:2", master=f"etcd://127.0.0.1:{free_port()}"), {})
    assert (etcd.status, etcd.check) == ("blocking", "etcd")
    assert client.check == "etcd client"
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        *_, etcd, _ = check_network(launch(nnodes="1:2", master=f"etcd://127.0.0.1:{server.getsockname()[1]}"), {})
    assert etcd.status == "ok"


def test_a_host_name_that_nothing_resolves(monkeypatch):
    """One machine uses its loopback address. Several machines need an address that the others can reach."""

    def fail(_name: str) -> str:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "gethostbyname", fail)
    (alone,) = check_network(launch(), {})
    assert alone.status == "ok"
    assert "127.0.0.1" in alone.found
    several, _ = check_network(launch(nnodes=2, master=f"127.0.0.1:{free_port()}"), {})
    assert several.status == "blocking"
    assert "training.launch.host" in several.remedy


def test_the_remedy_for_one_machine_has_an_effect(monkeypatch):
    """On a single machine, Paddle's launcher ignores training.launch.host, so the remedy does not suggest it."""
    monkeypatch.setattr(socket, "gethostbyname", lambda _name: "192.0.2.1")
    (finding,) = check_network(launch(), {})
    assert "training.launch.host" not in finding.remedy


def test_a_host_that_no_interface_has_blocks():
    """Even on a single machine, training.launch.host must be an address of this machine."""
    (finding,) = check_network(launch(host="192.0.2.1"), {})
    assert finding.status == "blocking"
    assert "192.0.2.1" in finding.found
