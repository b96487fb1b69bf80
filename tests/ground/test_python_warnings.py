"""PYTHONWARNINGS=error does not make a command fail inside a library."""

from __future__ import annotations

import sys
import warnings

import pytest

from resnet50_pipeline.python_warnings import show_warnings_of_libraries


@pytest.mark.parametrize(
    ("options", "raises"),
    [
        (["error"], False),
        (["default", "error::UserWarning"], False),
        ([], True),
        (["error::UserWarning:resnet50_pipeline"], True),
    ],
)
def test_only_a_setting_for_all_modules_is_replaced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str], raises: bool
) -> None:
    """If warnings are errors in all modules, they are shown instead, with a note."""
    monkeypatch.setattr(sys, "warnoptions", options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        show_warnings_of_libraries()
        if raises:
            with pytest.raises(UserWarning):
                warnings.warn("of a library", UserWarning, stacklevel=1)
        else:
            warnings.warn("of a library", UserWarning, stacklevel=1)
    assert ("PYTHONWARNINGS" in capsys.readouterr().err) is not raises
