"""The settings of a data set build: every number of the report, named, with its default."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from midframe.errors import SettingError


@dataclass(frozen=True)
class DatasetSettings:
    """All settings that decide the content of a data set built from given films.

    docs/dataset.md tells how the limits were measured. Mean squared differences and standard deviations are those of
    8-bit RGB at output size. Raises `SettingError` for a value out of range.
    """

    window: int = 3
    """Frames of a sample: 3, 5 or 7."""
    clips: int = 80
    """Clips searched in a film, evenly spaced; a short film has fewer."""
    seconds: Fraction = Fraction(1)
    """Length of a clip."""
    size: tuple[int, int] = (1280, 720)
    """Long and short side in pixels that larger frames are scaled down to; smaller frames keep their size."""
    least_lines: int = 184
    """Films whose short side has fewer pixels are skipped."""
    least_difference: float = 2.0
    """Smallest mean squared difference of neighbouring frames, and of the outer frames of a window."""
    most_difference: float = 3700.0
    """Largest mean squared difference of neighbouring frames; a larger one is a cut."""
    most_distance: float = 0.6
    """Largest distance of neighbouring frames by the cut detector; a larger one is a cut."""
    least_step: float = 0.2
    """Smallest difference of neighbouring frames as a fraction of the largest one in the window."""
    least_deviation: float = 8.0
    """Smallest standard deviation of a frame, averaged over the channels."""
    most_jitter: float = 0.1
    """Largest deviation of a time step from the mean time step of the window, as a fraction of that mean."""
    jpeg: int | None = 95
    """JPEG quality of the stored frames, 1 to 100; None stores PNG."""
    shard_megabytes: int = 256
    """Largest size of a shard in MB (10^6 bytes); a single larger sample still gets a shard."""
    validation_fraction: float = 0.05
    """Fraction of the films that form the validation split; above 0 it is one film at least, if there are two."""
    validation_films: tuple[str, ...] = ()
    """File name patterns; if given, the films that match one form the validation split instead."""
    seed: int = 0
    """Decides the validation films and the order of the samples in the shards."""

    def __post_init__(self) -> None:
        for is_valid, message in (
            (self.window in (3, 5, 7), f"a window has 3, 5 or 7 frames, not {self.window}"),
            (self.clips >= 1, f"--clips {self.clips}: at least one clip of a film is needed"),
            (self.seconds > 0, f"--seconds {float(self.seconds):g}: a clip must last longer than nothing"),
            (
                self.size[0] >= self.size[1] >= 16,
                f"--size {self.size[0]}x{self.size[1]}: give LONGxSHORT, 16 at least",
            ),
            (self.least_lines >= 1, f"--least-lines {self.least_lines}: give 1 at least"),
            (
                0 <= self.least_difference < self.most_difference,
                f"the least difference ({self.least_difference:g}) must be below the most ({self.most_difference:g})",
            ),
            (self.most_distance > 0, f"--most-distance {self.most_distance:g} must be above 0"),
            (0 <= self.least_step <= 1, f"--least-step {self.least_step:g} is a share between 0 and 1"),
            (self.least_deviation >= 0, f"--least-deviation {self.least_deviation:g} must not be negative"),
            (0 <= self.most_jitter < 1, f"--most-jitter {self.most_jitter:g} is a share from 0 to below 1"),
            (self.jpeg is None or 1 <= self.jpeg <= 100, f"--jpeg {self.jpeg}: a quality is from 1 to 100"),
            (self.shard_megabytes >= 1, f"--shard-megabytes {self.shard_megabytes}: give 1 at least"),
            (0 <= self.validation_fraction < 1, f"--held {self.validation_fraction:g} is a share from 0 to below 1"),
        ):
            if not is_valid:
                raise SettingError(message)

    def json(self) -> dict[str, Any]:
        """Return the settings as plain data for JSON; equal settings give equal data."""
        return {
            **asdict(self),
            "seconds": str(self.seconds),
            "size": list(self.size),
            "validation_films": list(self.validation_films),
        }
