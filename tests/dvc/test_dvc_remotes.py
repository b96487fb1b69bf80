"""Data is pushed and pulled through a folder, SSH (a real sshd) and S3 (a real server)."""

from __future__ import annotations

import getpass
import importlib.util
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from repository import Repository

from ports import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

RAW = "data/imagenet/01_raw"
SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")


@dataclass(frozen=True)
class Remote:
    """A DVC remote.

    Attributes:
        url: address for `dvc remote add`.
        settings: settings in .dvc/config, which is committed.
        secrets: settings in .dvc/config.local, which is not committed.
    """

    url: str
    settings: tuple[tuple[str, str], ...] = ()
    secrets: tuple[tuple[str, str], ...] = ()


def push_and_pull(remote: Remote, folder: Path) -> None:
    """Push an archive and a folder, pull them in a new clone and compare; assert that no secret is committed."""
    first = Repository.create(folder / "first")
    raw = first.root / RAW
    (raw / "devkit").mkdir(parents=True)
    contents = {"train.tar": b"shard" * 400_000, "devkit/meta.mat": b"meta", "devkit/truth.txt": b"490\n361\n"}
    for name, content in contents.items():
        (raw / name).write_bytes(content)
    first.dvc("add", f"{RAW}/train.tar", f"{RAW}/devkit")
    first.dvc("remote", "add", "--default", "store", remote.url)
    for name, value in remote.settings:
        first.dvc("remote", "modify", "store", name, value)
    first.commit("v1")
    for repository in (first, second := first.clone_to(folder / "second")):
        for name, value in remote.secrets:
            repository.dvc("remote", "modify", "--local", "store", name, value)
    first.dvc("push")
    assert "in sync" in first.dvc("status", "--cloud")
    assert not (second.root / RAW / "train.tar").exists()
    second.dvc("pull")
    for name, content in contents.items():
        pulled = second.root / RAW / name
        assert pulled.read_bytes() == content
        assert pulled.stat().st_nlink == 2  # linked to the cache, not copied
    assert first.git("status", "--porcelain") == second.git("status", "--porcelain") == ""
    for _, value in remote.secrets:
        assert value not in (first.root / ".dvc" / "config").read_text()


def test_a_folder(tmp_path: Path) -> None:
    """A folder on a shared disk works as a remote."""
    push_and_pull(Remote(str(tmp_path / "remote")), tmp_path)


def wait_for_port(port: int, server: subprocess.Popen[bytes]) -> None:
    """Wait until a started server accepts connections."""
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert server.poll() is None, "the server exited at once"
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            return


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """A function that starts a server and waits for its port; the server stops when the test ends."""
    servers = []

    def start_server(port: int, *command: str) -> None:
        servers.append(subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        wait_for_port(port, servers[-1])

    yield start_server
    for server in servers:
        server.terminate()
        server.wait(10)


@pytest.mark.skipif(SSHD is None, reason="needs sshd (Debian: openssh-server)")
@pytest.mark.skipif(importlib.util.find_spec("dvc_ssh") is None, reason="needs dvc-ssh")
def test_an_ssh_server(tmp_path: Path, start: Callable[..., None]) -> None:
    """`ssh://host/folder` works with a private key, whose path is not committed."""
    port = free_port()
    for name in ("host_key", "user_key"):
        key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)]
        subprocess.run(key, check=True)
    Path("/run/sshd").mkdir(exist_ok=True)  # sshd needs this folder for privilege separation if it is started by root
    (tmp_path / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host_key\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {tmp_path}/user_key.pub\nStrictModes no\nPermitRootLogin yes\n"
        "PasswordAuthentication no\nSubsystem sftp internal-sftp\n"
    )
    start(port, str(SSHD), "-D", "-e", "-f", str(tmp_path / "sshd_config"))
    push_and_pull(
        Remote(
            f"ssh://127.0.0.1:{port}{tmp_path}/remote",
            settings=(("user", getpass.getuser()),),
            secrets=(("keyfile", f"{tmp_path}/user_key"),),
        ),
        tmp_path,
    )
    assert list((tmp_path / "remote" / "files" / "md5").iterdir())


@pytest.mark.skipif(importlib.util.find_spec("dvc_s3") is None, reason="needs dvc-s3")
@pytest.mark.skipif(importlib.util.find_spec("moto") is None, reason="needs moto[server]")
def test_an_s3_server(tmp_path: Path, start: Callable[..., None]) -> None:
    """`s3://bucket/folder` works with a custom endpoint; the secret key is not committed."""
    port = free_port()
    import boto3

    start(port, sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port))
    endpoint = f"http://127.0.0.1:{port}"
    secrets = (("access_key_id", "AKIAEXAMPLE"), ("secret_access_key", "a-secret-of-the-user"))
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=secrets[0][1],
        aws_secret_access_key=secrets[1][1],
    )
    client.create_bucket(Bucket="imagenet")
    settings = (("endpointurl", endpoint), ("region", "us-east-1"))
    push_and_pull(Remote("s3://imagenet/dvc", settings, secrets), tmp_path)
    assert client.list_objects_v2(Bucket="imagenet")["KeyCount"] == 4
