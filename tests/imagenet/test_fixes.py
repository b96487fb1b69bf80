"""Fix lists are read strictly and written in a form that reads back to the same rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from resnet50_pipeline.exceptions import DatasetNotFoundError, ListFileError
from resnet50_pipeline.imagenet.lists.fixes import Fix, read_fixes, write_fixes


def test_written_rows_read_back(tmp_path: Path):
    """Commas, quotes, spaces and letters outside ASCII survive in paths and reasons."""
    fixes = [
        Fix("a b/ü,1.png", "relabel", "8", 'looks like "eight", not three'),
        Fix("val/x.JPEG", "drop", "", "blank"),
        Fix("n01/y.JPEG", "move"),
        Fix("n01/z.JPEG", "keep", "", "checked"),
    ]
    write_fixes(tmp_path / "fixes.csv", fixes)
    assert read_fixes(tmp_path / "fixes.csv") == fixes
    assert (tmp_path / "fixes.csv").read_text(encoding="utf-8").startswith("path,action,label,reason\n")


def test_the_list_of_an_image_is_an_optional_column(tmp_path: Path):
    """If any row specifies its list, all rows have the column. An empty cell means that only one list has the image."""
    path = tmp_path / "fixes.csv"
    fixes = [Fix("a.png", "drop", split="val"), Fix("b.png", "relabel", "8", "eight")]
    write_fixes(path, fixes)
    assert path.read_text() == "path,action,label,reason,split\na.png,drop,,,val\nb.png,relabel,8,eight,\n"
    assert read_fixes(path) == fixes
    path.write_text("path,split,action,label,reason\na.png,both,drop,,\n")
    with pytest.raises(ListFileError, match="2: unknown split 'both' → use one of train, val, test"):
        read_fixes(path)


def test_files_of_spreadsheets_are_read(tmp_path: Path):
    """A byte-order mark, CRLF, another order of columns, further columns, and labels of dropped rows are accepted."""
    text = "score,label,action,path,reason\r\n0.9,eight,drop,a.png,dark\r\n0.1,8,relabel,b.png,\r\n"
    (tmp_path / "fixes.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_fixes(tmp_path / "fixes.csv") == [Fix("a.png", "drop", "", "dark"), Fix("b.png", "relabel", "8")]


def test_every_invalid_row_is_reported_with_its_line(tmp_path: Path):
    """The error contains the line number of every problem, not only of the first one."""
    path = tmp_path / "fixes.csv"
    path.write_text(
        "path,action,label,reason\na.png,delete,,\n,drop,,\nb.png,relabel,,\nc.png,move,3,\nd.png,drop,,too,many\n"
        "e.png,keep,,fine\n"
    )
    with pytest.raises(ListFileError) as caught:
        read_fixes(path)
    assert [problem.split(" → ")[0].removeprefix(f"{path}:") for problem in caught.value.problems] == [
        "2: unknown action 'delete'",
        "3: the path is empty",
        "4: relabel needs a label",
        "5: move keeps the label, but the row has '3'",
        "6: more cells than columns",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"path;action;label;reason\na.png;drop;;\n", "the columns path, action, label, reason are missing"),
        (b"", r"found: none"),
        (b"path,action,label,reason\n\xff.png,drop,,\n", "not UTF-8"),
    ],
)
def test_other_files_are_rejected(tmp_path: Path, content: bytes, message: str):
    """Files with the wrong separator or encoding and empty files are not fix lists."""
    (tmp_path / "fixes.csv").write_bytes(content)
    with pytest.raises(ListFileError, match=message):
        read_fixes(tmp_path / "fixes.csv")


def test_a_missing_file_is_reported(tmp_path: Path):
    """The error names the path."""
    with pytest.raises(DatasetNotFoundError, match=r"nothing\.csv"):
        read_fixes(tmp_path / "nothing.csv")
