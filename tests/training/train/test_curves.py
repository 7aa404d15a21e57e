"""Curves of training runs."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from midframe.errors import DeviceError, InputError, OutputError
from midframe.training.train.curves import draw_curves
from runs import write_log

SECOND_COLOUR = (255, 127, 14)
"""Matplotlib's colour of the second run, RGB."""


def test_curves_of_several_runs_share_a_figure(tmp_path: Path) -> None:
    for name, steps in (("one", range(1, 9)), ("two", range(1, 5))):
        write_log(tmp_path / name, steps)
    target = tmp_path / "curves.png"
    draw_curves([tmp_path / "one"], target)
    alone = np.asarray(Image.open(target).convert("RGB"))
    draw_curves([tmp_path / "one", tmp_path / "two"], target)
    both = np.asarray(Image.open(target).convert("RGB"))
    assert alone.shape == both.shape
    pixels = [(np.abs(picture - np.array(SECOND_COLOUR)).sum(2) < 10).sum() for picture in (alone, both)]
    assert pixels[0] == 0
    assert pixels[1] > 50


def test_missing_logs_and_folders_are_errors(tmp_path: Path) -> None:
    write_log(tmp_path / "one", range(1, 9))
    with pytest.raises(OutputError, match="cannot be written"):
        draw_curves([tmp_path / "one"], tmp_path / "nowhere" / "curves.png")
    with pytest.raises(InputError, match="is no folder of a training run"):
        draw_curves([tmp_path], tmp_path / "curves.png")


def test_without_matplotlib_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_import: Callable[..., Any] = builtins.__import__

    def import_without_matplotlib(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name.split(".", maxsplit=1)[0] == "matplotlib":
            raise ImportError(name)
        return real_import(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", import_without_matplotlib)
    with pytest.raises(DeviceError, match=r"midframe\[train\]"):
        draw_curves([tmp_path], tmp_path / "curves.png")
