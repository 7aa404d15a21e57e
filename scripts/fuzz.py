"""Corrupt small films at random, convert them, and check that no damage crashes the conversion or goes unreported.

    python scripts/fuzz.py --cases 500 --out benchmarks/results/fuzz.json

Each case is one of three drawn films with one random corruption. A worker process with a time limit converts it both
with and without `keep_going`. A case fails if the conversion raises anything but a `MidframeError`, crashes, hangs or
leaves a file behind. It also fails if the conversion succeeds without a warning although PyAV alone finds damage in
the film: an exception, a packet or frame marked as corrupt, or fewer frames than in the intact film. The exit code is 1
if a case fails.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import random
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 30.0
"""Seconds within which a case must end: both conversions and the reading by PyAV. They usually take less than one."""


@dataclass
class CaseResult:
    """The result of one case."""

    film: str
    """File name of the intact film."""
    corruption: str
    """Name of the corrupting function."""
    number: int
    """Number of the case, which `--only` takes."""
    shows_damage: bool = False
    """Whether PyAV alone finds damage."""
    plain: str = ""
    """How the conversion without `keep_going` ended."""
    keep_going: str = ""
    """How the conversion with `keep_going` ended."""
    faults: list[str] = field(default_factory=list)
    """Why the case fails; empty if it does not."""


def bit_flips(data: bytearray, draw: random.Random) -> None:
    """Flip up to 100 bits."""
    for _ in range(draw.choice((1, 3, 10, 100))):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def zeroed_run(data: bytearray, draw: random.Random) -> None:
    """Set up to 8,000 bytes in a row to 0."""
    start = draw.randrange(len(data))
    length = min(draw.choice((4, 64, 1000, 8000)), len(data) - start)
    data[start : start + length] = bytes(length)


def truncation(data: bytearray, draw: random.Random) -> None:
    """Cut off the end of the file."""
    del data[draw.randrange(len(data)) :]


def swapped_chunks(data: bytearray, draw: random.Random) -> None:
    """Exchange two chunks of up to 4 KB."""
    length = min(draw.choice((16, 188, 1024, 4096)), len(data) // 3)
    first, second = sorted((draw.randrange(len(data) - 2 * length), draw.randrange(len(data) - 2 * length)))
    second = max(second, first + length)
    one, other = data[first : first + length], data[second : second + length]
    data[first : first + length], data[second : second + length] = other, one


def header_field(data: bytearray, draw: random.Random) -> None:
    """Change a four-byte number in the first or last 2 KB, where containers store their headers."""
    offset = draw.randrange(min(2048, len(data) - 4))
    start = offset if draw.random() < 0.6 else len(data) - 4 - offset
    data[start : start + 4] = draw.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, draw.getrandbits(32))).to_bytes(4, "big")


def inserted_bytes(data: bytearray, draw: random.Random) -> None:
    """Insert up to 3,000 random bytes."""
    start = draw.randrange(len(data))
    data[start:start] = draw.randbytes(draw.choice((1, 5, 200, 3000)))


CORRUPTIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    bit_flips,
    zeroed_run,
    truncation,
    swapped_chunks,
    header_field,
    inserted_bytes,
)


def draw_films(folder: Path) -> list[Path]:
    """Draw the intact films: mp4 (H.264, AAC), mkv (VP9, SubRip), avi (MPEG-4, MP3)."""
    sys.path.insert(0, str(ROOT / "tests"))
    from films import AudioTrack, Film, SubtitleTrack, draw

    base = {"width": 96, "height": 64, "frames": 12, "gop": 6}
    return [
        draw(Film(**base, audio=(AudioTrack(),)), folder / "h264.mp4"),
        draw(Film(**base, codec="libvpx-vp9", subtitles=(SubtitleTrack(),)), folder / "vp9.mkv"),
        draw(Film(**base, codec="mpeg4", audio=(AudioTrack(),)), folder / "mpeg4.avi"),
    ]


def fuzz(cases: int, seed: int, only: int | None = None) -> list[CaseResult]:
    """Run a number of cases, which the seed determines. only: the number of the single case to run."""
    results = []
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        films = draw_films(folder)
        with Worker(films) as worker:
            for k in range(cases):
                if only is not None and k != only:
                    continue
                film, corruption = films[k % len(films)], CORRUPTIONS[k // len(films) % len(CORRUPTIONS)]
                data = bytearray(film.read_bytes())
                corruption(data, random.Random(f"{seed}.{k}"))
                case = folder / f"case{film.suffix}"
                case.write_bytes(data)
                result = CaseResult(film.name, corruption.__name__, k)
                worker.run(case, film, result)
                results.append(result)
    return results


class Worker:
    """A process that runs one case after the other; it is started again after a crash or a timeout."""

    def __init__(self, films: list[Path]) -> None:
        self.films = films
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def run(self, case: Path, film: Path, result: CaseResult) -> None:
        """Run one case and complete its result. case: the corrupted file; film: the intact one."""
        if self.process is None:
            command = [sys.executable, "-X", "faulthandler", __file__, "--worker", *map(str, self.films)]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self._read_line(120.0)
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"case": str(case), "film": str(film)}) + "\n")
            self.process.stdin.flush()
            answer = self._read_line(LIMIT)
        except TimeoutError:
            result.faults.append(f"hung for {LIMIT:g} s")
            self._end()
            return
        except (BrokenPipeError, EOFError):
            result.faults.append(f"crashed: the worker ended with {self.process.wait()}")
            self._end()
            return
        result.shows_damage = answer["shows_damage"]
        result.plain, result.keep_going = answer["plain"], answer["keep_going"]
        result.faults += answer["faults"]

    def _read_line(self, limit: float) -> dict[str, Any]:
        """Read an answer of the worker. Raises `TimeoutError` after `limit` seconds, `EOFError` if the worker ended."""
        assert self.process is not None
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], limit)[0]:
            raise TimeoutError
        line = self.process.stdout.readline()
        if not line:
            raise EOFError
        return dict(json.loads(line))

    def _end(self) -> None:
        """Kill the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def work(films: list[Path]) -> None:
    """Run as the worker: read cases from standard input, and write an answer for each to standard output."""
    import av.logging

    av.logging.set_level(av.logging.PANIC)  # PyAV prints a traceback if its log is turned off in use
    intact = {str(film): (read_with_pyav(film)[1], _convert(film, False)[2]) for film in films}
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        case = Path(request["case"])
        frames, usual_warnings = intact[request["film"]]
        damaged, found = read_with_pyav(case)
        answer: dict[str, Any] = {"shows_damage": damaged or found < frames, "faults": []}
        for mode in (False, True):
            before = set(case.parent.iterdir())
            ending, faults, warnings = _convert(case, mode)
            new_warnings = set(warnings) - set(usual_warnings)
            if ending.startswith("done") and answer["shows_damage"] and not new_warnings:
                name = "keep_going" if mode else "plain"
                faults.append(f"{name}: done without a warning, {found} of {frames} frames")
            faults += [f"left behind: {left.name}" for left in set(case.parent.iterdir()) - before]
            warned = ", with warnings" if new_warnings and "done" in ending else ""
            answer["keep_going" if mode else "plain"] = ending + warned
            answer["faults"] += faults
        print(json.dumps(answer), flush=True)


