"""Write drawn films to files: video, audio, subtitles, chapters, attachments, cover art and tags."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.codec.context import Flags
from av.stream import Disposition
from PIL import Image

from .film import AudioTrack, Film, SubtitleTrack
from .hdr import svt_hdr, x264_hdr, x265_hdr
from .planes import SHIFT, planes
from .scenes import picture

# By suffix: the codecs of video, audio and subtitles. MP3 in AVI is avoided: its priming shifts the frames.
DEFAULT_CODECS = {
    ".mp4": ("libx264", "aac", "mov_text"),
    ".mov": ("libx264", "aac", "mov_text"),
    ".mkv": ("libx264", "aac", "subrip"),
    ".webm": ("libvpx-vp9", "libopus", "webvtt"),
    ".avi": ("mpeg4", "pcm_s16le", ""),
    ".ts": ("libx264", "aac", ""),
    ".mpg": ("mpeg2video", "mp2", ""),
    ".nut": ("rawvideo", "pcm_s16le", ""),
    ".gif": ("gif", "", ""),
    ".h264": ("libx264", "", ""),
}
# Without mbtree, with which x264 on AVX-512 sometimes encodes the same frames differently.
OPTIONS = {
    "libx264": {"preset": "veryfast", "crf": "12", "mbtree": "0"},
    "libx264rgb": {"preset": "veryfast", "crf": "12", "mbtree": "0"},
    "libx265": {"preset": "ultrafast", "crf": "12"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "16", "b": "0"},
    "libsvtav1": {"preset": "12", "crf": "18"},
    "mpeg2video": {"b": "6000000"},
    "mpeg1video": {"b": "6000000"},
    "mpeg4": {"b": "6000000"},
    "mjpeg": {"q": "2"},
}
REORDERING = ("libx264", "libx264rgb", "libx265", "mpeg2video", "mpeg1video", "mpeg4")
FIXED_RATE = ("mpeg1video", "mpeg2video")  # the time base must be the frame duration
MATRIX_CODES = {"bt601": 6, "bt709": 1, "bt2020": 9}  # code points of ITU-T H.273, for the matrix and for the primaries
SITING_NAMES = {"left": "left", "topleft": "topleft", "centre": "center"}
Y4M = {"yuv420p": "420mpeg2", "yuv422p": "422", "yuv444p": "444", "gray": "mono", "yuv420p10le": "420p10"}
Y4M |= {"yuv422p10le": "422p10", "yuv444p10le": "444p10", "yuv420p12le": "420p12", "gray10le": "mono10"}

ASS_HEADER = """[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""
"""The header without which FFmpeg takes no packets of ASS subtitles."""


def draw(film: Film, path: Path) -> Path:
    """Write a film; the suffix of `path` chooses the container (mp4 mov mkv webm avi ts mpg nut gif h264 y4m).

    Times are exact in mp4, mov and nut, and rounded to a millisecond in mkv and webm, to 1/90000 s in ts and mpg.
    """
    path = Path(path)
    if path.suffix == ".y4m":
        return _draw_y4m(film, path)
    if path.suffix not in DEFAULT_CODECS:
        raise ValueError(f"no container for {path.suffix!r}; there are {', '.join(DEFAULT_CODECS)} and .y4m")
    options = dict(film.container_options)
    if path.suffix in (".mp4", ".mov"):
        ticks = str(film.time_base.denominator)
        options = {"video_track_timescale": ticks, "movie_timescale": ticks, **options}
        options = {"use_editlist": "1", "avoid_negative_ts": "disabled", **options} if film.start < 0 else options
    with av.open(str(path), "w", options=options) as out:
        out.metadata.update(film.metadata)
        if film.timecode and path.suffix == ".mkv":
            out.metadata["timecode"] = film.timecode
        video = _video_stream(out, film, path.suffix)
        beside = _second_video(out, film) if film.second_video else []
        sounds = [(_audio_stream(out, track, path.suffix), track) for track in film.audio]
        texts = [p for track in film.subtitles for p in _subtitles(out, track, path.suffix, film.frame_times[0])]
        cover = _cover(out, path.suffix) if film.cover else []
        for name, media_type, contents in film.attachments:
            out.add_attachment(name, media_type, contents)
        if film.chapters:
            out.set_chapters(_chapters(film))
        out.start_encoding()
        origin = film.frame_times[0]
        waiting = [*cover, *beside, *texts]
        waiting += [p for stream, track in sounds for p in _audio_packets(stream, track, film, origin)]
        waiting.sort(key=_mux_time)
        for packet in _video_packets(video, film):
            while waiting and _mux_time(waiting[0]) <= _mux_time(packet):
                out.mux(waiting.pop(0))
            out.mux(packet)
        for packet in waiting:
            out.mux(packet)
    return path


def draw_pictures(film: Film, folder: Path, suffix: str = ".png", stem: str = "frame") -> Path:
    """Write each frame as an 8-bit RGB picture: `frame0.png`, `frame1.png`, … (numbers without leading zeros).

    PNG files of a film with more than 8 bits have 16 bits a channel.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    deep = suffix == ".png" and film.format.components[0].bits > 8
    for index, time in enumerate(film.frame_times):
        rgb = picture(film, time)
        target = folder / f"{stem}{index}{suffix}"
        if deep:
            target.write_bytes(_encode_picture("png", "rgb48be", np.floor(rgb * 65535 + 0.5).astype(">u2")))
        else:
            Image.fromarray(np.floor(rgb * 255 + 0.5).astype(np.uint8)).save(target)
    return folder


def video_frame(film: Film, time: Fraction) -> av.VideoFrame:
    """Return the film at `time` as a frame for an encoder."""
    frame = av.VideoFrame(film.width, film.height, film.pixel_format)
    for plane, stored in zip(frame.planes, planes(film, time), strict=False):
        rows = np.ascontiguousarray(stored).view(np.uint8)
        room = np.frombuffer(plane, np.uint8)
        if film.pixel_format == "pal8" and rows.shape == (256, 4):
            room[:1024] = rows.reshape(-1)
            continue
        room = room.reshape(-1, plane.line_size)
        room[: rows.shape[0], : rows.shape[1]] = rows
    frame.pts = int(time / film.time_base)
    frame.time_base = film.time_base
    if film.matrix:
        frame.colorspace = 0 if film.format.is_rgb else MATRIX_CODES[film.matrix]
        frame.color_range = 2 if film.is_full_range else 1
        frame.color_primaries = film.primaries or MATRIX_CODES[film.matrix]
        frame.color_trc = film.transfer_code
    return frame


def _video_stream(out: av.container.OutputContainer, film: Film, suffix: str) -> av.VideoStream:
    """Add the film's video stream to the output."""
    codec = film.codec or DEFAULT_CODECS[suffix][0]
    if codec == "rawvideo" and film.pixel_format in SHIFT:
        raise ValueError(
            f"no container here gives {film.pixel_format} back; use films.planes() and video_frame() for it"
        )
    stream = out.add_stream(codec, rate=Fraction(film.rate), options=_encoder_options(film, codec, suffix))
    stream.width, stream.height, stream.pix_fmt = film.width, film.height, film.pixel_format
    context = stream.codec_context
    if codec not in FIXED_RATE and suffix != ".avi":
        context.time_base = stream.time_base = film.time_base
    context.flags |= int(Flags.frame_duration)
    if film.interlaced:
        context.flags |= int(Flags.interlaced_dct) | int(Flags.interlaced_me)
        context.field_order = 2
    if film.sample_aspect_ratio:
        context.sample_aspect_ratio = film.sample_aspect_ratio
    _tag_colour(context, film)
    _tag_stream(stream, film, suffix)
    return stream


def _encoder_options(film: Film, codec: str, suffix: str) -> dict[str, str]:
    """Return the options of the video encoder."""
    options = {**OPTIONS.get(codec, {}), "g": str(film.gop), "threads": "1"}
    if codec in REORDERING:
        keeps_last_duration = film.last_duration is not None and suffix in (".mp4", ".mov")
        options["bf"] = "0" if keeps_last_duration or codec == "mpeg4" else str(film.b_frames)
    if not film.format.is_rgb and film.siting:
        options["chroma_sample_location"] = SITING_NAMES[film.siting]
    if codec == "libx265":
        options["x265-params"] = "log-level=error" + (f":{x265_hdr(film.hdr)}" if film.hdr else "")
    elif film.hdr and codec == "libx264":
        options["x264-params"] = x264_hdr(film.hdr)
    elif film.hdr and codec == "libsvtav1":
        options["svtav1-params"] = svt_hdr(film.hdr)
    elif film.hdr:
        raise ValueError(f"HDR metadata is drawn with libx264, libx265 and libsvtav1 only, not {codec}")
    return {**options, **film.options}


def _tag_colour(context: av.VideoCodecContext, film: Film) -> None:
    """Write the film's colour tags into an encoder."""
    if film.matrix:
        context.colorspace = 0 if film.format.is_rgb else MATRIX_CODES[film.matrix]
        context.color_primaries = film.primaries or MATRIX_CODES[film.matrix]
    elif film.primaries:
        context.color_primaries = film.primaries
    if film.transfer_code:
        context.color_trc = film.transfer_code
    if film.matrix or film.is_full_range:
        context.color_range = 2 if film.is_full_range or film.format.is_rgb else 1


def _tag_stream(stream: av.VideoStream, film: Film, suffix: str) -> None:
    """Write rotation, disposition and metadata of the film into its stream."""
    if film.display_matrix:
        stream.set_display_matrix(list(film.display_matrix))
    elif film.rotation:
        stream.set_display_rotation(film.rotation, False, False)
    if film.second_video:
        stream.disposition = Disposition.default
    stream.metadata.update(film.video_metadata)
    if film.timecode and suffix in (".mp4", ".mov"):
        stream.metadata["timecode"] = film.timecode


def _video_packets(stream: av.VideoStream, film: Film) -> Iterator[av.Packet]:
    """Encode the frames of a film."""
    for time, duration in zip(film.frame_times, film.durations, strict=True):
        frame = video_frame(film, time)
        frame.duration = int(duration / film.time_base)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _audio_stream(out: av.container.OutputContainer, track: AudioTrack, suffix: str) -> av.AudioStream:
    """Add the stream of an audio track to the output."""
    codec = track.codec or DEFAULT_CODECS[suffix][1]
    stream = out.add_stream(codec, rate=track.rate, options=dict(track.options))
    stream.codec_context.layout = {1: "mono", 2: "stereo", 6: "5.1"}[track.channels]
    _tag_track(stream, track)
    return stream


def _audio_packets(stream: av.AudioStream, track: AudioTrack, film: Film, origin: Fraction) -> Iterator[av.Packet]:
    """Encode an audio track. origin: the time of the first frame of the film, in seconds."""
    count = math.ceil((film.duration if track.duration is None else track.duration) * track.rate)
    seconds = np.arange(count) / track.rate
    if track.kind == "clicks":
        since = seconds % 0.5
        wave = np.sin(2 * np.pi * 1000 * seconds) * np.exp(-since * 200)
    else:
        wave = np.sin(2 * np.pi * (220 + 40 * stream.index) * seconds) * (0.6 + 0.3 * np.sin(2 * np.pi * 1.7 * seconds))
    samples = np.repeat((wave * 12000).astype(np.int16)[:, None], track.channels, axis=1)
    first = round((origin + track.start) * track.rate)
    layout = stream.codec_context.layout.name
    for begin in range(0, count, 4800):
        frame = av.AudioFrame.from_ndarray(samples[begin : begin + 4800].reshape(1, -1), "s16", layout)
        frame.sample_rate, frame.time_base, frame.pts = track.rate, Fraction(1, track.rate), first + begin
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _subtitles(
    out: av.container.OutputContainer, track: SubtitleTrack, suffix: str, origin: Fraction
) -> list[av.Packet]:
    """Add the stream of a subtitle track to the output, and return its packets."""
    codec = track.codec or DEFAULT_CODECS[suffix][2]
    if codec == "ass":  # needs a header, which only a template brings along
        source = av.open(io.BytesIO(ASS_HEADER.encode()), format="ass")
        stream = out.add_stream_from_template(source.streams.subtitles[0])
    else:
        stream = out.add_mux_stream(codec)
        stream.time_base = Fraction(1, 1000)
    _tag_track(stream, track)
    found = []
    for number, (start, end, text) in enumerate(track.lines):
        words = {
            "mov_text": len(text.encode()).to_bytes(2, "big") + text.encode(),
            "ass": f"{number},0,Default,,0,0,0,,{text}".encode(),
        }.get(codec, text.encode())
        packet = av.Packet(words)
        packet.stream, packet.time_base = stream, Fraction(1, 1000)
        packet.pts = packet.dts = round((origin + start) * 1000)
        packet.duration = round((end - start) * 1000)
        packet.is_keyframe = True
        found.append(packet)
    return found


def _second_video(out: av.container.OutputContainer, film: Film) -> list[av.Packet]:
    """Add another video stream: small, half as long, not the default one."""
    other = Film(width=64, height=48, frames=max(1, len(film.frame_times) // 2), rate=film.rate, scene="texture")
    stream = _video_stream(out, other, ".mkv")
    stream.disposition = Disposition(0)
    return list(_video_packets(stream, other))


def _cover(out: av.container.OutputContainer, suffix: str) -> list[av.Packet]:
    """Add cover art to the output, and return its packets; in Matroska it is an attachment."""
    jpeg = cover_jpeg()
    if suffix == ".mkv":
        out.add_attachment("cover.jpg", "image/jpeg", jpeg)
        return []
    source = av.open(io.BytesIO(jpeg), format="mjpeg")
    stream = out.add_stream_from_template(source.streams.video[0])
    stream.disposition = Disposition.attached_pic
    packet = next(p for p in source.demux() if p.size)
    packet.stream = stream
    return [packet]


def cover_jpeg() -> bytes:
    """Return the cover art of films with `Film.cover`, byte for byte."""
    buffer = io.BytesIO()
    rgb = picture(Film(width=120, height=120, scene="texture"), Fraction(0))
    Image.fromarray((rgb * 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _chapters(film: Film) -> list[dict[str, object]]:
    """Return the film's chapters as PyAV takes them."""
    return [
        {
            "id": number,
            "start": int(chapter.start * 1000),
            "end": int(chapter.end * 1000),
            "time_base": Fraction(1, 1000),
            "metadata": {"title": chapter.title},
        }
        for number, chapter in enumerate(film.chapters, 1)
    ]


def _tag_track(stream: av.stream.Stream, track: AudioTrack | SubtitleTrack) -> None:
    """Write language, title and disposition of a track into its stream."""
    if track.language:
        stream.metadata["language"] = track.language
    if track.title:
        stream.metadata["title"] = track.title
    if track.disposition is not None:
        stream.disposition = Disposition(track.disposition)


def _mux_time(packet: av.Packet) -> Fraction:
    """Return the time by which packets are interleaved; packets without a time come first."""
    ticks = packet.dts if packet.dts is not None else packet.pts
    return Fraction(-(10**9)) if ticks is None else ticks * Fraction(packet.time_base)


def _draw_y4m(film: Film, path: Path) -> Path:
    """Write a film as y4m."""
    if film.pixel_format not in Y4M:
        raise ValueError(f"y4m does not hold {film.pixel_format}; it holds {', '.join(Y4M)}")
    rate, shape = Fraction(film.rate), film.sample_aspect_ratio or Fraction(0, 1)
    aspect = f"{shape.numerator}:{shape.denominator}" if shape else "0:0"
    colour = {"centre": "420jpeg"}.get(film.siting_used, Y4M[film.pixel_format])
    tags = f"W{film.width} H{film.height} F{rate.numerator}:{rate.denominator} I{'t' if film.interlaced else 'p'}"
    span = " XCOLORRANGE=FULL" if film.is_full_range else ""
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 {tags} A{aspect} C{colour}{span}\n".encode())
        for time in film.frame_times:
            file.write(b"FRAME\n" + b"".join(plane.tobytes() for plane in planes(film, time)))
    return path


def _encode_picture(codec: str, pixel_format: str, rgb: np.ndarray) -> bytes:
    """Encode a picture."""
    context = av.CodecContext.create(codec, "w")
    context.width, context.height, context.pix_fmt = rgb.shape[1], rgb.shape[0], pixel_format  # type: ignore[attr-defined]
    context.time_base = Fraction(1, 25)
    frame = av.VideoFrame(rgb.shape[1], rgb.shape[0], pixel_format)
    room = np.frombuffer(frame.planes[0], np.uint8).reshape(rgb.shape[0], -1)
    rows = np.ascontiguousarray(rgb).view(np.uint8).reshape(rgb.shape[0], -1)
    room[:, : rows.shape[1]] = rows
    frame.pts = 0
    return b"".join(bytes(p) for p in [*context.encode(frame), *context.encode(None)])  # type: ignore[attr-defined]
