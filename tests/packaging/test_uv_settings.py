"""tools/uv_settings.py translates pip's configuration into uv's variables."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "tools" / "uv_settings.py"


def translate(listing: str, *names: str, **environment: str) -> list[str]:
    """Return the values that the shell has for `names` after it evaluates the program's commands."""
    settings = subprocess.run(
        [sys.executable, PROGRAM], input=listing, env=environment, capture_output=True, text=True, check=True
    ).stdout
    show = "".join(f'printf "%s\\n" "${{{name}:-}}"\n' for name in names)
    shell = ["sh", "-euc", f"{settings}\n{show}"]
    return subprocess.run(shell, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.parametrize(
    ("option", "name", "value"),
    [
        ("index-url='https://user:p$w@mirror.test/simple'", "UV_DEFAULT_INDEX", "https://user:p$w@mirror.test/simple"),
        ("extra-index-url='\\nhttps://a.test\\nhttps://b.test'", "UV_INDEX", "https://a.test https://b.test"),
        ("extra-index-url='https://a.test'", "UV_INDEX_STRATEGY", "unsafe-best-match"),
        ("find-links='/wheels https://c.test/files'", "UV_FIND_LINKS", "/wheels,https://c.test/files"),
        ("no-index='true'", "no_index", "--no-index"),
        ("no-index='0'", "no_index", ""),
        ("trusted-host='a.test b.test:8080'", "UV_INSECURE_HOST", "a.test b.test:8080"),
        ("proxy='http://proxy.test:3128'", "HTTPS_PROXY", "http://proxy.test:3128"),
        ("cert='/etc/company.pem'", "SSL_CERT_FILE", "/etc/company.pem"),
        ("client-cert='/etc/me.pem'", "SSL_CLIENT_CERT", "/etc/me.pem"),
        ("timeout='60'", "UV_HTTP_TIMEOUT", "60"),
        ("default-timeout='90'", "UV_HTTP_TIMEOUT", "90"),
        ("no-cache-dir='1'", "UV_NO_CACHE", "1"),
    ],
)
@pytest.mark.parametrize("section", ["global.", "install.", ":env:."])
def test_uv_gets_each_setting_of_pip(section: str, option: str, name: str, value: str) -> None:
    """Settings for all commands, for `pip install` and from PIP_* variables have the same effect."""
    assert translate(f"{section}{option}\n", name) == [value]


def test_settings_have_the_same_precedence_as_in_pip() -> None:
    """A PIP_* variable overrides the section for `pip install`, which overrides the settings for all commands."""
    listing = "install.index-url='https://install.test'\nglobal.index-url='https://global.test'\nlist.index-url='x'\n"
    assert translate(listing, "UV_DEFAULT_INDEX") == ["https://install.test"]
    assert translate(f":env:.index-url='https://env.test'\n{listing}", "UV_DEFAULT_INDEX") == ["https://env.test"]
    assert translate(f":env:.index-url=''\n{listing}", "UV_DEFAULT_INDEX") == ["https://install.test"]


def test_uv_settings_override_pip_settings() -> None:
    """A variable of uv that the user has set keeps its value."""
    listing = "global.index-url='https://pip.test'\nglobal.cert='/pip.pem'\n"
    names = ("UV_DEFAULT_INDEX", "SSL_CERT_FILE")
    own = {"UV_DEFAULT_INDEX": "https://uv.test", "SSL_CERT_FILE": "/uv.pem"}
    assert translate(listing, *names, **own) == ["https://uv.test", "/uv.pem"]


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_certificates_of_pips_http_library_apply(name: str) -> None:
    """PIP_* variables that apply only to pip are not passed to uv."""
    assert translate("", "SSL_CERT_FILE", **{name: "/bundle.pem"}) == ["/bundle.pem"]


def test_a_folder_of_certificates_is_passed_as_one(tmp_path: Path) -> None:
    """The `cert` setting of pip is passed to uv in different variables for a file and for a folder."""
    assert translate(f"global.cert='{tmp_path}'\n", "SSL_CERT_FILE", "SSL_CERT_DIR") == ["", str(tmp_path)]


def test_without_settings_uv_keeps_its_own() -> None:
    """No index is set if pip has none."""
    assert translate("", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS", "no_index") == ["", "", "", ""]
