"""Prints shell commands that configure uv with pip's indexes, certificates and proxy.

    eval "$(pip config list | python tools/uv_settings.py)"

uv reads `uv.toml` and `UV_*` variables, but not pip's configuration files or `PIP_*` variables. Variables that are
already set keep their values. uv has no variable for pip's `no-index`, so the shell variable `no_index` holds the
option.
"""

from __future__ import annotations

import ast
import os
import shlex
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path

# Later sections override earlier ones, as in `pip install`.
_SECTIONS = ("global", "install", ":env:")
_TRUE = {"1", "on", "t", "true", "y", "yes"}


def parse_pip_settings(listing: str) -> dict[str, str]:
    """Return the options that `pip install` reads from its configuration files and from `PIP_*` variables.

    Args:
        listing: output of `pip config list`, such as `global.index-url='https://…'`.
    """
    sections: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    for line in listing.splitlines():
        name, _, value = line.partition("=")
        section, _, option = name.partition(".")
        # pip ignores empty values, such as those of variables set to an empty string.
        if section in sections and value != "''":
            sections[section][option] = str(ast.literal_eval(value))
    return {option: value for section in _SECTIONS for option, value in sections[section].items()}


def translate(pip: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that make uv use pip's settings.

    Args:
        pip: options of `pip install`, such as `index-url`.
        environment: environment variables of the process. Variables that are already set are not returned.
    """
    uv: dict[str, str] = {}
    if "index-url" in pip and not environment.get("UV_INDEX_URL"):
        uv["UV_DEFAULT_INDEX"] = pip["index-url"]
    if "extra-index-url" in pip and not environment.get("UV_EXTRA_INDEX_URL"):
        uv["UV_INDEX"] = " ".join(pip["extra-index-url"].split())
        # pip treats all indexes alike. Without this, uv only asks the first index that has the package.
        uv["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    if "find-links" in pip:
        uv["UV_FIND_LINKS"] = ",".join(pip["find-links"].split())
    if "trusted-host" in pip:
        uv["UV_INSECURE_HOST"] = " ".join(pip["trusted-host"].split())
    if "proxy" in pip:
        uv |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), pip["proxy"])
    if "client-cert" in pip:
        uv["SSL_CLIENT_CERT"] = pip["client-cert"]
    if "timeout" in pip or "default-timeout" in pip:
        uv["UV_HTTP_TIMEOUT"] = pip.get("timeout") or pip["default-timeout"]
    if pip.get("no-cache-dir", "").lower() in _TRUE:
        uv["UV_NO_CACHE"] = "1"
    certificates = pip.get("cert") or environment.get("REQUESTS_CA_BUNDLE") or environment.get("CURL_CA_BUNDLE")
    if certificates:
        uv["SSL_CERT_DIR" if Path(certificates).is_dir() else "SSL_CERT_FILE"] = certificates
    elif _has_system_certificates():
        uv["UV_SYSTEM_CERTS"] = "1"
    return {name: value for name, value in uv.items() if not environment.get(name)}


def _has_system_certificates() -> bool:
    """Return whether the system has certificates. Without any, uv must not use them, or it would trust no host."""
    paths = ssl.get_default_verify_paths()
    return bool(paths.cafile or (paths.capath and any(Path(paths.capath).iterdir())))


def main() -> None:
    """Print the shell commands."""
    pip = parse_pip_settings(sys.stdin.read())
    for name, value in translate(pip, os.environ).items():
        print(f"export {name}={shlex.quote(value)}")
    print(f"no_index={'--no-index' if pip.get('no-index', '').lower() in _TRUE else ''}")


if __name__ == "__main__":
    main()
