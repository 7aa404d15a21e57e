"""Convert randomly corrupted films, and check that the conversion neither fails unexpectedly nor overlooks damage.

    python scripts/fuzz.py --cases 500 --out benchmarks/results/fuzz.json

Each case is one of three drawn films with one random corruption. A worker process converts it twice, without and with
`keep_going`, under a time limit. A case is at fault if

- an error is not a `MidframeError`, or is an internal one;
- the process crashes or exceeds the time limit;
- a file is left behind, or the output is missing after success;
- a conversion succeeds without a warning although the film is damaged. A film counts as damaged if PyAV alone raises an
  exception, marks a packet or frame as corrupt, or decodes fewer frames than the undamaged film has.

The exit code is 1 if any case is at fault.
"""

from __future__ import annotations

import argparse
import contextlib
import json
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
sys.path.append(str(ROOT / "benchmarks"))

import common  # noqa: E402

TIME_LIMIT = 30.0
"""Largest number of seconds for one case. Both conversions and the reading by PyAV usually take less than one."""
START_LIMIT = 120.0
"""Largest number of seconds until a worker is ready."""


@dataclass
class CaseResult:
    """Outcome of one case."""

    film: str
    """Name of the undamaged film."""
    corruption: str
    """Name of the corruption, one of `CORRUPTIONS`."""
    number: int
    """Number of the case, for `--only`."""
    is_damaged: bool = False
    """Whether PyAV alone finds damage, or fewer frames than in the undamaged film."""
    without_keep_going: str = ""
    """How the conversion without `keep_going` ended."""
    with_keep_going: str = ""
    """How the conversion with `keep_going` ended."""
    faults: list[str] = field(default_factory=list)
    """Everything that must not happen, one sentence each."""


