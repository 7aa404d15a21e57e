"""The files of a run folder: settings, environment, log, TensorBoard events and pictures."""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from midframe.errors import InputError, OutputError
from midframe.training.config_file import read_config
from midframe.training.train.run_folder import RunLog, create, read_log
from midframe.training.train.validation import tile_pictures
from runs import GUIDED, file_size_limit, write_log

PICTURE = torch.zeros(3, 4, 6, dtype=torch.uint8)


def write_lines(folder: Path, lines: list[Mapping[str, Any]]) -> None:
    with RunLog(folder, 0) as log:
        for step, line in enumerate(lines):
            log.write(step, "train", line)


def test_settings_and_environment_are_written(tmp_path: Path) -> None:
    create(tmp_path, GUIDED)
    assert read_config(json.loads((tmp_path / "config.json").read_text())) == GUIDED
    environment = json.loads((tmp_path / "environment.json").read_text())
    assert environment["torch"] == torch.__version__
    assert environment["cores"] >= 1


def test_a_continued_log_drops_the_lines_after_its_step(tmp_path: Path) -> None:
    write_log(tmp_path, range(1, 7))
    whole = read_log(tmp_path)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 7, "ki')  # killed while writing
    assert read_log(tmp_path) == whole
    write_log(tmp_path, range(5, 7), after=4)
    assert read_log(tmp_path) == whole
    write_log(tmp_path, range(1, 3))
    assert [line["step"] for line in read_log(tmp_path)] == [1, 2, 2]


def test_a_log_damaged_in_its_middle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1}\nrubbish\n{"step": 2}\n')
    with pytest.raises(InputError, match="damaged in line 2"):
        read_log(tmp_path)
    with pytest.raises(InputError, match="is no folder of a training run"):
        read_log(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("3", id="number"),
        pytest.param("[]", id="list"),
        pytest.param('{"kind": "train"}', id="no step"),
    ],
)
def test_a_line_that_is_not_of_a_training_log_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "log.jsonl").write_text(f'{line}\n{{"step": 1, "kind": "train", "samples": 4}}\n')
    with pytest.raises(InputError, match="damaged in line 1"):
        read_log(tmp_path)


def test_tensorboard_gets_the_values_of_the_log(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    write_log(tmp_path, range(1, 5))
    with RunLog(tmp_path, 4) as log:
        log.write_picture(4, PICTURE)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("validation/psnr")] == [(2, 22.0), (4, 24.0)]
    assert [event.value for event in events.Scalars("train/total")] == pytest.approx([10, 5, 10 / 3, 2.5])
    assert events.Images("validation/pictures")[0].width == 6


def test_a_full_disk_is_an_error_in_one_line(tmp_path: Path) -> None:
    create(tmp_path, GUIDED)
    line = {"samples": 4, "words": "x" * 600}
    with pytest.raises(OutputError, match=r"cannot be written: File too large") as caught, file_size_limit(1000):
        write_lines(tmp_path, [line] * 3)
    assert "\n" not in str(caught.value)
    assert [entry["step"] for entry in read_log(tmp_path)] == [0]


def test_a_picture_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    create(tmp_path, GUIDED)
    (tmp_path / "pictures").rmdir()
    with pytest.raises(OutputError, match="cannot be written: No such file"), RunLog(tmp_path, 0) as log:
        log.write_picture(1, PICTURE)


def test_pictures_are_tiled_row_by_row(tmp_path: Path) -> None:
    rows = torch.arange(2 * 4, dtype=torch.float32).view(2, 4, 1, 1, 1).expand(2, 4, 3, 5, 6) * 40 - 10.4
    picture = tile_pictures(rows)
    assert (picture.shape, picture.dtype) == ((3, 10, 24), torch.uint8)
    assert picture[0, ::5, ::6].tolist() == [[0, 30, 70, 110], [150, 190, 230, 255]]
    create(tmp_path, GUIDED)
    with RunLog(tmp_path, 0) as log:
        log.write_picture(12, picture)
    stored = np.asarray(Image.open(tmp_path / "pictures" / "step-0000012.png"))
    assert np.array_equal(stored, picture.permute(1, 2, 0))


def test_without_tensorboard_and_pillow_the_log_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_import: Callable[..., Any] = builtins.__import__

    def import_without(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name.split(".", maxsplit=1)[0] in ("PIL", "tensorboard") or name == "torch.utils.tensorboard":
            raise ImportError(name)
        return real_import(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", import_without)
    write_log(tmp_path, range(1, 4))
    with RunLog(tmp_path, 3) as log:
        log.write_picture(3, PICTURE)
    assert len(read_log(tmp_path)) == 4
    assert not (tmp_path / "tensorboard").exists()
