"""The film writer: exact frames and times, padding, tags, interleaving, and how failures are reported."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from films import AudioTrack, Film, packets, read_frames, read_times
from midframe.errors import OutputError, SettingError
from midframe.video.colour import Colour, ColourTags
from midframe.video.containers import Container, container_named
from midframe.video.encoders import Encoder, EncoderRequest, choose_encoder
from midframe.video.frame import Frame, Layout
from midframe.video.pixels import planes_of
from midframe.video.probe import HdrMetadata, probe
from midframe.video.remuxer import Remuxer
from midframe.video.streams import plan_streams
from midframe.video.timeline import Timeline
from midframe.video.writer import FilmWriter, OutputFormat, check_output_format

Factory = Callable[..., Path]
MATROSKA, MP4, WEBM = container_named("matroska"), container_named("mp4"), container_named("webm")
YUV420 = Layout("yuv", 8, 1, 1)
COLOUR = Colour("bt709", full_range=False)
RATE = Fraction(24000, 1001)


def output_format(container: Container = MATROSKA, encoder: str = "ffv1", layout: Layout = YUV420) -> OutputFormat:
    chosen = choose_encoder(container, layout, COLOUR, HdrMetadata(), EncoderRequest(encoder=encoder))
    return OutputFormat(container, chosen, layout, COLOUR, 64, 48, rate=RATE, time_base=1 / RATE)


def remuxer_for(source: Path, container: Container) -> Remuxer:
    film = probe(source)
    return Remuxer(film, plan_streams(film, container), container, Timeline(Fraction(0), Fraction(0)))


@pytest.fixture
def no_streams(film_factory: Factory) -> Remuxer:
    """A remuxer of a film that has nothing but its picture."""
    return remuxer_for(film_factory(Film(frames=2, width=64, height=48), ".mp4"), MATROSKA)


def noise_frames(times: list[Fraction], layout: Layout = YUV420, width: int = 64, height: int = 48) -> list[Frame]:
    generator = np.random.default_rng(0)
    sizes = layout.sizes(width, height)
    return [
        Frame(
            tuple(generator.integers(0, layout.peak + 1, size).astype(layout.dtype) for size in sizes),
            layout,
            time,
            1 / RATE,
        )
        for time in times
    ]


def at_rate(count: int) -> list[Fraction]:
    return [k / RATE for k in range(count)]


def write(writer: FilmWriter, frames: list[Frame]) -> None:
    for frame in frames:
        writer.write(frame)
    writer.finish()


@pytest.mark.parametrize(
    "layout", [YUV420, Layout("yuv", 10, 1, 0), Layout("rgb", 8), Layout("gray", 8)], ids=lambda layout: layout.name
)
def test_lossless_frames_come_back_bit_identical(tmp_path: Path, no_streams: Remuxer, layout: Layout) -> None:
    frames = noise_frames(at_rate(4), layout)
    writer = FilmWriter(str(tmp_path / "out.mkv"), output_format(layout=layout), no_streams)
    write(writer, frames)
    writer.commit()
    with av.open(str(tmp_path / "out.mkv")) as film:
        found = [planes_of(picture)[0] for picture in film.decode(video=0)]
    for frame, planes in zip(frames, found, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(frame.planes, planes, strict=True))


def test_variable_times_are_exact_in_mp4(tmp_path: Path, no_streams: Remuxer) -> None:
    times = [Fraction(k, 90000) for k in (0, 1, 3003, 90000, 90001, 123456)]
    form = replace(output_format(MP4, "libx264"), time_base=Fraction(1, 90000))
    writer = FilmWriter(str(tmp_path / "out.mp4"), form, no_streams)
    write(writer, noise_frames(times))
    assert list(writer.ticks) == [0, 1, 3003, 90000, 90001, 123456]
    writer.commit()
    assert read_times(tmp_path / "out.mp4") == times


def test_small_frames_are_padded_with_their_last_column_and_row(tmp_path: Path, no_streams: Remuxer) -> None:
    (frame,) = noise_frames([Fraction(0)], width=61, height=47)
    writer = FilmWriter(str(tmp_path / "out.mkv"), output_format(), no_streams)
    write(writer, [frame])
    writer.commit()
    (found,) = read_frames(tmp_path / "out.mkv")
    for plane, padded in zip(frame.planes, found.planes, strict=True):
        height, width = plane.shape
        assert np.array_equal(padded[:height, :width], plane)
        assert (padded[:height, width:] == plane[:, -1:]).all()
        assert (padded[height:, :width] == plane[-1]).all()


def test_description_of_the_picture_is_written(tmp_path: Path, no_streams: Remuxer) -> None:
    form = replace(
        output_format(MP4, "libx265"),
        colour=Colour("bt2020", full_range=False, tags=ColourTags(9, 1, 9, 16)),
        aspect=Fraction(16, 11),
        metadata={"title": "Film", "com.example.place": "here"},
        stream_metadata={"language": "deu"},
        chapters=({"id": 0, "start": 0, "end": 500, "time_base": Fraction(1, 1000), "metadata": {"title": "one"}},),
    )
    writer = FilmWriter(str(tmp_path / "out.mp4"), form, no_streams)
    write(writer, noise_frames(at_rate(3)))
    writer.commit()
    with av.open(str(tmp_path / "out.mp4")) as film:
        stream = film.streams.video[0]
        context = stream.codec_context
        assert (context.colorspace, context.color_range, context.color_primaries, context.color_trc) == (9, 1, 9, 16)
        assert stream.sample_aspect_ratio == Fraction(16, 11)
        assert (film.metadata["title"], film.metadata["com.example.place"]) == ("Film", "here")
        assert stream.metadata["language"] == "deu"
        assert [(c["start"] * c["time_base"], c["metadata"]["title"]) for c in film.chapters()] == [(0, "one")]
        assert context.codec_tag == "hvc1"


def test_disposition_is_written(tmp_path: Path, no_streams: Remuxer) -> None:
    form = replace(output_format(), disposition=int(Disposition.default | Disposition.original))
    writer = FilmWriter(str(tmp_path / "out.mkv"), form, no_streams)
    write(writer, noise_frames(at_rate(2)))
    writer.commit()
    with av.open(str(tmp_path / "out.mkv")) as film:
        assert film.streams.video[0].disposition == Disposition.default | Disposition.original


def test_other_streams_are_interleaved(film_factory: Factory, tmp_path: Path) -> None:
    """Audio is never more than half a second from the picture that is beside it in the file."""
    source = film_factory(Film(frames=96, width=64, height=48, audio=(AudioTrack(codec="flac"),)), ".mkv")
    writer = FilmWriter(str(tmp_path / "out.mkv"), output_format(), remuxer_for(source, MATROSKA))
    write(writer, noise_frames(at_rate(96)))
    writer.commit()
    assert packets(tmp_path / "out.mkv")[1] == packets(source)[1]
    latest = {"video": Fraction(0), "audio": Fraction(0)}
    with av.open(str(tmp_path / "out.mkv")) as film:
        for packet in film.demux():
            if packet.size:
                latest[packet.stream.type] = packet.pts * packet.time_base
                assert abs(latest["video"] - latest["audio"]) < Fraction(1, 2)


@pytest.mark.parametrize(
    ("audio_rate", "multiples"),
    [
        pytest.param(None, (24000,), id="the film's clock alone"),
        pytest.param(44100, (24000, 44100), id="both clocks"),
    ],
)
def test_movie_timescale_holds_the_start_of_every_stream(
    film_factory: Factory, tmp_path: Path, audio_rate: int | None, multiples: tuple[int, ...]
) -> None:
    audio = () if audio_rate is None else (AudioTrack(codec="aac", rate=audio_rate),)
    source = film_factory(Film(frames=24, width=64, height=48, audio=audio), ".mp4")
    form = replace(output_format(MP4, "libx264"), time_base=Fraction(1, 24000))
    writer = FilmWriter(str(tmp_path / "out.mp4"), form, remuxer_for(source, MP4))
    write(writer, noise_frames(at_rate(24)))
    writer.commit()
    assert all(movie_timescale(tmp_path / "out.mp4") % multiple == 0 for multiple in multiples)


def test_movie_timescale_is_never_coarse(tmp_path: Path, no_streams: Remuxer) -> None:
    form = replace(output_format(MP4, "libx264"), time_base=Fraction(1, 25))
    writer = FilmWriter(str(tmp_path / "out.mp4"), form, no_streams)
    write(writer, noise_frames([Fraction(0), Fraction(1, 25)]))
    writer.commit()
    assert movie_timescale(tmp_path / "out.mp4") == 25 * 2**9


def movie_timescale(path: Path) -> int:
    """The ticks a second of an mp4's movie header."""
    data = path.read_bytes()
    header = data.index(b"mvhd")
    timescale: int = struct.unpack_from(">I", data, header + 16)[0]
    return timescale


