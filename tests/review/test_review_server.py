"""The review server responds only to its own page, serves only the candidates' images, and saves every decision."""

from __future__ import annotations

import errno
import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from review_page import serve_review, write_findings

from resnet50_pipeline.commands.data.review import choose_output
from resnet50_pipeline.exceptions import ListFileError, ParameterError
from resnet50_pipeline.files import write_text
from resnet50_pipeline.imagenet.fixing import list_images, make_patch
from resnet50_pipeline.imagenet.lists.fixes import Fix, read_fixes, write_fixes
from resnet50_pipeline.imagenet.lists.patches import write_patch
from resnet50_pipeline.parameters import DatasetParameters
from resnet50_pipeline.review import candidates
from resnet50_pipeline.review.candidates import Decisions, describe_candidates, read_candidates
from resnet50_pipeline.review.server import ReviewServer, encode_image


@pytest.fixture
def names(digits: Path, tmp_path: Path) -> list[str]:
    """The paths of six candidates in findings.csv."""
    return write_findings(tmp_path / "findings.csv", digits)


@pytest.fixture
def server(digits: Path, tmp_path: Path, names: list[str]) -> Iterator[ReviewServer]:
    with serve_review(digits, tmp_path / "findings.csv", tmp_path / "reviewed.csv") as running:
        yield running


