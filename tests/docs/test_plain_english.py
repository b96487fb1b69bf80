"""Text in code, tests, documentation and configuration avoids phrases that readers stumble over."""

from __future__ import annotations

import io
import re
import subprocess
import tokenize
from collections.abc import Iterator

import pytest
from command_blocks import PROJECT

# (regular expression, what to write instead). Add a phrase when a review finds one.
PHRASES = (
    (r"anew", "again, from scratch"),
    (r"(?:go|goes|going|went) on", "continue, resume"),
    (r"mend(?:s|ed|ing)?", "fix, repair"),
    (r"whoever|whomever|whatsoever|whosoever", "the caller, any user"),
    (r"nobody", "no one, no process"),
    (r"thereof|therein|whereof|wherein|heretofore|henceforth|hence|lest|ere|albeit|whilst|amongst", "a plain word"),
    (r"for want of|for lack of", "without, because there is no"),
    (r"without a word", "silently"),
    (r"for good", "permanently"),
    (r"as yet", "yet, so far"),
    (r"is no part of|are no part of", "is not part of"),
    (r"in the place of", "instead of"),
    (r"(?:stands|stand|stood) (?:in(?! for)|on|there|behind|before|beside|beneath|below|above)", "is in, precedes"),
    (r"(?:lies|lie|lay) (?:in|on|there|behind|before|beside|beneath|below|above|elsewhere)", "is in, is stored in"),
    (r"(?:is|are|was|were) told (?:of|by|to|what|which|when|where|who)", "is reported, receives"),
    (r"tells? of", "reports"),
    (r"(?:cannot|can) end well", "fails, succeeds"),
    (r"says nothing of|say nothing of", "does not mention"),
    (r"(?:a|one) (?:row|line|file|folder|name|task|process|rank|word) an? [a-z]+", "one row per image"),
    (r"(?:images|rows|steps|files) an? (?:second|step|class|card|rank|batch|shard|epoch)", "images per second"),
    (r"one a (?:core|card|rank|run|class|step|second)", "one per core"),
    (
        r", for (?:it|they|he|she|there|this|these|those|nothing|no one) (?:is|are|was|were|ha[sd]|have|can|do|does)",
        "because",
    ),
    (r"be it", "whether, regardless of"),
    (r"had it (?:been|not)|were it not|should it", "if"),
    (r"colours?|behaviours?|favours?|honours?|neighbours?|centres?|licences?|greys?", "American spelling"),
    (r"(?:normali|initiali|recogni|organi|optimi|seriali|summari|visuali)(?:se[sd]?|sing|sation)", "American spelling"),
    (r"(?:cancell|labell|modell|travell|signall)(?:ed|ing)", "American spelling"),
)
FORBIDDEN = re.compile(
    "|".join(rf"(?P<p{number}>\b(?:{phrase})\b)" for number, (phrase, _) in enumerate(PHRASES)), re.I
)
# Uses with a different meaning: (path, stripped text of the line).
ALLOWED: frozenset[tuple[str, str]] = frozenset()
FOLDERS = ("src", "tests", "docs", "README.md", "conf", "Makefile", "tools")
TEXT_SUFFIXES = frozenset({"", ".md", ".yml", ".yaml", ".sh", ".j2", ".jinja"})


def find_texts(path: str) -> Iterator[tuple[int, str]]:
    """Yield (line number, line) of the text in a file.

    The text of Python code is its comments and its strings of several words; the text of other files is every line.
    """
    content = (PROJECT / path).read_text(encoding="utf-8")
    if not path.endswith(".py"):
        yield from enumerate(content.splitlines(), start=1)
        return
    for token in tokenize.generate_tokens(io.StringIO(content).readline):
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and " " in token.string):
            yield from enumerate(token.string.splitlines(), start=token.start[0])


@pytest.mark.parametrize("folder", FOLDERS)
def test_text_has_no_stilted_phrases(folder: str) -> None:
    """No comment, string or page contains one of the phrases, except for the allowed uses."""
    listed = subprocess.run(["git", "ls-files", "-z", folder], cwd=PROJECT, capture_output=True, text=True, check=True)
    paths = [path for path in listed.stdout.split("\0") if path.endswith((".py", *filter(None, TEXT_SUFFIXES)))]
    paths += [path for path in listed.stdout.split("\0") if path == "Makefile"]
    this_file = "tests/docs/test_plain_english.py"
    found = [
        f"{path}:{line}: {match[0]!r} → {PHRASES[int(str(match.lastgroup)[1:])][1]}"
        for path in paths
        if path != this_file and (PROJECT / path).is_file()
        for line, text in find_texts(path)
        for match in FORBIDDEN.finditer(text)
        if (path, text.strip()) not in ALLOWED
    ]
    assert found == []