def test_target_is_untouched_until_commit(tmp_path: Path, no_streams: Remuxer) -> None:
    target = tmp_path / "out.mkv"
    target.write_bytes(b"mine")
    writer = FilmWriter(str(target), output_format(), no_streams, overwrite=True)
    write(writer, noise_frames(at_rate(2)))
    assert target.read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mkv", f"out.mkv.{os.getpid()}.part"]
    writer.commit()
    assert [path.name for path in tmp_path.iterdir()] == ["out.mkv"]
    assert len(read_times(target)) == 2


def test_commit_refuses_a_target_that_has_appeared(tmp_path: Path, no_streams: Remuxer) -> None:
    writer = FilmWriter(str(tmp_path / "out.mkv"), output_format(), no_streams)
    write(writer, noise_frames(at_rate(2)))
    (tmp_path / "out.mkv").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"exists; --overwrite replaces it"):
        writer.commit()
    writer.abort()
    assert (tmp_path / "out.mkv").read_bytes() == b"mine"
    assert [path.name for path in tmp_path.iterdir()] == ["out.mkv"]


@pytest.mark.parametrize("count", [0, 3])
def test_abort_leaves_nothing(tmp_path: Path, no_streams: Remuxer, count: int) -> None:
    writer = FilmWriter(str(tmp_path / "out.mkv"), output_format(), no_streams)
    for frame in noise_frames(at_rate(count)):
        writer.write(frame)
    writer.abort()
    writer.abort()
    assert list(tmp_path.iterdir()) == []


