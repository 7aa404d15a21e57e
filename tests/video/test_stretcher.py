"""Audio that is stretched in time: its length, pitch, start, gaps, and what the encoder is given."""

from __future__ import annotations

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from films import AudioTrack, Film
from midframe.video.audio import AudioStretcher, stretched_audio_encoder
from midframe.video.containers import container_named
from midframe.video.timeline import Timeline

Factory = Callable[..., Path]
PITCH = 260
"""Frequency in Hz of the tone of a film's first audio track, which is the second stream."""


def tone(rate: int = 48000, channels: int = 1, codec: str = "pcm_s16le", start: Fraction = Fraction(0)) -> Film:
    """A film of two seconds with a steady tone."""
    return Film(frames=48, width=64, height=48, audio=(AudioTrack(codec, rate, channels, start=start),))


def stretch(
    source: Path,
    timeline: Timeline,
    encoder: str = "flac",
    layout: str = "mono",
    *,
    keep: Callable[[av.Packet], bool] = lambda _: True,
    damage: Callable[[av.Packet], bytes] = bytes,
) -> tuple[AudioStretcher, bytes]:
    """Stretch the first audio stream of a film; returns the stretcher and a Matroska file of what it gave.

    keep: which packets it is given; damage: their contents.
    """
    memory = io.BytesIO()
    with av.open(str(source)) as film, av.open(memory, "w", format="matroska") as output:
        stretcher = AudioStretcher(film.streams.audio[0], output, encoder, layout, timeline)
        output.start_encoding()
        for packet in film.demux(audio=0):
            if packet.size and keep(packet):
                payload = av.Packet(damage(packet))
                payload.stream, payload.time_base = packet.stream, packet.time_base
                payload.pts, payload.dts, payload.duration = packet.pts, packet.dts, packet.duration
                output.mux(stretcher.stretch(payload))
        output.mux(stretcher.flush())
    return stretcher, memory.getvalue()


def decode(data: bytes) -> tuple[np.ndarray, Fraction, int]:
    """The samples of a Matroska file's first channel, the time of the first, and the rate."""
    with av.open(io.BytesIO(data)) as film:
        rate = film.streams.audio[0].codec_context.sample_rate
        frames = list(film.decode(audio=0))
    channels = len(frames[0].layout.channels)
    samples = [f.to_ndarray()[0] if f.format.is_planar else f.to_ndarray().reshape(-1, channels)[:, 0] for f in frames]
    assert frames[0].pts is not None
    assert frames[0].time_base is not None
    return np.concatenate(samples).astype(float), frames[0].pts * frames[0].time_base, rate