def ask(
    server: ReviewServer, path: str, body: object = None, *, token: str | None = None, **headers: str
) -> tuple[int, bytes]:
    """Send a request, or a POST request if there is a body. Return the status and the body of the response."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    target = f"/{server.token if token is None else token}/{path}"
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is None:
        connection.request("GET", target, headers=given)
    else:
        connection.request("POST", target, json.dumps(body), {"Content-Type": "application/json", **given})
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def test_the_page_and_its_data_need_the_token(server: ReviewServer):
    """Without the token, neither the page nor its data, images or decisions can be reached."""
    assert len(server.token) >= 32
    assert ask(server, "")[0] == 200
    for path in ("", "data", "thumbnail/0", "review.js"):
        for other in ("", "x" * len(server.token), server.token[:-1], "%C3%BC"):
            assert ask(server, path, token=other)[0] == 403
    assert ask(server, "decide", {"index": 0, "action": "keep", "label": None}, token=server.token[1:])[0] == 403
    assert not server.decisions.path.exists()


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example.org"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1.evil.example.org:80"},
        {"Origin": "http://evil.example.org"},
        {"Origin": "null"},
    ],
)
def test_other_hosts_and_origins_are_refused(server: ReviewServer, headers: dict[str, str]):
    """Requests through another name for 127.0.0.1 or from another website are rejected, even with the token."""
    assert ask(server, "data", **headers)[0] == 403
    assert ask(server, "decide", {"index": 0, "action": "keep", "label": None}, **headers)[0] == 403
    assert not server.decisions.path.exists()


def test_forms_of_other_pages_are_refused(server: ReviewServer):
    """Only JSON is accepted, because a form cannot send it."""
    decision = {"index": 0, "action": "keep", "label": None}
    assert ask(server, "decide", decision, **{"Content-Type": "text/plain"})[0] == 400
    assert ask(server, "decide", {**decision, "rest": "x" * 2000})[0] == 400
    assert not server.decisions.path.exists()


@pytest.mark.parametrize(
    "path",
    ["thumbnail/6", "thumbnail/-1", "thumbnail/../../etc/passwd", "large/%2e%2e", "other/0", "../review.html", "val"],
)
def test_only_images_of_candidates_are_served(server: ReviewServer, path: str):
    """Any other path is not found."""
    assert ask(server, path)[0] == 404


def test_images_have_the_pixels_of_the_files(server: ReviewServer, digits: Path, names: list[str]):
    """Small images are sent losslessly, and an unreadable image does not affect the others."""
    status, data = ask(server, "thumbnail/2")
    expected = cv2.imread(str(digits / names[2]))
    assert status == 200
    assert np.array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), expected)
    (digits / names[3]).write_bytes(b"damaged")
    (digits / names[4]).unlink()
    assert [ask(server, f"thumbnail/{number}")[0] for number in (3, 4, 5)] == [422, 422, 200]


def test_photographs_are_reduced(server: ReviewServer, digits: Path, names: list[str]):
    """A large image is sent as a JPEG in the size of the thumbnail or of the large view."""
    pixels = np.tile(np.arange(200, dtype=np.uint8)[:, None, None], (4, 1200, 3))
    cv2.imwrite(str(digits / names[1]), pixels)
    for kind, shape in (("thumbnail", (107, 160, 3)), ("large", (427, 640, 3))):
        status, data = ask(server, f"{kind}/1")
        assert (status, data[:2]) == (200, b"\xff\xd8")
        assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == shape


def test_a_cancelled_request_prints_no_traceback(server: ReviewServer, capsys: pytest.CaptureFixture[str]):
    """Requests that a browser cancels, as for images that scroll away, are ignored. Other errors are printed."""

    def fail(error: Exception) -> None:
        raise error

    def report(error: Exception) -> str:
        try:
            fail(error)
        except Exception:
            server.handle_error(None, ("127.0.0.1", 1))
        return capsys.readouterr().err

    assert report(BrokenPipeError()) == report(ConnectionResetError()) == ""
    assert "KeyError" in report(KeyError())


def test_the_data_has_classes_and_suggestions(server: ReviewServer, names: list[str]):
    """Each candidate has its current class, the suggested class and the reason."""
    data = json.loads(ask(server, "data")[1])
    first = {
        **{"path": names[0], "split": "train", "label": 0, "suggested": 1, "reason": "predicted as <1>, with 99%"},
        **{"other": None, "otherImage": None},  # not a near-duplicate
    }
    assert (len(data["candidates"]), data["candidates"][0]) == (6, first)
    assert data["classes"][8] == "eight"
    assert (data["decisions"], data["canMove"]) == ({}, True)


def test_every_decision_is_saved_and_can_be_withdrawn(server: ReviewServer, names: list[str]):
    """The fix list contains the reviewed images in the order of the findings."""
    for index, action, label in ((4, "drop", None), (0, "relabel", 8), (1, "keep", None), (4, "move", None)):
        assert ask(server, "decide", {"index": index, "action": action, "label": label})[0] == 200
    assert [(one.path, one.action, one.label) for one in read_fixes(server.decisions.path)] == [
        (names[0], "relabel", "8"),
        (names[1], "keep", ""),
        (names[4], "move", ""),
    ]
    assert json.loads(ask(server, "decide", {"index": 0, "action": None, "label": None})[1]) == {"decided": 2}
    assert [one.path for one in read_fixes(server.decisions.path)] == [names[1], names[4]]


@pytest.mark.parametrize(
    "decision",
    [
        {"index": 6, "action": "keep", "label": None},
        {"index": -1, "action": "keep", "label": None},
        {"index": "0", "action": "keep", "label": None},
        {"index": 0, "action": "delete", "label": None},
        {"index": 0, "action": "relabel", "label": None},
        {"index": 0, "action": "relabel", "label": 10},
        {"index": 0, "action": "relabel", "label": 0},
        {"index": 0, "action": "relabel", "label": "1"},
        {"index": 0},
        [1],
    ],
)
def test_invalid_decisions_are_refused(server: ReviewServer, decision: object):
    """Decisions about unknown images, with an unknown action or class, or with the current class are not saved."""
    assert ask(server, "decide", decision)[0] == 400
    assert not server.decisions.path.exists()


def test_a_review_continues(digits: Path, tmp_path: Path, names: list[str]):
    """Decisions from an earlier review are shown, and rows about other images stay in the file."""
    output = tmp_path / "reviewed.csv"
    other = "val/" + next((digits / "val").glob("*/*")).relative_to(digits / "val").as_posix()
    # Without train/, as in the user's own list.
    write_fixes(output, [Fix(names[3].removeprefix("train/"), "relabel", "eight", "by hand"), Fix(other, "drop")])
    with serve_review(digits, tmp_path / "findings.csv", output) as server:
        assert json.loads(ask(server, "data")[1])["decisions"] == {"3": {"action": "relabel", "label": 8}}
        assert ask(server, "decide", {"index": 0, "action": "drop", "label": None})[0] == 200
    assert [(one.path, one.action) for one in read_fixes(output)] == [
        (names[0], "drop"),
        (names[3].removeprefix("train/"), "relabel"),
        (other, "drop"),
    ]


def test_findings_of_data_docs_can_be_reviewed(digits: Path, tmp_path: Path):
    """Each listed image appears once, with all its findings. Findings about other files are skipped."""
    images = list_images(digits, DatasetParameters(class_num=10))
    first, second = list(images.found["train"])[:2]
    rows = [(first, "is dark"), ("train/other.txt", "is not in any list"), (second, "is blank"), (first, "is blurred")]
    path = tmp_path / "findings.jsonl"
    path.write_text("".join(json.dumps({"path": name, "text": text}) + "\n" for name, text in rows))
    found = [(one.path, one.suggested, one.reason) for one in read_candidates(path, images)]
    assert found == [(first, None, "is dark; is blurred"), (second, None, "is blank")]


def test_near_duplicates_are_compared_and_the_other_label_is_suggested(digits: Path, tmp_path: Path):
    """The page gets the other image and the names of both classes, and suggests the class of the other image."""
    images = list_images(digits, DatasetParameters(class_num=10))
    zero, one = (next(name for name, label in images.found["train"].items() if label == wanted) for wanted in (0, 1))
    text = f"looks like {zero} with label 0, but has label 1 (3 of 144 bits differ, correlation 0.990)"
    path = tmp_path / "findings.jsonl"
    path.write_text(json.dumps({"path": one, "text": text, "other_path": zero}) + "\n")
    (candidate,) = read_candidates(path, images)
    assert (candidate.other, candidate.suggested) == (zero, 0)
    names = [images.classes[label].name for label in (0, 1)]
    assert f"with label 0 ({names[0]}), but has label 1 ({names[1]}) (3 of" in candidate.reason
    with serve_review(digits, path, tmp_path / "reviewed.csv") as server:
        (described,) = server.describe()["candidates"]  # type: ignore[index]
        assert (
            server.encode(described["otherImage"], 640).data
            == encode_image(lambda _: (digits / zero).read_bytes(), 0, 640).data
        )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("f.csv", "path,action,label,reason\nnone.JPEG,drop,,\n", r"row 1: 'none\.JPEG' is not in any list"),
        ("f.csv", "path,action,label,reason\n", "nothing to review"),
        ("f.jsonl", "{}\n", r"not a findings\.jsonl"),
    ],
)
def test_invalid_findings_are_reported(digits: Path, tmp_path: Path, name: str, text: str, message: str):
    """Unknown images, empty lists and files in other formats are reported before the server starts."""
    (tmp_path / name).write_text(text)
    with pytest.raises(ListFileError, match=message):
        read_candidates(tmp_path / name, list_images(digits, DatasetParameters(class_num=10)))


def test_a_used_port_is_reported(server: ReviewServer):
    """The error names the port and the option."""
    with pytest.raises(ParameterError, match=f"{server.server_port}.*--port"):
        ReviewServer(server.server_port, dict, server.decisions, bytes)


def test_a_changed_file_is_not_replaced(server: ReviewServer, names: list[str]):
    """If a second review or an editor changes the fix list, the next decision is rejected, and no decision is lost."""
    decision = {"index": 0, "action": "keep", "label": None}
    assert ask(server, "decide", decision)[0] == 200
    other = [Fix(names[0], "keep", "", "checked"), Fix(names[5], "drop", "", "blank")]
    write_fixes(server.decisions.path, other)
    status, message = ask(server, "decide", {**decision, "index": 1})
    assert (status, b"has changed the file" in message) == (500, True)
    assert read_fixes(server.decisions.path) == other
    assert len(server.decisions) == 1


def test_simultaneous_decisions_of_two_reviews_are_not_lost(
    digits: Path, tmp_path: Path, names: list[str], monkeypatch: pytest.MonkeyPatch
):
    """If a second review saves between the check and the write of the first, one of the decisions is refused."""
    images = list_images(digits, DatasetParameters(class_num=10))
    found = read_candidates(tmp_path / "findings.csv", images)
    first, second = (Decisions(tmp_path / "new" / "reviewed.csv", found, images) for _ in range(2))
    refused: list[OSError] = []

    def decide_too() -> None:
        try:
            second.decide(1, "drop", None)
        except OSError as error:
            refused.append(error)

    other = threading.Thread(target=decide_too)

    def write_late(path: Path, text: str) -> None:
        if threading.current_thread() is not other:
            other.start()
            other.join(timeout=0.5)  # ends at once unless it waits for the lock
        write_text(path, text)

    monkeypatch.setattr(candidates, "write_text", write_late)
    first.decide(0, "keep", None)
    other.join()
    assert [one.errno for one in refused] == [errno.EEXIST]
    assert read_fixes(first.path) == [Fix(names[0], "keep", "", found[0].reason)]
    assert (len(first), len(second)) == (1, 0)


def test_applied_decisions_are_not_shown_again(digits: Path, tmp_path: Path, names: list[str]):
    """After kedro data-fix, the next review of the same file starts without the decisions that were applied."""
    output, parameters = tmp_path / "reviewed.csv", DatasetParameters(class_num=10, patches=tmp_path / "patches")
    rows = [Fix(names[0], "relabel", "8"), Fix(names[1], "move", split="train"), Fix(names[2], "keep")]
    write_fixes(output, [*rows, Fix(names[5], "drop")])
    content, _ = make_patch(list_images(digits, parameters), read_fixes(output), source="", by="Ada", reason="")
    write_patch(tmp_path / "patches", content)
    write_fixes(tmp_path / "findings.csv", [Fix(name, "keep") for name in names[:5]])
    images = list_images(digits, parameters)
    decisions = Decisions(output, read_candidates(tmp_path / "findings.csv", images), images)
    assert decisions.describe() == {2: {"action": "keep", "label": None}}
    decisions.decide(1, "move", None)
    assert read_fixes(output) == [Fix(names[1], "move", split="val"), Fix(names[2], "keep")]


def test_an_unknown_class_in_earlier_decisions_is_reported(digits: Path, tmp_path: Path, names: list[str]):
    """The error is raised before the server starts, instead of showing an empty page."""
    write_fixes(tmp_path / "reviewed.csv", [Fix(names[0], "relabel", "ten")])
    with (
        pytest.raises(ListFileError, match="'ten' is not a class"),
        serve_review(digits, tmp_path / "findings.csv", tmp_path / "reviewed.csv"),
    ):
        pass


def test_class_names_that_are_numbers_differ_from_labels(tmp_path: Path):
    """On the page, 2 means the label 2, so the class named 2, whose label is 1, is shown with its label."""
    (tmp_path / "train_list.txt").write_text("a.png 0\nb.png 1\nc.png 2\n")
    (tmp_path / "val_list.txt").write_text("d.png 0\n")
    (tmp_path / "classes.txt").write_text("1\n2\nrose\n")
    images = list_images(tmp_path, DatasetParameters(lists=tmp_path))
    page = describe_candidates([], images, Decisions(tmp_path / "reviewed.csv", [], images))
    assert page["classes"] == ["1 (label 0)", "2 (label 1)", "rose"]


def test_label_issues_of_the_test_list_are_not_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Patches cannot change the test list, so its images are skipped. A file with no other images is an error."""
    for split, name in (("train", "a.png"), ("val", "b.png"), ("test", "c.png")):
        (tmp_path / f"{split}_list.txt").write_text(f"{name} 0\n")
    (tmp_path / "classes.txt").write_text("rose\ntulip\n")
    images = list_images(tmp_path, DatasetParameters(lists=tmp_path))
    write_fixes(tmp_path / "issues.csv", [Fix("c.png", "relabel", "1"), Fix("a.png", "relabel", "1")])
    assert [one.path for one in read_candidates(tmp_path / "issues.csv", images)] == ["a.png"]
    assert "skipped 1 image in the test list" in caplog.text
    write_fixes(tmp_path / "issues.csv", [Fix("c.png", "relabel", "1")])
    with pytest.raises(ListFileError, match="only images in the test list"):
        read_candidates(tmp_path / "issues.csv", images)


