"""Making the pictures of an interlaced film progressive, with FFmpeg's bwdif."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Literal

import av
import av.error
import av.filter

from midframe.errors import InputError

Deinterlace = Literal["off", "frame", "field"]
"""Not at all, one picture for a frame, or one for each of its two fields."""


def deinterlaced(pictures: Iterator[av.VideoFrame], mode: Deinterlace) -> Iterator[tuple[av.VideoFrame, ...]]:
    """For each picture, in order, what is shown of it: itself ("off"), its frame, or its first and second field.

    What comes out has the picture's own time (both fields have it). The order of the fields is taken from each
    picture. bwdif looks at the neighbours, so a picture comes out when the next one has been taken. Raises
    `InputError` for pictures too small for it.
    """
    if mode == "off":
        yield from ((picture,) for picture in pictures)
        return
    graph: av.filter.Graph | None = None
    times: deque[tuple[int | None, Fraction]] = deque()
    ready: deque[av.VideoFrame] = deque()
    fields = 2 if mode == "field" else 1
    for picture in itertools.chain(pictures, [None]):
        if picture is not None:
            graph = graph or _graph(picture, mode)
            times.append((picture.pts, Fraction(picture.time_base or 1)))
        if graph is None:
            return
        graph.vpush(picture)
        ready.extend(_pulled(graph))
        while len(ready) >= fields:
            shown = tuple(ready.popleft() for _ in range(fields))
            pts, base = times.popleft()
            for field in shown:
                field.pts, field.time_base = pts, base
            yield shown


def _graph(picture: av.VideoFrame, mode: Deinterlace) -> av.filter.Graph:
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=picture.width, height=picture.height, format=picture.format, time_base=Fraction(1, 1000)
    )
    bwdif = graph.add("bwdif", f"mode=send_{mode}:parity=auto:deint=all")
    sink = graph.add("buffersink")
    source.link_to(bwdif)
    bwdif.link_to(sink)
    try:
        graph.configure()
    except av.error.FFmpegError:
        name = f"{picture.width}x{picture.height} {picture.format.name}"
        raise InputError(f"pictures of {name} cannot be deinterlaced; bwdif needs 3x4 samples in each plane") from None
    return graph


def _pulled(graph: av.filter.Graph) -> Iterator[av.VideoFrame]:
    """Everything that the filter has ready."""
    while True:
        try:
            yield graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
