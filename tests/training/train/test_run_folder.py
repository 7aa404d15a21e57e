"""What a run leaves in its folder, and the curves of several."""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from midframe.errors import DeviceError, InputError, OutputError
from midframe.training.config import read_config
from midframe.training.train import run_folder
from midframe.training.train.run_folder import Log, begin, draw_curves, read_log, sheet
from runs import GUIDED, files_of_at_most


def write(out: Path, steps: range, after: int = 0) -> None:
    begin(out, GUIDED)
    with Log(out, after) as log:
        for step in steps:
            log.write(step, "train", {"samples": step * 4, "total": 10.0 / step, "norm": 1.0})
            if step % 2 == 0:
                log.write(step, "held", {"samples": step * 4, "psnr": 20.0 + step})


def write_lines(out: Path, lines: list[dict[str, Any]]) -> None:
    with Log(out, 0) as log:
        for step, line in enumerate(lines):
            log.write(step, "train", line)


def test_the_settings_and_the_machine_are_written(tmp_path: Path) -> None:
    begin(tmp_path, GUIDED)
    assert read_config(json.loads((tmp_path / "config.json").read_text())) == GUIDED
    machine = json.loads((tmp_path / "environment.json").read_text())
    assert machine["torch"] == torch.__version__
    assert machine["cores"] >= 1


def test_a_log_that_goes_on_loses_the_steps_that_are_made_again(tmp_path: Path) -> None:
    write(tmp_path, range(1, 7))
    whole = read_log(tmp_path)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 7, "ki')  # killed while it wrote
    assert read_log(tmp_path) == whole
    write(tmp_path, range(5, 7), after=4)
    assert read_log(tmp_path) == whole
    write(tmp_path, range(1, 3))
    assert [line["step"] for line in read_log(tmp_path)] == [1, 2, 2]


def test_a_log_damaged_in_its_middle_is_said(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1}\nrubbish\n{"step": 2}\n')
    with pytest.raises(InputError, match="damaged in line 2"):
        read_log(tmp_path)
    with pytest.raises(InputError, match="is no folder of a training run"):
        read_log(tmp_path / "elsewhere")


def test_tensorboard_gets_the_same(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    write(tmp_path, range(1, 5))
    with Log(tmp_path, 4) as log:
        log.show(4, torch.zeros(3, 4, 6, dtype=torch.uint8))
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(each.step, each.value) for each in events.Scalars("held/psnr")] == [(2, 22.0), (4, 24.0)]
    assert [each.value for each in events.Scalars("train/total")] == pytest.approx([10, 5, 10 / 3, 2.5])
    assert events.Images("held/pictures")[0].width == 6


def test_a_full_disk_is_said_in_one_line(tmp_path: Path) -> None:
    begin(tmp_path, GUIDED)
    line = {"samples": 4, "words": "x" * 600}
    with pytest.raises(OutputError, match=r"cannot be written: File too large") as caught, files_of_at_most(1000):
        write_lines(tmp_path, [line] * 3)
    assert "\n" not in str(caught.value)
    assert [found["step"] for found in read_log(tmp_path)] == [0]


def test_a_picture_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    begin(tmp_path, GUIDED)
    (tmp_path / "pictures").rmdir()
    with pytest.raises(OutputError, match="cannot be written: No such file"), Log(tmp_path, 0) as log:
        log.show(1, torch.zeros(3, 4, 6, dtype=torch.uint8))


@pytest.mark.parametrize("line", ["3", "[]", '{"kind": "train"}'])
def test_lines_that_are_of_no_run_are_said(tmp_path: Path, line: str) -> None:
    (tmp_path / "log.jsonl").write_text(f'{line}\n{{"step": 1, "kind": "train", "samples": 4}}\n')
    with pytest.raises(InputError, match="damaged in line 1"):
        read_log(tmp_path)


def test_a_sheet_of_pictures_is_read_row_by_row(tmp_path: Path) -> None:
    rows = torch.arange(2 * 4, dtype=torch.float32).view(2, 4, 1, 1, 1).expand(2, 4, 3, 5, 6) * 40 - 10.4
    picture = sheet(rows)
    assert (picture.shape, picture.dtype) == ((3, 10, 24), torch.uint8)
    assert picture[0, ::5, ::6].tolist() == [[0, 30, 70, 110], [150, 190, 230, 255]]
    begin(tmp_path, GUIDED)
    with Log(tmp_path, 0) as log:
        log.show(12, picture)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "pictures" / "step-0000012.png")), picture.permute(1, 2, 0))


def test_curves_of_several_runs_lie_in_one_picture(tmp_path: Path) -> None:
    for name, steps in (("one", range(1, 9)), ("two", range(1, 5))):
        write(tmp_path / name, steps)
    target = tmp_path / "curves.png"
    draw_curves([tmp_path / "one"], target)
    alone = np.asarray(Image.open(target).convert("RGB"))
    draw_curves([tmp_path / "one", tmp_path / "two"], target)
    both = np.asarray(Image.open(target).convert("RGB"))
    assert alone.shape == both.shape
    orange = [(np.abs(picture - np.array((255, 127, 14))).sum(2) < 10).sum() for picture in (alone, both)]
    assert orange[0] == 0  # matplotlib's second colour
    assert orange[1] > 50
    with pytest.raises(OutputError, match="cannot be written"):
        draw_curves([tmp_path / "one"], tmp_path / "nowhere" / "curves.png")
    with pytest.raises(InputError, match="is no folder of a training run"):
        draw_curves([tmp_path], target)


def test_without_the_extras_a_log_is_written_and_curves_say_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., Any] = builtins.__import__

    def without(name: str, *given: Any, **named: Any) -> Any:
        if name.split(".", maxsplit=1)[0] in ("matplotlib", "PIL", "tensorboard") or name == "torch.utils.tensorboard":
            raise ImportError(name)
        return real(name, *given, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    write(tmp_path, range(1, 4))
    with Log(tmp_path, 3) as log:
        log.show(3, torch.zeros(3, 4, 6, dtype=torch.uint8))
    assert len(read_log(tmp_path)) == 4
    assert not (tmp_path / "tensorboard").exists()
    with pytest.raises(DeviceError, match=r"midframe\[train\]"):
        run_folder.draw_curves([tmp_path], tmp_path / "curves.png")
