"""The last step of a build: from the pieces that the jobs left to shards, manifest and description."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, BinaryIO

from midframe.errors import InputError
from midframe.files import atomic_write
from midframe.training.build.clips import NOTES
from midframe.training.build.films import Listed
from midframe.training.build.settings import DatasetSettings
from midframe.training.data.shards import DESCRIPTION, ShardSample, Split, to_json, write_shard

FORMAT = "midframe.dataset/1"

SPLITS: tuple[Split, ...] = ("train", "validation")


@dataclass(frozen=True)
class Film:
    """What the jobs found of a film: its id, file name, what it is, and its pieces in the order of the clips."""

    film: str
    name: str
    facts: Mapping[str, Any]
    pieces: tuple[Path, ...]


@dataclass(frozen=True)
class _Stored:
    """A sample as it lies in a piece; `size` is what it takes in a shard."""

    key: str
    info: Mapping[str, Any]
    piece: Path
    size: int


def assemble(
    out: Path, work: Path, settings: DatasetSettings, films: Sequence[Film], left_out: Sequence[Listed]
) -> dict[str, Any]:
    """Write shards, manifest.jsonl and, last of all, dataset.json; returns what is in that.

    films: in the order of their ids; left_out: those without one, and repetitions. Every file appears whole or not at
    all, so this can be done again at any time.
    """
    samples = {film.film: [s for piece in film.pieces for s in _stored(piece)] for film in films}
    if not any(samples.values()):
        why = Counter(film.facts.get("reason") or "no good window in any clip" for film in films)
        raise InputError(
            f"{len(films)} films gave no sample ({'; '.join(f'{n} films: {w}' for w, n in why.most_common(3))}); "
            f"`midframe dataset build` with other limits needs another folder than {out}"
        )
    held = held_back([film for film in films if samples[film.film]], settings)
    shards = []
    place: dict[str, str] = {}
    for split in SPLITS:
        chosen = [s for film in films if (film.film in held) == (split == "validation") for s in samples[film.film]]
        chosen.sort(key=lambda sample: _drawn(settings.seed, sample.key))
        for number, content in enumerate(_portions(chosen, settings.shard_megabytes * 1_000_000)):
            name = f"{split}-{number:06d}.tar"
            with atomic_write(out / name, part=work / f"{name}.part") as file:
                write_shard(file, (ShardSample(s.key, _frames(s), s.info) for s in content))
            shards.append({"name": name, "samples": len(content), "bytes": (out / name).stat().st_size})
            place |= {sample.key: name for sample in content}
    for stale in {path.name for path in out.glob("*-*.tar")} - {str(shard["name"]) for shard in shards}:
        (out / stale).unlink()
    lines = list(_manifest(films, left_out, samples, held, place))
    with atomic_write(out / "manifest.jsonl", part=work / "manifest.jsonl.part") as file:
        file.writelines(to_json(line) + b"\n" for line in lines)
    described = {
        "format": FORMAT,
        "settings": settings.json(),
        "counts": _counts(lines),
        "films": [film.film for film in films],
        "shards": shards,
    }
    with atomic_write(out / DESCRIPTION, part=work / f"{DESCRIPTION}.part") as file:
        file.write(json.dumps(described, indent=1, ensure_ascii=False).encode() + b"\n")
    return described


def held_back(films: Sequence[Film], settings: DatasetSettings) -> set[str]:
    """The ids of the films that are kept out of training: those named, or a share of them drawn by the seed.

    A share above 0 is one film at least, where there are two. Raises `InputError` where a name fits no film.
    """
    if settings.held_films:
        for pattern in settings.held_films:
            if not any(fnmatch(film.name, pattern) for film in films):
                raise InputError(f"--held-films {pattern}: no film that gave samples is called so")
        return {film.film for film in films if any(fnmatch(film.name, pattern) for pattern in settings.held_films)}
    count = 0 if settings.held == 0 or len(films) < 2 else max(1, round(settings.held * len(films)))
    ranked = sorted((film.film for film in films), key=lambda film: _drawn(settings.seed, film))
    return set(ranked[:count])


def read_notes(piece: Path) -> dict[str, Any]:
    """What a piece says of its clips."""
    with tarfile.open(piece) as tar:
        notes: dict[str, Any] = json.loads(_content(tar, f"{NOTES}.json"))
        return notes


def _stored(piece: Path) -> list[_Stored]:
    sizes: Counter[str] = Counter()
    with tarfile.open(piece) as tar:
        for member in tar.getmembers():
            sizes[member.name.partition(".")[0]] += 512 + -(-member.size // 512) * 512
        keys = [key for key in sizes if key != NOTES]
        return [_Stored(key, json.loads(_content(tar, f"{key}.json")), piece, sizes[key]) for key in keys]


def _frames(sample: _Stored) -> tuple[bytes, ...]:
    with tarfile.open(sample.piece) as tar:
        names = [name for name in tar.getnames() if name.startswith(f"{sample.key}.") and not name.endswith(".json")]
        return tuple(_content(tar, name) for name in names)


def _content(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file is not None
    return file.read()


def _portions(samples: Sequence[_Stored], limit: int) -> Iterator[list[_Stored]]:
    """The samples in turn, as many together as the limit of bytes allows, at least one."""
    portion: list[_Stored] = []
    size = 0
    for sample in samples:
        if portion and size + sample.size > limit:
            yield portion
            portion, size = [], 0
        portion.append(sample)
        size += sample.size
    if portion:
        yield portion


def _drawn(seed: int, name: str) -> bytes:
    """A place in a random order that depends on nothing but the seed and the name."""
    return hashlib.sha256(f"{seed}/{name}".encode()).digest()


def _manifest(
    films: Sequence[Film],
    left_out: Sequence[Listed],
    samples: Mapping[str, Sequence[_Stored]],
    held: set[str],
    place: Mapping[str, str],
) -> Iterator[dict[str, Any]]:
    """A line for each film, clip, rejected window and sample, in the order of films and clips."""
    for listed in left_out:
        status = "duplicate" if listed.film else "broken"
        yield {"kind": "film", "film": listed.film, "name": listed.path.name, "status": status, "reason": listed.why}
    for film in films:
        found = {sample.info["clip"]: sample for sample in samples[film.film]}
        line = {"kind": "film", "film": film.film, "name": film.name, **film.facts}
        if line["status"] == "good":
            line["status"] = "used" if found else "without samples"
            line["split"] = "validation" if film.film in held else "train" if found else None
        yield line
        for piece in film.pieces:
            for clip in read_notes(piece)["clips"]:
                yield from _clip_lines(film.film, clip, found.get(clip["clip"]), place)


def _clip_lines(
    film: str, clip: dict[str, Any], sample: _Stored | None, place: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    head = {"film": film, "clip": clip["clip"]}
    yield {"kind": "clip", **head, **{k: clip[k] for k in ("start", "end", "reason", "decoded")}}
    for rejected in clip["rejected"]:
        yield {"kind": "rejection", **head, **rejected}
    if sample is not None:
        scores = {k: v for k, v in sample.info.items() if k not in ("film", "clip", "name")}
        yield {"kind": "sample", **head, "key": sample.key, "shard": place[sample.key], **scores}


def _counts(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    of: dict[str, list[Mapping[str, Any]]] = {kind: [] for kind in ("film", "clip", "rejection", "sample")}
    for line in lines:
        of[line["kind"]].append(line)
    without = Counter(str(clip["reason"]).partition(":")[0] for clip in of["clip"] if clip["reason"])
    splits = Counter(str(sample["shard"]).partition("-")[0] for sample in of["sample"])
    return {
        "films": _by_name(Counter(str(film["status"]) for film in of["film"])),
        "clips": len(of["clip"]),
        "frames_decoded": sum(clip["decoded"] for clip in of["clip"]),
        "samples": {split: splits[split] for split in SPLITS},
        "rejected_windows": _by_name(Counter(str(line["reason"]) for line in of["rejection"])),
        "clips_without_sample": _by_name(without),
        "left_out": {
            film["name"]: film["reason"] for film in of["film"] if film["status"] not in ("used", "without samples")
        },
    }


def _by_name(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))
