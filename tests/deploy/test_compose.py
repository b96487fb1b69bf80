"""`compose.yaml` follows the Compose specification and is safe for a shared server."""

from __future__ import annotations

import ast
import configparser
import json
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from compose_file import (
    COMPOSE_FILE,
    REPOSITORY,
    MissingVariableError,
    load_compose,
    read_environment_file,
    variables_of,
)

SECRETS = ("POSTGRES_PASSWORD", "S3_SECRET_KEY", "MLFLOW_ADMIN_PASSWORD", "MLFLOW_SECRET_KEY")
FILLED = {name: f"canary-{name.lower()}" for name in SECRETS}
DEPLOYMENT = REPOSITORY / "deploy" / "mlflow"


@pytest.fixture
def compose():
    """The content of compose.yaml, with all secrets set."""
    return load_compose(FILLED)


def test_it_follows_the_compose_specification(compose):
    """A validator for the full specification accepts the file and rejects a misspelled key."""
    compose_spec = pytest.importorskip("compose_spec", reason="the validator compose-spec is not installed")
    read = compose_spec.PyCompose.from_json(json.dumps(compose))
    assert set(read.service_names()) == {"postgres", "objects", "bucket", "mlflow"}
    compose["services"]["mlflow"]["healthcheck"]["intervall"] = "5s"
    with pytest.raises(ValueError, match="intervall"):
        compose_spec.PyCompose.from_json(json.dumps(compose))


def test_secrets_have_no_value_and_no_default():
    """Every secret is required, the example file sets none of them, and git ignores .env."""
    for missing in SECRETS:
        with pytest.raises(MissingVariableError, match=missing):
            load_compose({name: value for name, value in FILLED.items() if name != missing})
    example = read_environment_file()
    assert {name for name, value in example.items() if not value} == set(SECRETS)
    ignored = subprocess.run(["git", "check-ignore", "-q", ".env"], cwd=REPOSITORY, check=False)
    assert ignored.returncode == 0


def test_the_example_file_names_every_variable():
    """The example file contains every variable."""
    import yaml

    assert variables_of(yaml.safe_load(COMPOSE_FILE.read_text())) == set(read_environment_file())


def test_no_secret_is_on_a_command_line(compose):
    """Secrets are passed only in the environment, because all users of a machine can read command lines."""
    for service in compose["services"].values():
        for part in ("command", "healthcheck", "image", "volumes"):
            assert "canary" not in json.dumps(service.get(part))


def test_permanent_services_have_health_checks(compose):
    """Every long-running service has a health check and a restart policy, and services that depend on it wait."""
    services = compose["services"]
    lasting = {name for name, service in services.items() if service.get("restart") == "unless-stopped"}
    assert lasting == {"postgres", "objects", "mlflow"}
    for name in lasting:
        assert services[name]["healthcheck"]["test"][0] == "CMD"
    assert services["mlflow"]["depends_on"] == {
        "postgres": {"condition": "service_healthy"},
        "bucket": {"condition": "service_completed_successfully"},
    }


def test_data_is_in_named_volumes(compose):
    """Both stores keep their data in named volumes, and no folder of the host is mounted."""
    mounted = [
        volume.split(":")[0] for service in compose["services"].values() for volume in service.get("volumes", [])
    ]
    assert sorted(mounted) == sorted(compose["volumes"]) == ["objects-data", "postgres-data"]


def test_only_mlflow_is_reachable_and_only_from_this_machine(compose):
    """The stores publish no ports and are on an internal network; MLflow listens on the loopback address."""
    services = compose["services"]
    assert {name for name, service in services.items() if "ports" in service} == {"mlflow"}
    assert services["mlflow"]["ports"] == ["127.0.0.1:5000:5000"]
    assert compose["networks"]["stores"] == {"internal": True}
    assert all(services[name]["networks"] == ["stores"] for name in ("postgres", "objects", "bucket"))


def test_passwords_and_host_names_are_required(compose):
    """Basic authentication is enabled, and requests with an unknown Host header are rejected."""
    mlflow = compose["services"]["mlflow"]
    assert "--app-name=basic-auth" in mlflow["command"]
    assert "*" not in mlflow["environment"]["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    config = configparser.ConfigParser()
    config.read(DEPLOYMENT / "basic_auth.ini")
    assert "admin_password" not in config["mlflow"]


def test_images_are_pinned_and_the_server_is_the_clients_mlflow(compose):
    """Each image has a pinned version, and the image that is built installs this project's MLflow version."""
    for service in compose["services"].values():
        assert re.search(r":[\w.-]*\d", service["image"])
    pins = dict(
        re.findall(r"^([\w-]+)(?:\[\w+\])?==(\S+)$", (DEPLOYMENT / "requirements.txt").read_text(), flags=re.MULTILINE)
    )
    assert pins["mlflow"] == version("mlflow") == compose["services"]["mlflow"]["image"].split(":")[1]


def test_the_image_has_every_file_that_the_services_name(compose):
    """The image contains every file in /opt/mlflow that a command or an environment variable names."""
    named = set(re.findall(r"/opt/mlflow/([\w.]+)", json.dumps(compose)))
    dockerfile = (DEPLOYMENT / "Dockerfile").read_text()
    assert named == {"make_bucket.py", "basic_auth.ini"}
    assert all(f"{name} " in dockerfile and (DEPLOYMENT / name).is_file() for name in named)
    check = compose["services"]["mlflow"]["healthcheck"]["test"]
    ast.parse(check[-1])
    assert Path(check[1]).name == "python"
