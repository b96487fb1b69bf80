"""Provides the clone in which the tests run the documented commands."""

from __future__ import annotations

import pytest
from documented_project import DocumentedProject


@pytest.fixture(scope="session")
def documented(tmp_path_factory: pytest.TempPathFactory) -> DocumentedProject:
    """A clone of the project with its environment, before the first command is run."""
    return DocumentedProject(tmp_path_factory.mktemp("documented") / "project")
