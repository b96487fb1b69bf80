"""The project's own requests to a server use MLflow's variables for certificates, credentials and proxies."""

from __future__ import annotations

import datetime
import http.server
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ports import free_port
from resnet50_pipeline.tracking.store import require_answer

VARIABLES = ("SERVER_CERT_PATH", "INSECURE_TLS", "CLIENT_CERT_PATH", "TOKEN", "USERNAME", "PASSWORD")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    """Remove the variables of the developer's own shell."""
    for name in (
        *(f"MLFLOW_TRACKING_{name}" for name in VARIABLES),
        "HTTP_PROXY",
        "http_proxy",
        "NO_PROXY",
        "no_proxy",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """A file with a self-signed certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "probe")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "cert.pem"
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(built.public_bytes(encoding) + private)
    return path


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """Yield the address of a server, and the targets and credentials of the requests that it receives."""
    requests: list[tuple[str, str | None]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append((self.path, self.headers.get("Authorization")))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        server.server_close()


def server_context(certificate: Path, *, asks_client: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if asks_client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificate)
    return context


def test_a_private_certificate_authority_is_trusted_as_in_mlflow(certificate, monkeypatch):
    """Without the variable, the error mentions it. With it, or with checks turned off, the request succeeds."""
    with serving(server_context(certificate)) as (uri, requests):
        with pytest.raises(OSError, match="MLFLOW_TRACKING_SERVER_CERT_PATH"):
            require_answer(uri)
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate))
        require_answer(uri)
        monkeypatch.delenv("MLFLOW_TRACKING_SERVER_CERT_PATH")
        monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
        require_answer(uri)
        assert [path for path, _ in requests] == ["/health", "/health"]


def test_a_client_certificate_is_sent(certificate, monkeypatch):
    """A server that asks for a certificate receives the one in MLFLOW_TRACKING_CLIENT_CERT_PATH."""
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate))
    with serving(server_context(certificate, asks_client=True)) as (uri, requests):
        with pytest.raises(ConnectionError):
            require_answer(uri)
        monkeypatch.setenv("MLFLOW_TRACKING_CLIENT_CERT_PATH", str(certificate))
        require_answer(uri)
        assert len(requests) == 1


def test_tokens_and_passwords_are_sent(monkeypatch):
    """A server that requires a login receives MLflow's credentials."""
    with serving() as (uri, requests):
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken")
        require_answer(uri)
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
        require_answer(uri)
    assert [credentials for _, credentials in requests] == ["Bearer t0ken", "Basic YWRhOnNlY3JldA=="]


def test_a_proxy_is_used(monkeypatch):
    """A server that is only reachable through a proxy is reached."""
    with serving() as (proxy, requests):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        require_answer("http://mlflow.invalid:5000")
    assert requests == [("http://mlflow.invalid:5000/health", None)]


def test_a_failure_has_a_short_reason_without_the_password():
    """The reason for a refused connection is short enough for a line of the preflight table."""
    with pytest.raises(OSError, match="Connection refused") as caught:
        require_answer(f"http://ada:s3cret@127.0.0.1:{free_port()}")
    assert "s3cret" not in str(caught.value)
    assert len(str(caught.value)) < 120
