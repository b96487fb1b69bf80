"""DVC stores and imports archives and shards in data/ as links, and both git and DVC ignore the same files."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from dvc.repo import Repo
from PIL import Image
from repository import Repository

from resnet50_pipeline.files import digest_file, unshare_files
from resnet50_pipeline.imagenet.archives.images import index_archives

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

RAW = "data/imagenet/01_raw"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository with this project's settings."""
    return Repository.create(tmp_path / "repository")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A small ILSVRC2012_img_val.tar of 8 MB, outside the repository."""
    return write_archive(tmp_path / "published" / "ILSVRC2012_img_val.tar")


def write_archive(path: Path, seed: int = 0) -> Path:
    """Write a plain tar file that contains one image under many names; the seed determines the image."""
    buffer = io.BytesIO()
    Image.effect_noise((32, 32), 64 + seed).save(buffer, "JPEG")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number in range(1, 4001):
            member = tarfile.TarInfo(f"ILSVRC2012_val_{number:08d}.JPEG")
            member.size = len(buffer.getvalue())
            tar.addfile(member, io.BytesIO(buffer.getvalue()))
    return path


def used_bytes(folder: Path) -> int:
    """Return the disk space used by the files in a folder, counting hard links once."""
    stats = {(one.st_dev, one.st_ino): one.st_blocks * 512 for path in folder.rglob("*") if (one := path.lstat())}
    return sum(stats.values())


def test_an_added_archive_uses_disk_space_once(repository: Repository, archive: Path) -> None:
    """After `dvc add`, the cache and the workspace share one read-only file."""
    (repository.root / RAW).mkdir(parents=True)
    added = repository.root / RAW / archive.name
    archive.replace(added)
    size = added.stat().st_size
    before = used_bytes(repository.root)
    repository.dvc("add", f"{RAW}/{archive.name}")
    assert added.stat().st_nlink == 2
    assert added.stat().st_mode & 0o777 == 0o444
    assert used_bytes(repository.root) - before < size / 4
    assert repository.git("status", "--porcelain", "--untracked-files=all") == f"?? {RAW}/{archive.name}.dvc\n"


def test_an_added_folder_uses_disk_space_once_after_relink(repository: Repository) -> None:
    """DVC 3.67 copies the files in a folder to its cache; `dvc checkout --relink` replaces them with links."""
    folder = repository.root / RAW / "shards"
    for number in range(3):
        write_archive(folder / f"{number}.tar", number)
    repository.dvc("add", f"{RAW}/shards")
    repository.dvc("checkout", "--relink", f"{RAW}/shards.dvc")
    assert {path.stat().st_nlink for path in folder.iterdir()} == {2}


@pytest.mark.parametrize("name", ["README.md", "imagenet/01_raw/train.dvc", "imagenet/01_raw/.gitignore"])
def test_git_and_dvc_see_the_small_files(repository: Repository, name: str) -> None:
    """Neither git nor DVC ignores the files in data/ that git tracks."""
    assert not _ignored_by_dvc(repository, f"data/{name}")
    assert not _ignored_by_git(repository, f"data/{name}")


@pytest.mark.parametrize(
    "name", ["imagenet/01_raw/train/n01440764/a.JPEG", "sample/08_reporting/metrics.json", "test/mlflow.db"]
)
def test_git_and_dvc_ignore_data_and_results(repository: Repository, name: str) -> None:
    """Git and DVC ignore images and results, including metrics."""
    assert _ignored_by_dvc(repository, f"data/{name}")
    assert _ignored_by_git(repository, f"data/{name}")


def test_added_data_is_found_without_arguments(repository: Repository, archive: Path) -> None:
    """`dvc status` and `dvc push` without arguments include the data in data/*/01_raw."""
    (repository.root / RAW).mkdir(parents=True)
    added = archive.replace(repository.root / RAW / archive.name)
    repository.dvc("add", f"{RAW}/{archive.name}")
    added.unlink()
    assert f"deleted:            {RAW}/{archive.name}" in repository.dvc("status")


def test_archives_that_are_symbolic_links_are_read(repository: Repository, archive: Path) -> None:
    """With symbolic links (cache.type symlink), the scan reads archives through the links."""
    repository.dvc("config", "--local", "cache.type", "symlink")
    (repository.root / RAW).mkdir(parents=True)
    added = archive.replace(repository.root / RAW / archive.name)
    repository.dvc("add", f"{RAW}/{archive.name}")
    assert added.is_symlink()
    assert len(index_archives({"val": added}, 1)["val"].names) == 4000


def test_an_archive_is_imported_from_a_folder(repository: Repository, archive: Path) -> None:
    """`dvc import-url` of a local file stores a linked version, and `dvc update` stores a new one."""
    (repository.root / RAW).mkdir(parents=True)
    _import_and_update(repository, str(archive), archive)


@pytest.fixture
def published(archive: Path) -> Iterator[str]:
    """The address of an HTTP server that serves the archive and sends an ETag."""

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(archive.parent))  # type: ignore[arg-type]

        def end_headers(self) -> None:
            if self.path.endswith(".tar"):
                self.send_header("ETag", f'"{digest_file(archive)}"')
            super().end_headers()

        def log_message(self, *_arguments: object) -> None:
            """Suppress the request log."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_arguments: object) -> None:
            """Ignore the error from DVC closing the connection after the headers."""

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/{archive.name}"
        server.shutdown()


def test_an_archive_is_imported_from_a_server(repository: Repository, archive: Path, published: str) -> None:
    """An import over HTTP detects new versions by the server's ETag."""
    (repository.root / RAW).mkdir(parents=True)
    _import_and_update(repository, published, archive)


def _import_and_update(repository: Repository, address: str, archive: Path) -> None:
    imported = repository.root / RAW / archive.name
    repository.dvc("import-url", address, f"{RAW}/{archive.name}")
    assert digest_file(imported) == digest_file(archive)
    assert imported.stat().st_nlink == 2
    assert "up to date" in repository.dvc("status")
    write_archive(archive, seed=1)
    # An import is frozen: only `dvc update` looks for a new version.
    assert digest_file(imported) != digest_file(archive)
    repository.dvc("update", f"{RAW}/{archive.name}.dvc")
    assert digest_file(imported) == digest_file(archive)


def test_a_file_with_two_names_gets_its_own_content(tmp_path: Path) -> None:
    """After `unshare_files`, appending changes only the folder; files with a single name are not rewritten."""
    cached, folder = tmp_path / "cached", tmp_path / "folder"
    (folder / "log").mkdir(parents=True)
    cached.write_text("before")
    cached.chmod(0o444)
    os.link(cached, folder / "log" / "events.jsonl")
    (folder / "link").symlink_to(cached)
    own = folder / "own"
    own.write_text("own")
    inode = own.stat().st_ino
    unshare_files(folder)
    for path in (folder / "log" / "events.jsonl", folder / "link"):
        with path.open("a") as file:
            file.write(", after")
        assert path.read_text() == "before, after"
    assert cached.read_text() == "before"
    assert own.stat().st_ino == inode


def _ignored_by_dvc(repository: Repository, name: str) -> bool:
    with Repo(repository.root) as dvc:
        parts = Path(name).parts
        folders = ["/".join(parts[:count]) + "/" for count in range(1, len(parts))]
        return any(dvc.scm.is_ignored(f"{repository.root}/{path}") for path in (*folders, name))


def _ignored_by_git(repository: Repository, name: str) -> bool:
    command = ["git", "check-ignore", "--quiet", name]
    return subprocess.run(command, cwd=repository.root, check=False).returncode == 0
