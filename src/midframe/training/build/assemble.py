"""The last step of a build: write shards, manifest and description from the results of the jobs."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from midframe.errors import InputError
from midframe.files import atomic_write
from midframe.training.build.films import ListedFilm
from midframe.training.build.jobs import REPORT_KEY
from midframe.training.build.settings import DatasetSettings
from midframe.training.data.shards import DESCRIPTION, ShardSample, Split, tar_size, to_json, write_shard

FORMAT = "midframe.dataset/1"
"""The value of `format` in dataset.json."""

SPLITS: tuple[Split, ...] = ("train", "validation")


@dataclass(frozen=True)
class SearchedFilm:
    """A film with the results of all its jobs."""

    film_id: str
    name: str
    """The file name."""
    properties: Mapping[str, Any]
    """The result of its `ProbeJob`."""
    clip_results: tuple[Path, ...]
    """The files with the results of its `ClipJob`s, in the order of the clips."""


@dataclass(frozen=True)
class _StoredSample:
    """A sample in the result file of a `ClipJob`; its frames are read when its shard is written."""

    key: str
    info: Mapping[str, Any]
    file: Path
    """The result file."""
    size: int
    """Bytes that the sample takes in a shard."""


def assemble(
    out: Path,
    work: Path,
    settings: DatasetSettings,
    films: Sequence[SearchedFilm],
    left_out: Sequence[ListedFilm],
) -> dict[str, Any]:
    """Write shards, manifest.jsonl and, last of all, dataset.json; return the content of dataset.json.

    out: the data set's folder. work: the folder for unfinished files, on the same file system. films: in the order of
    their ids. left_out: unreadable films and duplicates. Every file is written atomically, so an interrupted call can
    be repeated. Raises `InputError` if no film gave a sample.
    """
    samples = {film.film_id: [s for file in film.clip_results for s in _list_samples(file)] for film in films}
    if not any(samples.values()):
        reasons = Counter(film.properties.get("reason") or "no good window in any clip" for film in films)
        raise InputError(
            f"{len(films)} films gave no sample "
            f"({'; '.join(f'{n} films: {reason}' for reason, n in reasons.most_common(3))}); "
            f"`midframe dataset build` with other limits needs another folder than {out}"
        )
    validation = choose_validation_films([film for film in films if samples[film.film_id]], settings)
    shards: list[dict[str, Any]] = []
    shard_of_sample: dict[str, str] = {}
    for split in SPLITS:
        films_of_split = [film for film in films if (film.film_id in validation) == (split == "validation")]
        chosen = [sample for film in films_of_split for sample in samples[film.film_id]]
        for name, content in _plan_shards(split, chosen, settings):
            with atomic_write(out / name, part=work / f"{name}.part") as file:
                write_shard(file, (ShardSample(s.key, _read_frames(s), s.info) for s in content))
            shards.append({"name": name, "samples": len(content), "bytes": (out / name).stat().st_size})
            shard_of_sample |= {sample.key: name for sample in content}
    for stale in {path.name for path in out.glob("*-*.tar")} - {shard["name"] for shard in shards}:
        (out / stale).unlink()
    lines = list(_manifest_lines(films, left_out, samples, validation, shard_of_sample))
    with atomic_write(out / "manifest.jsonl", part=work / "manifest.jsonl.part") as file:
        file.writelines(to_json(line) + b"\n" for line in lines)
    description = {
        "format": FORMAT,
        "settings": settings.json(),
        "counts": _count_lines(lines),
        "film_ids": [film.film_id for film in films],
        "shards": shards,
    }
    with atomic_write(out / DESCRIPTION, part=work / f"{DESCRIPTION}.part") as file:
        file.write(json.dumps(description, indent=1, ensure_ascii=False).encode() + b"\n")
    return description


def choose_validation_films(films: Sequence[SearchedFilm], settings: DatasetSettings) -> set[str]:
    """Return the ids of the films that form the validation split.

    They are the films that match `settings.validation_films`, if given; else a pseudo-random choice of the fraction
    `settings.validation_fraction`, rounded, but at least one film if there are two. Raises `InputError` if a pattern
    matches no film.
    """
    patterns = settings.validation_films
    if patterns:
        for pattern in patterns:
            if not any(fnmatch(film.name, pattern) for film in films):
                raise InputError(f"--held-films {pattern}: no film that gave samples is called so")
        return {film.film_id for film in films if any(fnmatch(film.name, pattern) for pattern in patterns)}
    fraction = settings.validation_fraction
    count = 0 if fraction == 0 or len(films) < 2 else max(1, round(fraction * len(films)))
    shuffled = sorted((film.film_id for film in films), key=lambda film_id: _shuffle_key(settings.seed, film_id))
    return set(shuffled[:count])


def read_clip_report(file: Path) -> dict[str, Any]:
    """Return the report in the result of a `ClipJob`."""
    with tarfile.open(file) as tar:
        report: dict[str, Any] = json.loads(_read_member(tar, f"{REPORT_KEY}.json"))
        return report


def _list_samples(file: Path) -> list[_StoredSample]:
    """Return the samples in the result of a `ClipJob`, without their frames."""
    sizes: Counter[str] = Counter()
    with tarfile.open(file) as tar:
        for member in tar.getmembers():
            sizes[member.name.partition(".")[0]] += tar_size(member.size)
        keys = [key for key in sizes if key != REPORT_KEY]
        return [_StoredSample(key, json.loads(_read_member(tar, f"{key}.json")), file, sizes[key]) for key in keys]


def _read_frames(sample: _StoredSample) -> tuple[bytes, ...]:
    """Return the encoded frames of a sample."""
    with tarfile.open(sample.file) as tar:
        names = [name for name in tar.getnames() if name.startswith(f"{sample.key}.") and not name.endswith(".json")]
        return tuple(_read_member(tar, name) for name in names)


def _read_member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file is not None
    return file.read()


def _plan_shards(
    split: Split, samples: Sequence[_StoredSample], settings: DatasetSettings
) -> Iterator[tuple[str, list[_StoredSample]]]:
    """Shuffle the samples of a split and yield the name and the samples of each shard.

    A shard takes samples in turn until the next one would exceed the size limit, and at least one.
    """
    limit = settings.shard_megabytes * 1_000_000
    shuffled = sorted(samples, key=lambda sample: _shuffle_key(settings.seed, sample.key))
    shards: list[list[_StoredSample]] = []
    size = 0
    for sample in shuffled:
        if not shards or size + sample.size > limit:
            shards.append([])
            size = 0
        shards[-1].append(sample)
        size += sample.size
    for number, content in enumerate(shards):
        yield f"{split}-{number:06d}.tar", content


def _shuffle_key(seed: int, name: str) -> bytes:
    """Return a sort key for a pseudo-random order that depends only on the seed and the names."""
    return hashlib.sha256(f"{seed}/{name}".encode()).digest()


def _manifest_lines(
    films: Sequence[SearchedFilm],
    left_out: Sequence[ListedFilm],
    samples: Mapping[str, Sequence[_StoredSample]],
    validation: set[str],
    shard_of_sample: Mapping[str, str],
) -> Iterator[dict[str, Any]]:
    """Yield a line for each film, clip, rejected window and sample, in the order of films and clips.

    samples: by film id. validation: ids of the films of that split. shard_of_sample: shard names by sample key.
    """
    for listed in left_out:
        status = "duplicate" if listed.film_id else "broken"
        yield {
            "kind": "film",
            "film_id": listed.film_id,
            "name": listed.path.name,
            "status": status,
            "reason": listed.problem,
        }
    for film in films:
        sample_of_clip = {sample.info["clip"]: sample for sample in samples[film.film_id]}
        line = {"kind": "film", "film_id": film.film_id, "name": film.name, **film.properties}
        if line["status"] == "good":
            line["status"] = "used" if sample_of_clip else "without samples"
            line["split"] = "validation" if film.film_id in validation else "train" if sample_of_clip else None
        yield line
        for file in film.clip_results:
            for clip in read_clip_report(file)["clips"]:
                yield from _clip_lines(film.film_id, clip, sample_of_clip.get(clip["clip"]), shard_of_sample)


def _clip_lines(
    film_id: str, clip: dict[str, Any], sample: _StoredSample | None, shard_of_sample: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Yield the manifest lines of a clip: itself, its rejected windows, its sample."""
    head = {"film_id": film_id, "clip": clip["clip"]}
    yield {"kind": "clip", **head, **{k: clip[k] for k in ("start", "end", "reason", "decoded")}}
    for rejected in clip["rejected"]:
        yield {"kind": "rejection", **head, **rejected}
    if sample is not None:
        scores = {k: v for k, v in sample.info.items() if k not in ("film_id", "clip", "name")}
        yield {"kind": "sample", **head, "key": sample.key, "shard": shard_of_sample[sample.key], **scores}


def _count_lines(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the `counts` of dataset.json from the lines of the manifest."""
    by_kind: dict[str, list[Mapping[str, Any]]] = {kind: [] for kind in ("film", "clip", "rejection", "sample")}
    for line in lines:
        by_kind[line["kind"]].append(line)
    # "damaged: …" and the like are counted by their first words.
    clip_reasons = Counter(str(clip["reason"]).partition(":")[0] for clip in by_kind["clip"] if clip["reason"])
    splits = Counter(str(sample["shard"]).partition("-")[0] for sample in by_kind["sample"])
    return {
        "films": _sort_by_name(Counter(str(film["status"]) for film in by_kind["film"])),
        "clips": len(by_kind["clip"]),
        "frames_decoded": sum(clip["decoded"] for clip in by_kind["clip"]),
        "samples": {split: splits[split] for split in SPLITS},
        "rejected_windows": _sort_by_name(Counter(str(line["reason"]) for line in by_kind["rejection"])),
        "clips_without_sample": _sort_by_name(clip_reasons),
        "left_out": {
            film["name"]: film["reason"]
            for film in by_kind["film"]
            if film["status"] not in ("used", "without samples")
        },
    }


def _sort_by_name(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))
