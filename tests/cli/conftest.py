"""The command line in the tests' own process."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import midframe.cli.app
from process import Command


@pytest.fixture
def here(capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs the command in this process, which spares loading everything again."""

    def command(*arguments: object) -> SimpleNamespace:
        code = midframe.cli.app.run([*map(str, arguments)])
        out, err = capfd.readouterr()
        return SimpleNamespace(returncode=code, stdout=out, stderr=err)

    return command