def _convert(case: Path, keep_going: bool) -> tuple[str, list[str], list[str]]:
    """Convert a film; return how the conversion ended, its faults, and its warnings."""
    from midframe.conversion import convert
    from midframe.errors import MidframeError

    target = case.with_name("out.mkv")
    try:
        summary = convert(case, target, encoder="ffv1", network="average", keep_going=keep_going, cuts=False)
    except MidframeError as error:
        faults = [f"{error}"] if error.exit_code == 1 or "\n" in str(error) else []
        return f"{error.code} error", faults, []
    except Exception as error:
        return "fault", [f"{type(error).__name__}: {error}"], []
    finally:
        written = target.exists()
        target.unlink(missing_ok=True)
    faults = [] if written else ["done, but there is no output"]
    return "done" if summary.complete else "done, not complete", faults, list(summary.warnings)


def read_with_pyav(path: Path) -> tuple[bool, int]:
    """Return whether PyAV alone finds damage in any packet or frame of a film, and the number of its frames."""
    import av
    import av.error

    damaged, frames = False, 0
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            index = container.streams.video[0].index
            for packet in container.demux():
                damaged |= packet.is_corrupt
                if packet.stream_index != index:
                    continue
                try:
                    for frame in packet.decode():
                        frames += 1
                        damaged |= frame.is_corrupt
                except (av.error.FFmpegError, AttributeError):
                    damaged = True
    except (av.error.FFmpegError, ValueError, IndexError, OSError):
        damaged = True
    return damaged, frames


def summarise(results: list[CaseResult], seconds: float, seed: int) -> dict[str, Any]:
    """Return counts over all cases, and the results of those that failed."""
    failed = [result for result in results if result.faults]
    return {
        "cases": len(results),
        "seed": seed,
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "seconds": round(seconds, 1),
        "shown_as_damaged_by_pyav": sum(result.shows_damage for result in results),
        "plain": dict(Counter(result.plain for result in results).most_common()),
        "keep_going": dict(Counter(result.keep_going for result in results).most_common()),
        "by_film": dict(Counter(result.film for result in results)),
        "by_corruption": dict(Counter(result.corruption for result in results)),
        "failed": [asdict(result) for result in failed],
    }


def main() -> int:
    """Run the cases, write the summary, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="run this case alone")
    parser.add_argument("--out", type=Path, help="where the result is stored as JSON")
    parser.add_argument("--worker", nargs="+", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        with contextlib.suppress(KeyboardInterrupt):
            work(options.worker)
        return 0
    started = time.monotonic()
    results = fuzz(options.cases, options.seed, options.only)
    summary = summarise(results, time.monotonic() - started, options.seed)
    text = json.dumps(summary, indent=2) + "\n"
    print(text, end="")
    if options.out:
        options.out.write_text(text)
    return 1 if summary["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