def test_missing_folder_is_an_output_error(tmp_path: Path, no_streams: Remuxer) -> None:
    with pytest.raises(OutputError, match=r"missing.*cannot be written: No such file or directory"):
        FilmWriter(str(tmp_path / "missing" / "out.mkv"), output_format(), no_streams)


def test_times_that_fall_are_an_output_error(tmp_path: Path, no_streams: Remuxer) -> None:
    writer = FilmWriter(str(tmp_path / "out.mkv"), output_format(), no_streams)
    with pytest.raises(OutputError, match=r"out\.mkv cannot be written: "):
        write(writer, noise_frames([Fraction(1), Fraction(0)]))
    writer.abort()
    assert list(tmp_path.iterdir()) == []


class FailingRemuxer(Remuxer):
    """A remuxer that fails as a full disk does, while frames are written or at the end."""

    def __init__(self, fails_at_end: bool) -> None:
        self.plans = []
        self.remuxed = {}
        self.closed = False
        self.fails_at_end = fails_at_end

    def add_streams(self, output: av.container.OutputContainer) -> None:
        pass

    def time_bases(self) -> list[Fraction]:
        return []

    def advance(self, output: av.container.OutputContainer, until: Fraction | None) -> None:
        if not self.fails_at_end:
            raise OSError(errno.ENOSPC, "No space left on device")

    def finish(self, output: av.container.OutputContainer) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("fails_at_end", [False, True])
def test_full_disk_is_one_line(tmp_path: Path, fails_at_end: bool) -> None:
    remuxer = FailingRemuxer(fails_at_end)
    writer = FilmWriter(str(tmp_path / "out.mkv"), output_format(), remuxer)
    with pytest.raises(OutputError, match=r"out\.mkv cannot be written: no space left on the disk$"):
        write(writer, noise_frames(at_rate(2)))
    writer.abort()
    assert remuxer.closed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("form", "message"),
    [
        pytest.param(
            output_format(WEBM),
            r"webm cannot hold the output of ffv1;.* libsvtav1 libvpx-vp9, or write an \.mkv",
            id="webm",
        ),
        pytest.param(
            replace(output_format(), encoder=Encoder("libx264", "yuv420p", {"preset": "silly"})),
            r"the encoder libx264 refused its settings \(preset=silly\): ",
            id="refused option",
        ),
        pytest.param(
            replace(output_format(MP4, "mpeg2video"), rate=Fraction(17), time_base=Fraction(1, 17)),
            r"the encoder mpeg2video refused its settings",
            id="refused rate",
        ),
    ],
)
def test_format_that_does_not_work_is_a_setting_error(form: OutputFormat, message: str) -> None:
    with pytest.raises(SettingError, match=message) as caught:
        check_output_format(form)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "form",
    [output_format(), output_format(MP4, "libx264"), output_format(MP4, "libx265"), output_format(WEBM, "libvpx-vp9")],
    ids=lambda form: f"{form.container.name}-{form.encoder.name}",
)
def test_format_that_works_is_accepted(form: OutputFormat) -> None:
    check_output_format(form)