def main() -> int:
    """Run the cases, print a summary and store it if asked; return the exit code."""
    parser = common.parser(__doc__, "fuzz")
    parser.set_defaults(out=None)
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="run only the case with this number")
    parser.add_argument("--worker", nargs="+", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        with contextlib.suppress(KeyboardInterrupt):
            run_worker(options.worker)
        return 0
    measured_on = common.machine()
    start = time.monotonic()
    results = run_cases(options.cases, options.seed, options.only)
    figures = summarise(results, time.monotonic() - start, options.seed)
    print(json.dumps(figures, indent=1))
    if options.out:
        about = "conversions of randomly corrupted films: how they ended, and the cases at fault"
        common.write_result(options, about, figures, measured_on)
    return 1 if figures["failed"] else 0


def run_cases(cases: int, seed: int, only: int | None = None) -> list[CaseResult]:
    """Run a number of cases, or only the one with the number `only`. The same seed gives the same cases."""
    results = []
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        films = draw_films(folder)
        with Worker(films) as worker:
            for number in range(cases):
                if only is not None and number != only:
                    continue
                film, corrupt = films[number % len(films)], CORRUPTIONS[number // len(films) % len(CORRUPTIONS)]
                data = bytearray(film.read_bytes())
                corrupt(data, random.Random(f"{seed}.{number}"))
                case = folder / f"case{film.suffix}"
                case.write_bytes(data)
                result = CaseResult(film.name, corrupt.__name__, number)
                worker.convert(case, film, result)
                results.append(result)
    return results


def draw_films(folder: Path) -> list[Path]:
    """Draw the undamaged films: mp4 (H.264, AAC), mkv (VP9, SubRip) and avi (MPEG-4, MP3)."""
    sys.path.insert(0, str(ROOT / "tests"))
    from films import AudioTrack, Film, SubtitleTrack, draw

    base = {"width": 96, "height": 64, "frames": 12, "gop": 6}
    return [
        draw(Film(**base, audio=(AudioTrack(),)), folder / "h264.mp4"),
        draw(Film(**base, codec="libvpx-vp9", subtitles=(SubtitleTrack(),)), folder / "vp9.mkv"),
        draw(Film(**base, codec="mpeg4", audio=(AudioTrack(),)), folder / "mpeg4.avi"),
    ]


def summarise(results: list[CaseResult], seconds: float, seed: int) -> dict[str, Any]:
    """Return counts over all cases, and the whole result of each case at fault."""
    return {
        "cases": len(results),
        "seed": seed,
        "seconds": round(seconds, 1),
        "damaged_according_to_pyav": sum(result.is_damaged for result in results),
        "without_keep_going": dict(Counter(result.without_keep_going for result in results).most_common()),
        "with_keep_going": dict(Counter(result.with_keep_going for result in results).most_common()),
        "by_film": dict(Counter(result.film for result in results)),
        "by_corruption": dict(Counter(result.corruption for result in results)),
        "failed": [asdict(result) for result in results if result.faults],
    }


# Corruptions: each changes the bytes of a film in place.


def bit_flips(data: bytearray, rng: random.Random) -> None:
    """Flip between 1 and 100 bits anywhere."""
    for _ in range(rng.choice((1, 3, 10, 100))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def zeroed_run(data: bytearray, rng: random.Random) -> None:
    """Set up to 8000 successive bytes to zero."""
    start = rng.randrange(len(data))
    length = min(rng.choice((4, 64, 1000, 8000)), len(data) - start)
    data[start : start + length] = bytes(length)


def truncation(data: bytearray, rng: random.Random) -> None:
    """Remove the end."""
    del data[rng.randrange(len(data)) :]


def swapped_chunks(data: bytearray, rng: random.Random) -> None:
    """Swap two pieces of equal length."""
    length = min(rng.choice((16, 188, 1024, 4096)), len(data) // 3)
    first, second = sorted((rng.randrange(len(data) - 2 * length), rng.randrange(len(data) - 2 * length)))
    second = max(second, first + length)
    one, other = data[first : first + length], data[second : second + length]
    data[first : first + length], data[second : second + length] = other, one


def header_field(data: bytearray, rng: random.Random) -> None:
    """Replace four bytes in the first or last 2 KB, which hold the headers or the index of a container."""
    offset = rng.randrange(min(2048, len(data) - 4))
    start = offset if rng.random() < 0.6 else len(data) - 4 - offset
    data[start : start + 4] = rng.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, rng.getrandbits(32))).to_bytes(4, "big")


def inserted_bytes(data: bytearray, rng: random.Random) -> None:
    """Insert up to 3000 random bytes."""
    position = rng.randrange(len(data))
    data[position:position] = rng.randbytes(rng.choice((1, 5, 200, 3000)))


CORRUPTIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    bit_flips,
    zeroed_run,
    truncation,
    swapped_chunks,
    header_field,
    inserted_bytes,
)
"""The corruptions, used in turn."""


class Worker:
    """A process that converts one case after another. It is started again after a crash or a time-out."""

    def __init__(self, films: list[Path]) -> None:
        self.films = films
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def convert(self, case: Path, film: Path, result: CaseResult) -> None:
        """Convert a case in both modes, and enter the outcome into `result`. film: the undamaged film."""
        if self.process is None:
            command = [sys.executable, "-X", "faulthandler", __file__, "--worker", *map(str, self.films)]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self._read_line(START_LIMIT)
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"case": str(case), "film": str(film)}) + "\n")
            self.process.stdin.flush()
            answer = self._read_line(TIME_LIMIT)
        except TimeoutError:
            result.faults.append(f"timed out after {TIME_LIMIT:g} s")
            self._stop()
            return
        except (BrokenPipeError, EOFError):
            result.faults.append(f"crashed: the worker ended with {self.process.wait()}")
            self._stop()
            return
        result.is_damaged = answer["is_damaged"]
        result.without_keep_going, result.with_keep_going = answer["endings"]
        result.faults += answer["faults"]

    def _read_line(self, seconds: float) -> dict[str, Any]:
        """Return the next answer; raise `TimeoutError` after some seconds, `EOFError` if the process has ended."""
        assert self.process is not None
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            raise TimeoutError
        line = self.process.stdout.readline()
        if not line:
            raise EOFError
        return dict(json.loads(line))

    def _stop(self) -> None:
        """Kill the process if there is one."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@dataclass(frozen=True)
class Conversion:
    """Outcome of one conversion."""

    ending: str
    """`done`, `done, not complete`, `fault`, or the code of a `MidframeError` with the word `error`."""
    faults: list[str]
    """What must not happen."""
    warnings: list[str] = field(default_factory=list)
    """Warnings of the summary."""


def run_worker(films: list[Path]) -> None:
    """Read cases from standard input, convert them and print the answers to standard output, as lines of JSON."""
    import av.logging

    av.logging.set_level(av.logging.PANIC)  # PyAV prints a traceback if its log is turned off while it is used
    undamaged = {str(film): (read_with_pyav(film)[1], set(convert_film(film, False).warnings)) for film in films}
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        case = Path(request["case"])
        frame_count, usual_warnings = undamaged[request["film"]]
        has_damage, frames_found = read_with_pyav(case)
        is_damaged = has_damage or frames_found < frame_count
        endings, faults = [], []
        for keep_going in (False, True):
            files_before = set(case.parent.iterdir())
            conversion = convert_film(case, keep_going)
            has_new_warnings = bool(set(conversion.warnings) - usual_warnings)
            is_done = conversion.ending.startswith("done")
            faults += conversion.faults
            if is_done and is_damaged and not has_new_warnings:
                mode = "with keep_going" if keep_going else "without keep_going"
                faults.append(f"{mode}: done without a warning, {frames_found} of {frame_count} frames")
            faults += [f"left behind: {path.name}" for path in set(case.parent.iterdir()) - files_before]
            endings.append(conversion.ending + (", with warnings" if is_done and has_new_warnings else ""))
        print(json.dumps({"is_damaged": is_damaged, "endings": endings, "faults": faults}), flush=True)


def convert_film(path: Path, keep_going: bool) -> Conversion:
    """Convert a film with the network `average`, delete the output, and return the outcome."""
    from midframe.conversion import convert
    from midframe.errors import MidframeError

    target = path.with_name("out.mkv")
    try:
        summary = convert(path, target, encoder="ffv1", network="average", keep_going=keep_going, cuts=False)
    except MidframeError as error:
        is_fault = error.exit_code == 1 or "\n" in str(error)
        return Conversion(f"{error.code} error", [str(error)] if is_fault else [])
    except Exception as error:
        return Conversion("fault", [f"{type(error).__name__}: {error}"])
    finally:
        has_output = target.exists()
        target.unlink(missing_ok=True)
    faults = [] if has_output else ["done, but there is no output"]
    return Conversion("done" if summary.complete else "done, not complete", faults, list(summary.warnings))


def read_with_pyav(path: Path) -> tuple[bool, int]:
    """Return whether PyAV alone finds damage in a film, and how many frames it decodes.

    Damage is an exception, or a mark on a packet of any stream or on a frame of the video stream.
    """
    import av
    import av.error

    has_damage, frames = False, 0
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            index = container.streams.video[0].index
            for packet in container.demux():
                has_damage |= packet.is_corrupt
                if packet.stream_index != index:
                    continue
                try:
                    for frame in packet.decode():
                        frames += 1
                        has_damage |= frame.is_corrupt
                except (av.error.FFmpegError, AttributeError):
                    has_damage = True
    except (av.error.FFmpegError, ValueError, IndexError, OSError):
        has_damage = True
    return has_damage, frames


if __name__ == "__main__":
    sys.exit(main())
