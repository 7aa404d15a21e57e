"""Run the command line in the tests' own process."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import midframe.cli.app
from process import InProcessCommand


@pytest.fixture
def run_in_process(capfd: pytest.CaptureFixture[str]) -> InProcessCommand:
    """`run_in_process("convert", ...)` runs a command in this process, which is faster than starting another one."""

    def command(*arguments: object) -> SimpleNamespace:
        code = midframe.cli.app.run([*map(str, arguments)])
        out, err = capfd.readouterr()
        return SimpleNamespace(returncode=code, stdout=out, stderr=err)

    return command
