"""Runs the server of `compose.yaml` without containers, with Debian's PostgreSQL and an S3 server."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compose_file import REPOSITORY, load_compose
from mlflow_stores import MlflowServer
from ports import free_port

NEEDED_PACKAGES = ("psycopg2", "boto3", "moto", "flask_wtf")
DEPLOYMENT = REPOSITORY / "deploy" / "mlflow"
_POSTGRES_USER = "postgres"
_START_SECONDS = 60


def find_obstacle() -> str | None:
    """Return the reason why the server cannot be started on this machine, or None if it can."""
    missing = [package for package in NEEDED_PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        return f"{', '.join(missing)} not installed: pip install 'resnet50-pipeline[server]' moto"
    if _postgres_programs() is None:
        return "PostgreSQL is not installed: apt-get install postgresql"
    return None


@dataclass(frozen=True)
class Secrets:
    """The secrets of .env, as canary words that can be searched for."""

    postgres: str = field(default_factory=lambda: f"canary-{secrets.token_hex(12)}")
    s3: str = field(default_factory=lambda: f"canary-{secrets.token_hex(12)}")
    admin: str = field(default_factory=lambda: f"canary-{secrets.token_hex(12)}")
    session: str = field(default_factory=lambda: f"canary-{secrets.token_hex(12)}")

    def as_variables(self) -> dict[str, str]:
        """Return the secrets, keyed by their names in .env."""
        return {
            "POSTGRES_PASSWORD": self.postgres,
            "S3_SECRET_KEY": self.s3,
            "MLFLOW_ADMIN_PASSWORD": self.admin,
            "MLFLOW_SECRET_KEY": self.session,
        }


class PostgresServer:
    """A PostgreSQL cluster in a temporary folder, with the user `mlflow` and the database `mlflow`."""

    def __init__(self, password: str) -> None:
        programs = _postgres_programs()
        assert programs is not None
        self._programs, self._password = programs, password
        # Only root may enter pytest's folders, and PostgreSQL refuses to run as root.
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Create and start the cluster, and create the database."""
        (self._folder / "password").write_text(self._password)
        if os.geteuid() == 0:
            shutil.chown(self._folder, _POSTGRES_USER)
            shutil.chown(self._folder / "password", _POSTGRES_USER)
        options = ["--username=mlflow", "--auth=scram-sha-256", f"--pwfile={self._folder / 'password'}"]
        self._run("initdb", f"--pgdata={self._folder / 'data'}", "--encoding=UTF8", "--no-sync", *options)
        arguments = ["-D", str(self._folder / "data"), "-p", str(self.port), "-c", "listen_addresses=127.0.0.1"]
        arguments += ["-c", "unix_socket_directories=", "-c", "fsync=off"]
        with (self._folder / "server.log").open("wb") as log:
            self._process = subprocess.Popen(self._command("postgres", *arguments), stdout=log, stderr=log)
        deadline = time.monotonic() + _START_SECONDS
        while subprocess.run(
            self._command("pg_isready", *self._connection_options()), check=False, capture_output=True
        ).returncode:
            assert time.monotonic() < deadline, (self._folder / "server.log").read_text()
            time.sleep(0.1)
        self._run("createdb", *self._connection_options(), "mlflow")

    def dump(self) -> str:
        """Return the content of the database as SQL."""
        return self._run("pg_dump", *self._connection_options(), "--inserts", "mlflow")

    def query(self, sql: str, *values: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        import psycopg2

        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, user="mlflow", password=self._password, dbname="mlflow"
        )
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute(sql, values)
            return list(cursor.fetchall())

    def stop(self) -> None:
        """Stop the cluster and remove its folder."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
        shutil.rmtree(self._folder)

    def _connection_options(self) -> list[str]:
        return ["--host=127.0.0.1", f"--port={self.port}", "--username=mlflow"]

    def _run(self, program: str, *arguments: str) -> str:
        environment = {**os.environ, "PGPASSWORD": self._password}
        command = self._command(program, *arguments)
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, cwd=self._folder)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _command(self, program: str, *arguments: str) -> list[str]:
        command = [str(self._programs / program), *arguments]
        if os.geteuid() != 0:
            return command
        return ["setpriv", f"--reuid={_POSTGRES_USER}", f"--regid={_POSTGRES_USER}", "--clear-groups", *command]


class DeployedMlflow(MlflowServer):
    """The service `mlflow` of compose.yaml, with the same command line and environment but local addresses."""

    def __init__(self, folder: Path, postgres: PostgresServer, s3_port: int, secrets: Secrets) -> None:
        super().__init__(folder)
        self.secrets, self.s3_port = secrets, s3_port
        self.service = load_compose(secrets.as_variables())["services"]["mlflow"]
        self._environment = {
            **os.environ,
            **self.service["environment"],
            "PGHOST": "127.0.0.1",
            "PGPORT": str(postgres.port),
            "MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{s3_port}",
            "MLFLOW_HOST": "127.0.0.1",
            "MLFLOW_PORT": str(self.port),
            "MLFLOW_WORKERS": "1",
            "MLFLOW_AUTH_CONFIG_PATH": str(DEPLOYMENT / "basic_auth.ini"),
        }

    def command(self) -> list[str]:
        """Return the command of the service, for the MLflow of this Python environment."""
        program, *arguments = self.service["command"]
        return [sys.executable, "-m", program, *arguments]

    def environment(self) -> dict[str, str]:
        """Return the environment of the service."""
        return self._environment

    def make_bucket(self) -> None:
        """Create the bucket, like the service `bucket`."""
        environment = {**self._environment, "S3_BUCKET": "mlflow"}
        subprocess.run([sys.executable, DEPLOYMENT / "make_bucket.py"], env=environment, check=True, timeout=120)

    def objects(self) -> list[str]:
        """Return the keys of all objects in the bucket."""
        import boto3

        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.s3_port}",
            aws_access_key_id="mlflow",
            aws_secret_access_key=self.secrets.s3,
            region_name="us-east-1",
        )
        return [found["Key"] for found in client.list_objects_v2(Bucket="mlflow").get("Contents", [])]


@dataclass(frozen=True)
class Deployment:
    """The servers of a deployment and their secrets."""

    mlflow: DeployedMlflow
    postgres: PostgresServer
    secrets: Secrets


@contextlib.contextmanager
def deployed_mlflow(folder: Path) -> Iterator[Deployment]:
    """Start PostgreSQL, the S3 server and MLflow, and stop them when the block ends."""
    own = Secrets()
    with contextlib.ExitStack() as running:
        postgres = PostgresServer(own.postgres)
        running.callback(postgres.stop)
        postgres.start()
        s3_port = free_port()
        with (folder / "s3.log").open("wb") as log:
            s3 = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(s3_port)], stdout=log, stderr=log
            )
        running.callback(s3.wait, 30)
        running.callback(s3.terminate)
        _wait_for(f"http://127.0.0.1:{s3_port}/", folder / "s3.log")
        mlflow = running.enter_context(DeployedMlflow(folder, postgres, s3_port, own))
        mlflow.make_bucket()
        mlflow.start()
        yield Deployment(mlflow, postgres, own)


def _wait_for(url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            urllib.request.urlopen(url, timeout=2).close()
        except OSError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        else:
            return


def _postgres_programs() -> Path | None:
    """Return the program folder of Debian's newest PostgreSQL, or of the PostgreSQL on the path."""
    if os.geteuid() == 0 and _POSTGRES_USER not in {user.pw_name for user in pwd.getpwall()}:
        return None
    versions = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    if versions:
        return max(versions, key=lambda folder: int(folder.parent.name))
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None
