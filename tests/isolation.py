"""Runs commands in isolation: with separate mounts, or without a network."""

from __future__ import annotations

import os
import shutil
import subprocess


def mounting(script: str) -> tuple[str, ...] | None:
    """Return a command prefix that makes `script` run "$@" in separate mounts; None if mounting is not permitted."""
    for options in (["--mount"], ["--user", "--map-root-user", "--mount"]):
        command = ["unshare", *options, "sh", "-c"]
        if _works([*command, "mount -t tmpfs -o size=64k tmpfs /mnt"]):
            return (*command, script, "sh")
    return None


def without_network() -> tuple[str, ...] | None:
    """Return the command prefix for running without a network except loopback; None if that is not permitted."""
    for options in (["--net"], ["--user", "--map-root-user", "--net"]):
        command = ["unshare", *options, "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
        if _works([*command, "true"]):
            return tuple(command)
    return None


def can_create_namespaces() -> bool:
    """Whether this user may create named network namespaces, which simulate machines."""
    return os.geteuid() == 0 and shutil.which("ip") is not None and _works(["unshare", "--net", "--mount", "true"])


def _works(command: list[str]) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
