"""What the tests of the pages share: one clone in which the documented commands run."""

from __future__ import annotations

import pytest
from documented_project import DocumentedProject


@pytest.fixture(scope="session")
def documented(tmp_path_factory: pytest.TempPathFactory) -> DocumentedProject:
    """A clone of the project with its environment, in which nothing has run yet."""
    return DocumentedProject(tmp_path_factory.mktemp("documented") / "project")
