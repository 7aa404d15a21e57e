"""Builds: the right frames in the right order, the same bytes however they were built, and no film ends a build."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import midframe.training.build.build as building
from films import Film, bit_flips, draw, moov_missing, read_planes, read_times, rgb_of, text
from midframe.errors import InputError, MidframeError, OutputError, SettingError
from midframe.training.build import BuildProgress, BuildSummary, DatasetSettings, build_dataset
from midframe.training.build.jobs import Job
from midframe.training.data.shards import decode, read_shards

SIZE = {"width": 240, "height": 192}
GOOD = {
    "texture.mkv": Film(**SIZE, frames=50, rate=Fraction(25), codec="ffv1", scene="texture"),
    "shapes.mp4": Film(**SIZE, frames=75, rate=Fraction(25), speed=(5.0, 2.0), cuts=(26,)),
    "quick.mp4": Film(**SIZE, frames=30, rate=Fraction(30), scene="texture", speed=(9.0, -4.0)),
}
SETTINGS = DatasetSettings(jpeg=None)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of films: three good ones, and one for each way in which a film cannot be used."""
    folder = tmp_path_factory.mktemp("films")
    for name, film in GOOD.items():
        draw(film, folder / name)
    draw(Film(**SIZE, frames=25, rate=Fraction(25), scene="static"), folder / "still.mp4")
    draw(Film(frames=25, rate=Fraction(25)), folder / "small.mp4")
    draw(Film(**SIZE, frames=25, rate=Fraction(25), interlaced=True), folder / "fields.mp4")
    moov_missing(folder / "shapes.mp4", folder / "broken.mp4")
    text(folder / "letter.mkv")
    text(folder / "readme.txt")
    (folder / "more").mkdir()
    shutil.copy(folder / "shapes.mp4", folder / "more" / "copy.mp4")
    return folder


@pytest.fixture(scope="module")
def built(films: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BuildSummary]:
    """Return the folder and the summary of a build by two real worker processes."""
    out = tmp_path_factory.mktemp("built") / "data"
    return out, build_dataset([films], out, SETTINGS, workers=2)


