"""Draw films of known motion for the tests, and read films without Midframe.

    film = Film(frames=12, codec="ffv1", cuts=(6,), audio=(AudioTrack(),))
    path = draw(film, tmp_path / "film.mkv")
    truth = picture(film, Fraction(1, 48))     # float RGB at any time, also between frames
    expected = planes(film, Fraction(1, 48))   # the same as planes of the film's pixel format

Everything is deterministic: the same film is always drawn as the same pictures. Only PyAV, numpy and Pillow are used.
Colours are converted by code of this package, so that the tests do not compare Midframe with itself.
"""

from .broken import (
    audio_only,
    bit_flips,
    dropped,
    empty,
    falling_times,
    moov_missing,
    size_change,
    text,
    truncated,
    undecodable,
)
from .drawing import cover_jpeg, draw, draw_pictures, video_frame
from .film import AudioTrack, Chapter, Film, Hdr, SubtitleTrack
from .messages import captioned, dynamic_hdr
from .planes import planes, planes_of, rgb_of
from .reading import DecodedFrame, PacketFact, packets, read_frames, read_planes, read_times, side_data
from .scenes import picture

__all__ = [
    "AudioTrack",
    "Chapter",
    "DecodedFrame",
    "Film",
    "Hdr",
    "PacketFact",
    "SubtitleTrack",
    "audio_only",
    "bit_flips",
    "captioned",
    "cover_jpeg",
    "draw",
    "draw_pictures",
    "dropped",
    "dynamic_hdr",
    "empty",
    "falling_times",
    "moov_missing",
    "packets",
    "picture",
    "planes",
    "planes_of",
    "read_frames",
    "read_planes",
    "read_times",
    "rgb_of",
    "side_data",
    "size_change",
    "text",
    "truncated",
    "undecodable",
    "video_frame",
]