def test_classes_with_the_same_name_differ(tmp_path: Path):
    """If all images are in one folder, every class gets the folder's name, so the labels are shown too."""
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        (tmp_path / f"{split}_list.txt").write_text("images/a.png 0\nimages/b.png 1\n")
    images = list_images(tmp_path, DatasetParameters(class_num=2))
    page = describe_candidates([], images, Decisions(tmp_path / "reviewed.csv", [], images))
    assert page["classes"] == ["images (label 0)", "images (label 1)"]


def test_decisions_are_not_stored_in_data_docs(tmp_path: Path):
    """Each run replaces Data Docs, so decisions about its findings are saved in the parent folder."""
    docs = tmp_path / "08_reporting" / "data_docs"
    docs.mkdir(parents=True)
    assert choose_output(docs / "findings.jsonl", None, docs) == tmp_path / "08_reporting" / "findings.reviewed.csv"
    assert choose_output(tmp_path / "label_issues.csv", None, docs) == tmp_path / "label_issues.reviewed.csv"
    assert choose_output(docs / "findings.jsonl", tmp_path / "mine.csv", docs) == tmp_path / "mine.csv"
    with pytest.raises(ParameterError, match="in the Data Docs folder"):
        choose_output(docs / "findings.jsonl", docs / "mine.csv", docs)
