"""Deinterlace decoded frames with FFmpeg's bwdif filter."""

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
"""How a film is deinterlaced: not at all, to one picture for each frame, or to one for each of its two fields."""


def deinterlace_frames(frames: Iterator[av.VideoFrame], mode: Deinterlace) -> Iterator[tuple[av.VideoFrame, ...]]:
    """Yield for each frame, in order, its progressive pictures: itself ("off"), one ("frame") or two ("field").

    Both pictures of a frame have its timestamp. The field order is taken from each frame. bwdif also uses the
    neighbouring frames, so the pictures of a frame follow when the next frame has been read. Raises `InputError` for
    frames that are too small for the filter.
    """
    if mode == "off":
        yield from ((frame,) for frame in frames)
        return
    graph: av.filter.Graph | None = None
    timestamps: deque[tuple[int | None, Fraction]] = deque()
    filtered: deque[av.VideoFrame] = deque()
    pictures_per_frame = 2 if mode == "field" else 1
    for frame in itertools.chain(frames, [None]):  # None drains the filter
        if frame is not None:
            graph = graph or _bwdif_graph(frame, mode)
            timestamps.append((frame.pts, Fraction(frame.time_base or 1)))
        if graph is None:
            return
        graph.vpush(frame)
        filtered.extend(_pull_all(graph))
        while len(filtered) >= pictures_per_frame:
            pictures = tuple(filtered.popleft() for _ in range(pictures_per_frame))
            pts, base = timestamps.popleft()
            for picture in pictures:
                picture.pts, picture.time_base = pts, base
            yield pictures


def _bwdif_graph(frame: av.VideoFrame, mode: Deinterlace) -> av.filter.Graph:
    """Return a filter graph that deinterlaces frames like the given one."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000))
    bwdif = graph.add("bwdif", f"mode=send_{mode}:parity=auto:deint=all")
    sink = graph.add("buffersink")
    source.link_to(bwdif)
    bwdif.link_to(sink)
    try:
        graph.configure()
    except av.error.FFmpegError:
        name = f"{frame.width}x{frame.height} {frame.format.name}"
        raise InputError(f"pictures of {name} cannot be deinterlaced; bwdif needs 3x4 samples in each plane") from None
    return graph


def _pull_all(graph: av.filter.Graph) -> Iterator[av.VideoFrame]:
    """Yield all pictures that the filter has finished."""
    while True:
        try:
            yield graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
