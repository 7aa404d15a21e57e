"""What a data set is built by: every number of the report, named, with its default."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from midframe.errors import SettingError


@dataclass(frozen=True)
class DatasetSettings:
    """Everything that decides what is in a data set, but for the films.

    window: frames of a sample (3, 5, 7); clips, seconds: how many clips of a film are looked at, and how long each is
    (fewer clips where the film is too short for them); size: long and short side that frames are scaled down to, none
    is scaled up; least_lines: a film whose short side has fewer is skipped.

    A window is taken only if, of each two frames in turn, the mean squared difference lies between `least_difference`
    and `most_difference` (8-bit RGB at output size), their distance as a cut detector sees it is below `most_distance`,
    no step is less than `least_step` times the largest (a frame that repeats most of the one before); if the
    smallest mean standard deviation of its channels is at least `least_deviation`; and if the times between its frames
    differ from their mean by no more than the share `most_jitter`. See docs/dataset.md for how the limits were found.

    jpeg: quality, or None for PNG; shard_megabytes: what a shard may grow to. seed: decides the order in the shards and
    which films are held back: the share `held` of them, or those whose names match one of `held_films`, if given.
    """

    window: int = 3
    clips: int = 80
    seconds: Fraction = Fraction(1)
    size: tuple[int, int] = (1280, 720)
    least_lines: int = 184
    least_difference: float = 2.0
    most_difference: float = 3700.0
    most_distance: float = 0.6
    least_step: float = 0.2
    least_deviation: float = 8.0
    most_jitter: float = 0.1
    jpeg: int | None = 95
    shard_megabytes: int = 256
    held: float = 0.05
    held_films: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        def need(good: bool, what: str) -> None:
            if not good:
                raise SettingError(what)

        need(self.window in (3, 5, 7), f"a window has 3, 5 or 7 frames, not {self.window}")
        need(self.clips >= 1, f"--clips {self.clips}: at least one clip of a film is needed")
        need(self.seconds > 0, f"--seconds {float(self.seconds):g}: a clip must last longer than nothing")
        need(self.size[0] >= self.size[1] >= 16, f"--size {self.size[0]}x{self.size[1]}: give LONGxSHORT, 16 at least")
        need(self.least_lines >= 1, f"--least-lines {self.least_lines}: give 1 at least")
        need(
            0 <= self.least_difference < self.most_difference,
            f"the least difference ({self.least_difference:g}) must be below the most ({self.most_difference:g})",
        )
        need(self.most_distance > 0, f"--most-distance {self.most_distance:g} must be above 0")
        need(0 <= self.least_step <= 1, f"--least-step {self.least_step:g} is a share between 0 and 1")
        need(self.least_deviation >= 0, f"--least-deviation {self.least_deviation:g} must not be negative")
        need(0 <= self.most_jitter < 1, f"--most-jitter {self.most_jitter:g} is a share from 0 to below 1")
        need(self.jpeg is None or 1 <= self.jpeg <= 100, f"--jpeg {self.jpeg}: a quality is from 1 to 100")
        need(self.shard_megabytes >= 1, f"--shard-megabytes {self.shard_megabytes}: give 1 at least")
        need(0 <= self.held < 1, f"--held {self.held:g} is a share from 0 to below 1")

    def json(self) -> dict[str, Any]:
        """As plain data, the same for the same settings."""
        return {
            **asdict(self),
            "seconds": str(self.seconds),
            "size": list(self.size),
            "held_films": list(self.held_films),
        }