@pytest.fixture(autouse=True)
def in_this_process(built: tuple[Path, BuildSummary], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run jobs one after the other in this process, after `built` has run with real worker processes."""

    @contextmanager
    def pool(workers: int) -> Iterator[Callable[[Iterable[Job]], Iterator[tuple[Job, bytes]]]]:
        yield lambda jobs: ((job, job.run(lambda: None)) for job in jobs)

    monkeypatch.setattr(building, "local_pool", pool)


def contents(folder: Path) -> dict[str, bytes]:
    assert not (folder / ".work").exists()
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def lines(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [
        line for line in map(json.loads, (folder / "manifest.jsonl").read_text().splitlines()) if line["kind"] == kind
    ]


def test_summary_counts_films_clips_and_samples(built: tuple[Path, BuildSummary]) -> None:
    _, summary = built
    assert summary.counts["films"] == {"broken": 2, "duplicate": 1, "skipped": 2, "used": 3, "without samples": 1}
    assert summary.counts["clips"] == 2 + 3 + 1 + 1
    assert sum(summary.counts["samples"].values()) == 6
    assert set(summary.counts["left_out"]) == {"broken.mp4", "letter.mkv", "small.mp4", "fields.mp4", "shapes.mp4"} or (
        set(summary.counts["left_out"]) == {"broken.mp4", "letter.mkv", "small.mp4", "fields.mp4", "copy.mp4"}
    )
    assert "96 lines" in summary.counts["left_out"]["small.mp4"]
    assert "interlaced" in summary.counts["left_out"]["fields.mp4"]
    assert summary.counts["clips_without_sample"] == {"no good window": 1}
    assert summary.decoding_fraction is not None
    assert 0 < summary.decoding_fraction < 1


def test_manifest_lists_films_clips_rejections_and_samples(built: tuple[Path, BuildSummary]) -> None:
    out, summary = built
    described = json.loads((out / "dataset.json").read_text())
    assert described["format"] == "midframe.dataset/1"
    assert described["counts"] == summary.counts
    samples = {sample.key: sample for split in ("train", "validation") for sample in read_shards(out, split)}
    assert {line["key"] for line in lines(out, "sample")} == set(samples)
    assert len(lines(out, "clip")) == summary.counts["clips"]
    assert Counter(line["reason"] for line in lines(out, "rejection")) == summary.counts["rejected_windows"]
    for line in lines(out, "rejection"):
        assert len(line["times"]) == 3
        assert len(line["steps"]) == len(line["distances"]) == 2
    films = [line["film_id"] for line in lines(out, "film") if line["status"] in ("used", "without samples", "skipped")]
    assert films == sorted(films)
    order = [(line["film_id"], line["clip"]) for line in lines(out, "sample")]
    assert order == sorted(order)


def test_stored_frames_are_frames_of_the_film(built: tuple[Path, BuildSummary], films: Path) -> None:
    """Compared with a decoder and colour arithmetic that share nothing with the builder; scores are recomputed."""
    out, _ = built
    for sample in [*read_shards(out), *read_shards(out, "validation")]:
        info = sample.info
        name = "shapes.mp4" if info["name"] == "copy.mp4" else info["name"]
        times, planes = read_times(films / name), read_planes(films / name)
        at = [times.index(Fraction(time)) for time in info["times"]]
        assert at == list(range(at[0], at[0] + 3))
        pictures = [decode(frame) for frame in sample.frames]
        for picture, k in zip(pictures, at, strict=True):
            truth = np.clip(rgb_of(GOOD[name], planes[k]) * 255, 0, 255)
            assert picture.shape == truth.shape == (info["height"], info["width"], 3)
            assert np.abs(picture - truth).max() <= 1.01
        outer = (pictures[0].astype(float) - pictures[2]) ** 2
        assert info["difference"] == pytest.approx(outer.mean(), rel=1e-3, abs=1e-3)
        assert info["deviation"] == pytest.approx(min(p.astype(float).std((0, 1)).mean() for p in pictures), abs=1e-2)
        if GOOD[name].scene == "texture":
            assert info["motion"] == pytest.approx(2 * np.hypot(*GOOD[name].speed), rel=0.1)
        assert "." not in sample.key


def test_a_clip_with_a_cut_gives_a_window_after_the_cut(films: Path, tmp_path: Path) -> None:
    """The second clip begins at frame 25, so its first window spans the cut at frame 26."""
    build_dataset([films / "shapes.mp4"], tmp_path / "data", SETTINGS)
    (rejected,) = lines(tmp_path / "data", "rejection")
    assert (rejected["clip"], rejected["reason"], rejected["times"]) == (1, "cut", ["1", "26/25", "27/25"])
    second = next(line for line in lines(tmp_path / "data", "sample") if line["clip"] == 1)
    assert second["times"] == ["26/25", "27/25", "28/25"]


def test_bytes_do_not_depend_on_workers_jobs_or_order_of_films(
    built: tuple[Path, BuildSummary], films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process instead of two, two clips a job, films in reverse order."""
    monkeypatch.setattr(building, "CLIPS_PER_JOB", 2)
    given = sorted((path for path in films.rglob("*.m*")), reverse=True)
    build_dataset(given, tmp_path / "data", SETTINGS)
    assert contents(tmp_path / "data") == contents(built[0])


class Stopped(Exception):  # noqa: N818
    pass


def test_a_build_stopped_at_any_file_continues(
    built: tuple[Path, BuildSummary], films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after each job and at each file of the last step: the bytes are the same, and no job is run twice."""
    monkeypatch.setattr(building, "CLIPS_PER_JOB", 2)
    sync, stops, done = os.fsync, 0, []

    def syncing(file: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Stopped
        sync(file)

    monkeypatch.setattr(os, "fsync", syncing)
    while True:
        left = stops
        before = {path.name for path in (tmp_path / "data" / ".work").glob("*")} if stops else set()
        done.append(len([name for name in before if not name.endswith(".part")]))
        try:
            summary = build_dataset([films], tmp_path / "data", SETTINGS)
        except Stopped:
            stops += 1
            assert not (tmp_path / "data" / "dataset.json").exists()
            continue
        break
    assert stops > 5
    assert done == sorted(done)
    assert summary.resumed_jobs == summary.jobs
    assert summary.counts == built[1].counts
    assert contents(tmp_path / "data") == contents(built[0])


def test_a_finished_data_set_is_not_changed(built: tuple[Path, BuildSummary], films: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    shutil.copytree(built[0], out)
    (out / ".work").mkdir()  # left by a process that was killed at the very end
    summary = build_dataset([films], out, SETTINGS)
    assert (summary.jobs, summary.counts) == (0, built[1].counts)
    assert contents(out) == contents(built[0])


def test_other_settings_and_films_are_refused(built: tuple[Path, BuildSummary], films: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="window 3 there, 5 here"):
        build_dataset([films], built[0], replace(SETTINGS, window=5))
    with pytest.raises(SettingError, match="not of these 1"):
        build_dataset([films / "quick.mp4"], built[0], SETTINGS)

    def stop(progress: BuildProgress) -> None:
        if progress.stage == "clips":
            raise Stopped

    with pytest.raises(Stopped):
        build_dataset([films], tmp_path / "data", SETTINGS, progress=stop)
    with pytest.raises(SettingError, match="seed 0 there, 1 here"):
        build_dataset([films], tmp_path / "data", replace(SETTINGS, seed=1))
    with pytest.raises(InputError, match="not finished"):
        list(read_shards(tmp_path / "data"))


def test_a_folder_with_other_files_is_refused(films: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="not empty"):
        build_dataset([films / "quick.mp4"], tmp_path, SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_two_builds_at_once_are_refused(films: Path, tmp_path: Path) -> None:
    pytest.importorskip("fcntl")

    def again(_: BuildProgress) -> None:
        build_dataset([films / "quick.mp4"], tmp_path / "data", SETTINGS)

    with pytest.raises(OutputError, match="another process"):
        build_dataset([films / "quick.mp4"], tmp_path / "data", SETTINGS, progress=again)


@pytest.mark.parametrize("window", [5, 7])
def test_longer_windows(window: int, films: Path, tmp_path: Path) -> None:
    build_dataset([films / "texture.mkv"], tmp_path / "data", replace(SETTINGS, window=window, jpeg=90))
    found = list(read_shards(tmp_path / "data"))
    assert len(found) == 2
    for sample in found:
        times = [Fraction(time) for time in sample.info["times"]]
        assert len(sample.frames) == len(times) == window
        assert {b - a for a, b in pairwise(times)} == {Fraction(1, 25)}
        assert all(frame.startswith(b"\xff\xd8") for frame in sample.frames)


def test_validation_films(films: Path, tmp_path: Path) -> None:
    """A film is in one split only; the validation films are chosen by name, or by fraction and seed."""
    chosen = set()
    for seed in range(4):
        out = tmp_path / str(seed)
        build_dataset([films], out, replace(SETTINGS, seed=seed, validation_fraction=0.34))
        validation, train = (
            {sample.info["film_id"] for sample in read_shards(out, split)} for split in ("validation", "train")
        )
        assert (len(validation), len(train), validation & train) == (1, 2, set())
        chosen |= validation
    assert len(chosen) > 1
    build_dataset([films], tmp_path / "named", replace(SETTINGS, validation_films=("quick*",)))
    assert {sample.info["name"] for sample in read_shards(tmp_path / "named", "validation")} == {"quick.mp4"}
    build_dataset([films], tmp_path / "none", replace(SETTINGS, validation_fraction=0.0))
    assert len(list(read_shards(tmp_path / "none"))) == 6
    with pytest.raises(InputError, match="no film that gave samples"):
        build_dataset([films], tmp_path / "nobody", replace(SETTINGS, validation_films=("nobody*",)))


def test_shards_stay_below_their_size_limit(films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "data"
    build_dataset([films], out, replace(SETTINGS, shard_megabytes=1, validation_fraction=0.0))
    paths = sorted(out.glob("train-*.tar"))
    assert len(paths) > 1
    assert all(path.stat().st_size <= 1_000_000 + 20_480 for path in paths)
    assert len(list(read_shards(out))) == 6


def test_variable_rate_and_repeated_frames(tmp_path: Path) -> None:
    """Windows at uneven times are rejected, and so is every window of a still film."""
    uneven = tuple(Fraction(k, 25) + (Fraction(1, 50) if k % 4 == 1 else 0) for k in range(25))
    draw(Film(**SIZE, times=uneven, scene="texture"), tmp_path / "uneven.mkv")
    draw(Film(**SIZE, frames=25, rate=Fraction(25), codec="ffv1", scene="static"), tmp_path / "still.mkv")
    build_dataset([tmp_path], tmp_path / "data", SETTINGS)
    (sample,) = read_shards(tmp_path / "data")
    times = [Fraction(time) for time in sample.info["times"]]
    assert times[2] - times[1] == times[1] - times[0]
    reasons = Counter(
        (line["film_id"] == sample.info["film_id"], line["reason"]) for line in lines(tmp_path / "data", "rejection")
    )
    assert (True, "uneven times") in reasons
    assert reasons[False, "repeated"] == 12


def test_damage_is_reported_and_other_films_are_built(films: Path, tmp_path: Path) -> None:
    whole = draw(replace(GOOD["shapes.mp4"], container_options={"movflags": "+faststart"}), tmp_path / "whole.mp4")
    flipped = bit_flips(whole, 600, 5, tmp_path / "flipped.mp4", first=0.2)
    summary = build_dataset([flipped, films / "quick.mp4"], tmp_path / "data", SETTINGS)
    assert summary.counts["clips_without_sample"].get("damaged", 0) >= 1
    assert "quick.mp4" in {sample.info["name"] for sample in read_shards(tmp_path / "data")} | {
        sample.info["name"] for sample in read_shards(tmp_path / "data", "validation")
    }


def test_clips_that_crash_their_workers_are_left_out(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool takes a job's `crash_result` then; here it does so for the second clip of the film."""

    @contextmanager
    def pool(workers: int) -> Iterator[Callable[[Iterable[Job]], Iterator[tuple[Job, bytes]]]]:
        def do(job: Job) -> bytes:
            return (
                job.crash_result("the process died")
                if job.result_name.endswith("-00001.tar")
                else job.run(lambda: None)
            )

        yield lambda jobs: ((job, do(job)) for job in jobs)

    monkeypatch.setattr(building, "local_pool", pool)
    monkeypatch.setattr(building, "CLIPS_PER_JOB", 1)
    summary = build_dataset([films / "texture.mkv"], tmp_path / "data", SETTINGS)
    assert summary.counts["clips_without_sample"] == {"the process died": 1}
    assert [sample.info["clip"] for sample in read_shards(tmp_path / "data")] == [0]


def test_films_without_a_sample_are_refused(films: Path, tmp_path: Path) -> None:
    for given, exclude, words in (
        ([tmp_path / "nowhere"], (), "does not exist"),
        ([films / "still.mp4"], (), "gave no sample"),
        ([films / "broken.mp4"], (), "gave no sample"),
        ([films], ("*.m*",), "leaves none"),
    ):
        with pytest.raises(InputError, match=words):
            build_dataset(given, tmp_path / "data" / words, SETTINGS, exclude=exclude)


def test_excluded_films_do_not_enter(films: Path, tmp_path: Path) -> None:
    build_dataset([films], tmp_path / "data", SETTINGS, exclude=["*/more/*", "shapes*", "[bls]*"])
    assert {line["name"] for line in lines(tmp_path / "data", "film")} == {"texture.mkv", "quick.mp4", "fields.mp4"}


@pytest.mark.slow
def test_ray_gives_the_same_bytes(built: tuple[Path, BuildSummary], films: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    build_dataset([films], tmp_path / "data", SETTINGS, ray="local", workers=2)
    assert contents(tmp_path / "data") == contents(built[0])


def test_a_missing_ray_cluster_is_reported(films: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with pytest.raises(MidframeError, match="no Ray cluster"):
        build_dataset([films / "quick.mp4"], tmp_path / "data", SETTINGS, ray="nonsense://nowhere")