def pitch_of(samples: np.ndarray, rate: int) -> float:
    """The strongest frequency in the middle half, in Hz."""
    middle = samples[len(samples) // 4 : 3 * len(samples) // 4]
    return float(np.argmax(np.abs(np.fft.rfft(middle * np.hanning(len(middle)))))) * rate / len(middle)


def slow(factor: int, start: Fraction = Fraction(0)) -> Timeline:
    return Timeline(Fraction(0), start, slowdown=factor)


@pytest.mark.parametrize("factor", [2, 3, 8])
def test_length_is_multiplied_and_pitch_stays(film_factory: Factory, factor: int) -> None:
    _, data = stretch(film_factory(tone(), ".mkv"), slow(factor))
    samples, start, rate = decode(data)
    assert (start, rate) == (0, 48000)
    assert abs(len(samples) / rate - 2 * factor) < 0.06
    assert abs(pitch_of(samples, rate) - PITCH) < 4


def test_first_sample_is_at_its_output_time(film_factory: Factory) -> None:
    source = film_factory(tone(start=Fraction(1, 4)), ".mkv")
    _, start, _ = decode(stretch(source, slow(2, start=Fraction(1, 10)))[1])
    assert abs(start - Fraction(6, 10)) < Fraction(1, 1000)


def test_audio_before_the_output_starts_at_zero(film_factory: Factory) -> None:
    timeline = Timeline(source_start=Fraction(1, 2), output_start=Fraction(0), slowdown=2)
    _, start, _ = decode(stretch(film_factory(tone(), ".mkv"), timeline)[1])
    assert start == 0


def test_gap_becomes_silence(film_factory: Factory) -> None:
    """Half a second is missing; the output is as long as with it, and silent there."""

    def outside_the_gap(packet: av.Packet) -> bool:
        return not Fraction(3, 4) <= packet.pts * packet.time_base < Fraction(5, 4)

    whole = decode(stretch(film_factory(tone(), ".mkv"), slow(2))[1])[0]
    samples, _, rate = decode(stretch(film_factory(tone(), ".mkv"), slow(2), keep=outside_the_gap)[1])
    assert abs(len(samples) - len(whole)) < rate / 20
    assert np.abs(samples[round(1.7 * rate) : round(2.3 * rate)]).max() == 0
    assert np.abs(samples[rate : round(1.3 * rate)]).max() > 0


@pytest.mark.parametrize(
    ("encoder", "source_rate", "written_rate"),
    [
        pytest.param("aac", 44100, 44100, id="aac keeps a rate that it has"),
        pytest.param("aac", 37800, 48000, id="aac takes 48000 for a rate that it lacks"),
        pytest.param("libopus", 44100, 48000, id="opus always takes 48000"),
        pytest.param("flac", 37800, 37800, id="flac keeps any rate"),
    ],
)
def test_sample_rate(film_factory: Factory, encoder: str, source_rate: int, written_rate: int) -> None:
    stretcher, data = stretch(film_factory(tone(rate=source_rate), ".mkv"), slow(2), encoder)
    assert stretcher.sample_rate == written_rate
    samples, _, _ = decode(data)
    assert abs(pitch_of(samples, written_rate) - PITCH) < 4
    assert abs(len(samples) / written_rate - 4) < 0.06


@pytest.mark.parametrize(("channels", "layout", "bit_rate"), [(1, "mono", 96_000), (6, "5.1", 576_000)])
def test_bit_rate_follows_the_channels(film_factory: Factory, channels: int, layout: str, bit_rate: int) -> None:
    stretcher, data = stretch(film_factory(tone(channels=channels), ".mkv"), slow(2), "aac", layout)
    assert stretcher.stream.bit_rate == bit_rate
    with av.open(io.BytesIO(data)) as film:
        assert film.streams.audio[0].codec_context.layout.name == layout


def test_damaged_packets_are_left_out(film_factory: Factory) -> None:
    source = film_factory(tone(codec="flac"), ".mkv")

    def damaged(packet: av.Packet) -> bytes:
        in_the_middle = Fraction(1, 2) < packet.pts * packet.time_base < 1
        return b"\0" * packet.size if in_the_middle else bytes(packet)

    samples, _, rate = decode(stretch(source, slow(2), damage=damaged)[1])
    assert abs(len(samples) / rate - 4) < 0.1
    assert abs(pitch_of(samples[-rate:], rate) - PITCH) < 4


def test_no_packets_give_nothing(film_factory: Factory) -> None:
    with av.open(str(film_factory(tone(), ".mkv"))) as film, av.open(io.BytesIO(), "w", format="matroska") as output:
        stretcher = AudioStretcher(film.streams.audio[0], output, "flac", "mono", slow(2))
        assert stretcher.flush() == []


@pytest.mark.parametrize(
    ("codec", "container", "encoder"),
    [
        ("flac", "matroska", "flac"),
        ("pcm_s24le", "matroska", "flac"),
        ("aac", "matroska", "aac"),
        ("flac", "mp4", "aac"),
        ("flac", "webm", "libopus"),
        ("aac", "webm", "libopus"),
    ],
)
def test_encoder_by_codec_and_container(codec: str, container: str, encoder: str) -> None:
    assert stretched_audio_encoder(codec, container_named(container)) == encoder
