"""Shortens values to the lengths that MLflow accepts."""

from __future__ import annotations

MAX_METRICS_PER_BATCH = 1000
MAX_PARAMS_PER_BATCH = 100
MAX_KEY_LENGTH = 250
MAX_PARAM_LENGTH = 6000
MAX_TAG_LENGTH = 8000
MAX_DIGEST_LENGTH = 36


def shorten(text: str, length: int) -> str:
    """Truncate `text` to at most `length` characters. An ellipsis marks truncated text."""
    return text if len(text) <= length else text[: length - 1] + "…"


def shorten_markdown(text: str, length: int) -> str:
    """Return `text` without the last sections (`## …`) if it is too long, so that no table is cut off."""
    if len(text) <= length:
        return text
    sections = text.split("\n## ")
    while len(sections) > 1 and len(text) > length:
        del sections[-1]
        text = "\n## ".join(sections).rstrip() + "\n\n…"
    return shorten(text, length)


def shorten_digest(digest: str) -> str:
    """Return the first 36 hex digits of a `sha256:…` digest. For a dataset, MLflow stores only these digits."""
    return digest.removeprefix("sha256:")[:MAX_DIGEST_LENGTH]
