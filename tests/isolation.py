"""Commands that run elsewhere: with file systems of their own, or without a network."""

from __future__ import annotations

import os
import shutil
import subprocess


def in_own_mounts(script: str) -> tuple[str, ...] | None:
    """Return the words before a command that `script` runs as "$@" where it may mount; None where nobody may."""
    for options in (["--mount"], ["--user", "--map-root-user", "--mount"]):
        words = ["unshare", *options, "sh", "-c"]
        if _works([*words, "mount -t tmpfs -o size=64k tmpfs /mnt"]):
            return (*words, script, "sh")
    return None


def without_network() -> tuple[str, ...] | None:
    """Return the words before a command that is to have no network but its own loopback; None where nobody may."""
    for options in (["--net"], ["--user", "--map-root-user", "--net"]):
        words = ["unshare", *options, "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
        if _works([*words, "true"]):
            return tuple(words)
    return None


def can_make_machines() -> bool:
    """Whether this user may make network namespaces with names, which stand for machines."""
    return os.geteuid() == 0 and shutil.which("ip") is not None and _works(["unshare", "--net", "--mount", "true"])


def _works(words: list[str]) -> bool:
    return shutil.which(words[0]) is not None and not subprocess.run(words, check=False, capture_output=True).returncode
