"""A film that is only described, as if it had been probed, for tests that read no file."""

from __future__ import annotations

from array import array
from fractions import Fraction

from midframe.video.colour import Colour
from midframe.video.frame import Layout
from midframe.video.probe import Film

YUV420 = Layout("yuv", 8, 1, 1)
YUV420_10 = Layout("yuv", 10, 1, 1)
YUV444 = Layout("yuv", 8, 0, 0)
RGB = Layout("rgb", 8)
GRAY = Layout("gray", 8)

FILM = Film(
    path="in.mp4",
    container="mov,mp4,m4a,3gp,3g2,mj2",
    stream_index=0,
    codec="h264",
    width=64,
    height=48,
    pixel_format="yuv420p",
    layout=YUV420,
    colour=Colour("bt709", full_range=False),
    time_base=Fraction(1, 100),
    rate=Fraction(25),
    last_duration=Fraction(4, 100),
    ticks=array("q", [0, 4, 8, 12]),
)
"""Four frames, 25 a second, without other streams: nothing of it is read from a file."""
