"""Split a folder's files into pieces of limited size, or join such pieces and verify them by SHA-256.

    python scripts/pieces.py split FOLDER --out PIECES [--megabytes 15]
    python scripts/pieces.py join PIECES --out FOLDER

PIECES is a folder with `files.tar.0`, `files.tar.1` and so on, which are one tar file when concatenated, and with
`pieces.json`, which lists their sizes and hashes. Needs only the standard library.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

MANIFEST = "pieces.json"
"""File name of the manifest."""
FORMAT = "midframe-pieces/1"
"""The value of `format` in the manifest."""
BLOCK_SIZE = 1 << 20
"""Bytes that are copied at once."""


def main() -> int:
    """Split or join, print the paths of the files written, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("split", "join"))
    parser.add_argument("source", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--megabytes", type=float, default=15, help="largest size of a piece")
    options = parser.parse_args()
    try:
        if options.action == "join":
            for path in join(options.source, options.out):
                print(path)
        else:
            files = sorted(path for path in options.source.rglob("*") if path.is_file())
            for path in split(options.source, files, options.out, int(options.megabytes * 1e6)):
                print(path)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def split(folder: Path, files: Sequence[Path], out: Path, max_bytes: int) -> list[Path]:
    """Write files of a folder as pieces of at most `max_bytes` bytes into `out`; return the pieces in order.

    Pieces of an earlier split are removed from `out` first.
    """
    out.mkdir(parents=True, exist_ok=True)
    for old in (*out.glob("files.tar.*"), *out.glob(MANIFEST)):
        old.unlink()
    total_hash, pieces, entries = hashlib.sha256(), list[Path](), []
    with tempfile.TemporaryFile() as archive:
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for path in files:
                tar.add(path, path.relative_to(folder).as_posix(), recursive=False)
        length = archive.tell()
        archive.seek(0)
        while archive.tell() < length:
            path = out / f"files.tar.{len(pieces)}"
            piece_hash = hashlib.sha256()
            with path.open("wb") as file:
                while file.tell() < max_bytes and (block := archive.read(min(BLOCK_SIZE, max_bytes - file.tell()))):
                    file.write(block)
                    piece_hash.update(block)
                    total_hash.update(block)
                entries.append({"name": path.name, "bytes": file.tell(), "sha256": piece_hash.hexdigest()})
            pieces.append(path)
    manifest = {"format": FORMAT, "bytes": length, "sha256": total_hash.hexdigest(), "pieces": entries}
    (out / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    return pieces


def join(source: Path, out: Path) -> list[Path]:
    """Join the pieces in a folder and unpack their files into `out`; return the files.

    Raises `ValueError` if a piece is missing or damaged, before anything is unpacked.
    """
    try:
        manifest = json.loads((source / MANIFEST).read_text("utf-8"))
        entries = manifest["pieces"] if manifest["format"] == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{source} holds no {MANIFEST} that can be read: {error}") from None
    if entries is None:
        raise ValueError(f"{source / MANIFEST} is not of the format {FORMAT}")
    total_hash = hashlib.sha256()
    with tempfile.TemporaryFile() as archive:
        for entry in entries:
            path = source / Path(entry["name"]).name
            if not path.is_file():
                raise ValueError(f"the piece {path} is missing; {len(entries)} are needed")
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != entry["sha256"]:
                raise ValueError(f"{path} is not the piece that was written: {len(content)} of {entry['bytes']} bytes")
            total_hash.update(content)
            archive.write(content)
        if total_hash.hexdigest() != manifest["sha256"]:
            raise ValueError(f"the pieces in {source} do not make the file they were cut from")
        archive.seek(0)
        out.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=archive, mode="r") as tar:
            names = [member.name for member in tar if member.isfile()]
            tar.extractall(out, filter="data")
    return [out / name for name in names]


if __name__ == "__main__":
    sys.exit(main())
