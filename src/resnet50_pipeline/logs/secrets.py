"""Masks passwords and tokens in log messages, for example in command lines, URLs and database client errors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

MASK = "***"
_SECRET_NAME = re.compile(r"PASSW|SECRET|TOKEN|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY", re.IGNORECASE)
# `user:password@` in a URL.
_PASSWORD_IN_URL = re.compile(r"(?P<before>[a-zA-Z][\w+.-]*://[^\s:/@]*:)[^\s/@]+@")
# Shorter values are not masked, because such short values also occur in ordinary words.
_MIN_LENGTH = 6


def make_mask(environment: Mapping[str, str]) -> Callable[[str], str]:
    """Return a function that replaces the secrets in a string with `***`.

    Secrets are the values of environment variables whose names contain PASSWORD, SECRET, TOKEN or …_KEY, and the
    password in `scheme://user:password@host`.
    """
    values = {
        value for name, value in environment.items() if _SECRET_NAME.search(name) and len(value.strip()) >= _MIN_LENGTH
    }
    # Replace the longest values first, because one secret can contain another.
    secrets = sorted({text for value in values for text in (value, value.strip())}, key=len, reverse=True)

    def mask(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, MASK)
        return _PASSWORD_IN_URL.sub(rf"\g<before>{MASK}@", text) if "://" in text else text

    return mask
