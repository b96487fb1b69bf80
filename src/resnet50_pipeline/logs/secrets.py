"""Keeps passwords and tokens out of logs, whoever quotes them: an error of a database client, a command line, a URL."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

MASK = "***"
_SECRET_NAME = re.compile(r"PASSW|SECRET|TOKEN|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY", re.IGNORECASE)
# `user:password@` of an address.
_PASSWORD_IN_ADDRESS = re.compile(r"(?P<before>[a-zA-Z][\w+.-]*://[^\s:/@]*:)[^\s/@]+@")
# A shorter value stands in too many messages where it is none; and who guesses it needs no log.
_MIN_LENGTH = 6


def make_mask(environment: Mapping[str, str]) -> Callable[[str], str]:
    """Return a function that puts `***` in the place of secrets.

    Secrets are the values of environment variables whose names say so (PASSWORD, SECRET, TOKEN, …_KEY), and the
    password of `scheme://user:password@host`.
    """
    values = {
        value for name, value in environment.items() if _SECRET_NAME.search(name) and len(value.strip()) >= _MIN_LENGTH
    }
    # The longest first: one may be a part of another.
    secrets = sorted({text for value in values for text in (value, value.strip())}, key=len, reverse=True)

    def mask(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, MASK)
        return _PASSWORD_IN_ADDRESS.sub(rf"\g<before>{MASK}@", text) if "://" in text else text

    return mask
