"""Implements `kedro ui`, which shows the runs of an environment in MLflow's UI."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import click

from resnet50_pipeline.commands.browser import show_page
from resnet50_pipeline.commands.errors import reporting_errors
from resnet50_pipeline.commands.project import CONFIGURATION_OPTIONS, enter_configured_project, load_configuration
from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.parameters import TrackingParameters, read_group

# Python's warnings are about the server's own code.
_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONWARNINGS": "ignore"}


@click.command("ui", params=[*CONFIGURATION_OPTIONS])
@click.option("--host", default="127.0.0.1", show_default=True, help="Address on which MLflow's server listens.")
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535), help="Port of the server.")
@click.option("--browser/--no-browser", default=True, help="Open the page in a browser.")
@click.pass_context
def ui(context: click.Context, /, *, host: str, port: int, browser: bool, **options: Any) -> None:
    """Show the runs and models of an environment in MLflow.

    If tracking.uri is a database, this command starts MLflow's server and stops it when you press Ctrl-C. If it is the
    address of a server, the command only opens the server's page.
    """
    with reporting_errors(context):
        project_path = enter_configured_project(options)
        from resnet50_pipeline.tracking.address import hide_password
        from resnet50_pipeline.tracking.fetch import asking_mlflow
        from resnet50_pipeline.tracking.pages import runs_page
        from resnet50_pipeline.tracking.store import resolve_store

        parameters = load_configuration(options, project_path)["parameters"]
        store = resolve_store(read_group(parameters, "tracking", TrackingParameters), project_path)
        with asking_mlflow(store):
            page = runs_page(store.find_experiment(store.connect()))
        if store.artifact_location is None:
            show_page(hide_password(store.uri.rstrip("/")) + page, open_page=browser)
            return
        command = [sys.executable, "-m", "mlflow", "ui", "--host", host, "--port", str(port), "--workers", "1"]
        # The address may contain a password, which other users could read on the command line.
        environment = {**_QUIET, **os.environ, "MLFLOW_BACKEND_STORE_URI": store.uri}
        context.exit(_serve(command, environment, host, port, page, open_page=browser))


def _serve(
    command: list[str], environment: Mapping[str, str], host: str, port: int, page: str, *, open_page: bool
) -> int:
    """Run the server until it ends or the user presses Ctrl-C. Return its exit code."""
    _require_free_port(host, port)
    server = subprocess.Popen(command, env=dict(environment))
    try:
        if _wait_for_server(server, host, port):
            show_page(f"http://{host}:{port}{page}", open_page=open_page)
            click.echo("press Ctrl-C to stop")
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        server.terminate()
        server.wait()


def _require_free_port(host: str, port: int) -> None:
    try:
        with contextlib.closing(socket.create_server((host, port))):
            pass
    except OSError as error:
        raise ParameterError(
            f"{host}:{port}: MLflow's server cannot listen there ({error.strerror}) → choose another port, such as "
            f"--port {port + 1}"
        ) from error


def _wait_for_server(server: subprocess.Popen[bytes], host: str, port: int) -> bool:
    """Wait until the server accepts connections. Return False if it has ended."""
    while server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
            return True
        time.sleep(0.1)
    return False
