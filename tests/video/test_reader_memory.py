"""Decoded frames are freed as soon as they are no longer used."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import av

from films import Film
from midframe.video.probe import probe
from midframe.video.reader import ReadReport, read_frames


def test_frames_are_freed_without_the_cycle_collector(film_factory: Callable[..., Path]) -> None:
    film = probe(film_factory(Film(frames=120), ".mp4"))
    gc.collect()
    before = sum(isinstance(thing, av.VideoFrame) for thing in gc.get_objects())
    gc.disable()
    try:
        for _ in read_frames(film, ReadReport()):
            pass
        alive = sum(isinstance(thing, av.VideoFrame) for thing in gc.get_objects()) - before
    finally:
        gc.enable()
    assert alive <= 2
