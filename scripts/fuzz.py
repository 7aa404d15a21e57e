"""Damage small films at random, convert them, and see that nothing bad happens and nothing is passed over in silence.

    python scripts/fuzz.py --cases 500 --out benchmarks/results/fuzz.json

Each case is one of three drawn films with one random corruption, converted with and without `keep_going` by a worker
process that a time limit watches. What must hold: no error but a `MidframeError`, no crash, no hang, no file left
behind, and no success without a word where an independent reading by PyAV shows damage (an exception, a packet or
frame marked as corrupt) or fewer frames than the whole film has. Ends with exit code 1 where one of these fails.
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
"""Seconds for one case; both conversions and the independent reading usually take less than one."""


@dataclass
class Verdict:
    """What one case gave: for each mode how it ended, and everything that must not be."""

    film: str
    corruption: str
    seed: int
    shows_damage: bool = False
    plain: str = ""
    keep_going: str = ""
    faults: list[str] = field(default_factory=list)


def bit_flips(data: bytearray, draw: random.Random) -> None:
    for _ in range(draw.choice((1, 3, 10, 100))):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def zeroed_run(data: bytearray, draw: random.Random) -> None:
    start = draw.randrange(len(data))
    length = min(draw.choice((4, 64, 1000, 8000)), len(data) - start)
    data[start : start + length] = bytes(length)


def truncation(data: bytearray, draw: random.Random) -> None:
    del data[draw.randrange(len(data)) :]


def swapped_chunks(data: bytearray, draw: random.Random) -> None:
    length = min(draw.choice((16, 188, 1024, 4096)), len(data) // 3)
    first, second = sorted((draw.randrange(len(data) - 2 * length), draw.randrange(len(data) - 2 * length)))
    second = max(second, first + length)
    one, other = data[first : first + length], data[second : second + length]
    data[first : first + length], data[second : second + length] = other, one


def header_field(data: bytearray, draw: random.Random) -> None:
    """A four-byte number in the first or last 2 KB, where containers keep what they know about the film."""
    near = draw.randrange(min(2048, len(data) - 4))
    where = near if draw.random() < 0.6 else len(data) - 4 - near
    data[where : where + 4] = draw.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, draw.getrandbits(32))).to_bytes(4, "big")


def inserted_rubbish(data: bytearray, draw: random.Random) -> None:
    where = draw.randrange(len(data))
    data[where:where] = draw.randbytes(draw.choice((1, 5, 200, 3000)))


CORRUPTIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    bit_flips,
    zeroed_run,
    truncation,
    swapped_chunks,
    header_field,
    inserted_rubbish,
)


def draw_films(folder: Path) -> list[Path]:
    """The whole films: mp4 (H.264, AAC), mkv (VP9, SubRip), avi (MPEG-4, MP3)."""
    sys.path.insert(0, str(ROOT / "tests"))
    from films import AudioTrack, Film, SubtitleTrack, draw

    base = {"width": 96, "height": 64, "frames": 12, "gop": 6}
    return [
        draw(Film(**base, audio=(AudioTrack(),)), folder / "h264.mp4"),
        draw(Film(**base, codec="libvpx-vp9", subtitles=(SubtitleTrack(),)), folder / "vp9.mkv"),
        draw(Film(**base, codec="mpeg4", audio=(AudioTrack(),)), folder / "mpeg4.avi"),
    ]


def fuzz(cases: int, seed: int, only: int | None = None) -> list[Verdict]:
    """Run that many cases; the same seed gives the same ones. With `only`, just that one."""
    verdicts = []
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
                verdict = Verdict(film.name, corruption.__name__, k)
                worker.judge(case, film, verdict)
                verdicts.append(verdict)
    return verdicts


class Worker:
    """A process that converts one case after the other; started again when it crashed or hung."""

    def __init__(self, films: list[Path]) -> None:
        self.films = films
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def judge(self, case: Path, film: Path, verdict: Verdict) -> None:
        if self.process is None:
            command = [sys.executable, "-X", "faulthandler", __file__, "--worker", *map(str, self.films)]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self._line(120.0)
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"case": str(case), "film": str(film)}) + "\n")
            self.process.stdin.flush()
            answer = self._line(LIMIT)
        except TimeoutError:
            verdict.faults.append(f"hung for {LIMIT:g} s")
            self._end()
            return
        except (BrokenPipeError, EOFError):
            verdict.faults.append(f"crashed: the worker ended with {self.process.wait()}")
            self._end()
            return
        verdict.shows_damage = answer["shows_damage"]
        verdict.plain, verdict.keep_going = answer["plain"], answer["keep_going"]
        verdict.faults += answer["faults"]

    def _line(self, limit: float) -> dict[str, Any]:
        assert self.process is not None
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], limit)[0]:
            raise TimeoutError
        line = self.process.stdout.readline()
        if not line:
            raise EOFError
        return dict(json.loads(line))

    def _end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def work(films: list[Path]) -> None:
    """The worker: reads cases from standard input, answers on standard output."""
    import av.logging

    av.logging.set_level(av.logging.PANIC)  # PyAV prints a traceback where its log is turned off while it is used
    whole = {str(film): (read_independently(film)[1], _converted(film, False)[2]) for film in films}
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        case = Path(request["case"])
        frames, usual = whole[request["film"]]
        damaged, found = read_independently(case)
        answer: dict[str, Any] = {"shows_damage": damaged or found < frames, "faults": []}
        for mode in (False, True):
            before = set(case.parent.iterdir())
            words, faults, warnings = _converted(case, mode)
            said = set(warnings) - set(usual)
            if words.startswith("done") and answer["shows_damage"] and not said:
                faults.append(f"{'keep_going' if mode else 'plain'}: done without a word, {found} of {frames} frames")
            faults += [f"left behind: {left.name}" for left in set(case.parent.iterdir()) - before]
            answer["keep_going" if mode else "plain"] = words + (", with words" if said and "done" in words else "")
            answer["faults"] += faults
        print(json.dumps(answer), flush=True)


def _converted(case: Path, keep_going: bool) -> tuple[str, list[str], list[str]]:
    """(how a conversion ended, faults, warnings)."""
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


def read_independently(path: Path) -> tuple[bool, int]:
    """Whether PyAV alone sees damage in a film (packets of all streams, frames of the picture), and its frames."""
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


def report(verdicts: list[Verdict], seconds: float, seed: int) -> dict[str, Any]:
    """Counts over all cases, and the whole of those that failed."""
    bad = [verdict for verdict in verdicts if verdict.faults]
    return {
        "cases": len(verdicts),
        "seed": seed,
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "seconds": round(seconds, 1),
        "shown_as_damaged_by_pyav": sum(v.shows_damage for v in verdicts),
        "plain": dict(Counter(v.plain for v in verdicts).most_common()),
        "keep_going": dict(Counter(v.keep_going for v in verdicts).most_common()),
        "by_film": dict(Counter(v.film for v in verdicts)),
        "by_corruption": dict(Counter(v.corruption for v in verdicts)),
        "failed": [asdict(v) for v in bad],
    }


def main() -> int:
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
    began = time.monotonic()
    verdicts = fuzz(options.cases, options.seed, options.only)
    result = report(verdicts, time.monotonic() - began, options.seed)
    text = json.dumps(result, indent=2) + "\n"
    print(text, end="")
    if options.out:
        options.out.write_text(text)
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
