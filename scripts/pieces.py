"""Cut files into pieces that pass where large files do not, and put them together again, checked by SHA-256.

    python scripts/pieces.py split FOLDER --out PIECES [--megabytes 15]
    python scripts/pieces.py join PIECES --out FOLDER

PIECES holds `pieces.json` and `files.tar.0`, `files.tar.1`, ...: one tar file, cut. Needs nothing but Python.
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

MANIFEST, FORMAT = "pieces.json", "midframe-pieces/1"
BLOCK = 1 << 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("split", "join"))
    parser.add_argument("source", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--megabytes", type=float, default=15, help="of a piece, at most")
    given = parser.parse_args()
    try:
        if given.what == "join":
            for path in join(given.source, given.out):
                print(path)
        else:
            files = sorted(path for path in given.source.rglob("*") if path.is_file())
            for path in split(given.source, files, given.out, int(given.megabytes * 1e6)):
                print(path)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def split(folder: Path, files: Sequence[Path], out: Path, largest: int) -> list[Path]:
    """Write files that lie in a folder as pieces of at most so many bytes into `out`; returns the pieces in order.

    Pieces of an earlier split that lie there are removed first.
    """
    out.mkdir(parents=True, exist_ok=True)
    for old in (*out.glob("files.tar.*"), *out.glob(MANIFEST)):
        old.unlink()
    whole, pieces, rows = hashlib.sha256(), list[Path](), []
    with tempfile.TemporaryFile() as kept:
        with tarfile.open(fileobj=kept, mode="w") as tar:
            for path in files:
                tar.add(path, path.relative_to(folder).as_posix(), recursive=False)
        length = kept.tell()
        kept.seek(0)
        while kept.tell() < length:
            path = out / f"files.tar.{len(pieces)}"
            part = hashlib.sha256()
            with path.open("wb") as file:
                while file.tell() < largest and (block := kept.read(min(BLOCK, largest - file.tell()))):
                    file.write(block)
                    part.update(block)
                    whole.update(block)
                rows.append({"name": path.name, "bytes": file.tell(), "sha256": part.hexdigest()})
            pieces.append(path)
    manifest = {"format": FORMAT, "bytes": length, "sha256": whole.hexdigest(), "pieces": rows}
    (out / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    return pieces


def join(source: Path, out: Path) -> list[Path]:
    """Put the pieces in a folder together and unpack them into `out`; returns the files.

    Raises `ValueError` where a piece is missing or another one, before anything is unpacked.
    """
    try:
        manifest = json.loads((source / MANIFEST).read_text("utf-8"))
        rows = manifest["pieces"] if manifest["format"] == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{source} holds no {MANIFEST} that can be read: {error}") from None
    if rows is None:
        raise ValueError(f"{source / MANIFEST} is not of the format {FORMAT}")
    whole = hashlib.sha256()
    with tempfile.TemporaryFile() as kept:
        for row in rows:
            path = source / Path(row["name"]).name
            if not path.is_file():
                raise ValueError(f"the piece {path} is missing; {len(rows)} are needed")
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != row["sha256"]:
                raise ValueError(f"{path} is not the piece that was written: {len(content)} of {row['bytes']} bytes")
            whole.update(content)
            kept.write(content)
        if whole.hexdigest() != manifest["sha256"]:
            raise ValueError(f"the pieces in {source} do not make the file they were cut from")
        kept.seek(0)
        out.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=kept, mode="r") as tar:
            names = [member.name for member in tar if member.isfile()]
            tar.extractall(out, filter="data")
    return [out / name for name in names]


if __name__ == "__main__":
    sys.exit(main())
