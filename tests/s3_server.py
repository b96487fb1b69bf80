"""A real S3 server (moto) in a separate process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

from ports import free_port

BUCKET = "training"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-user",
    "AWS_DEFAULT_REGION": "us-east-1",
}


class S3Server:
    """An S3 server with an empty bucket. `environment` contains what clients need."""

    def __init__(self) -> None:
        port = free_port()
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert self._process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
        self.environment = {**CREDENTIALS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
        self.client = self._connect()
        self.client.create_bucket(Bucket=BUCKET)

    def _connect(self):
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            region_name=CREDENTIALS["AWS_DEFAULT_REGION"],
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )

    def keys(self, prefix: str) -> list[str]:
        """Return the names of all objects under a prefix, without the prefix."""
        found = self.client.list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}/").get("Contents", ())
        return [one["Key"].removeprefix(f"{prefix}/") for one in found]

    def pause(self) -> None:
        """Let the server accept connections without answering."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def proceed(self) -> None:
        """Let the server answer again."""
        os.kill(self._process.pid, signal.SIGCONT)

    def close(self) -> None:
        """End the server."""
        self._process.kill()
        self._process.wait()
