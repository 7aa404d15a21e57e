"""What becomes of each stream of a film in each container, and of its chapters and metadata."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from films import AudioTrack, Chapter, Film, SubtitleTrack
from midframe.video.containers import container_named
from midframe.video.probe import probe
from midframe.video.streams import (
    AudioMode,
    StreamPlan,
    channel_layout,
    chapters_for,
    container_metadata,
    film_stream_metadata,
    has_custom_keys,
    includes_cover_art,
    lost_metadata,
    plan_streams,
    stream_metadata,
)
from midframe.video.timeline import Timeline

Factory = Callable[..., Path]
SECOND = Fraction(1)
MKV = Film(
    frames=6,
    width=64,
    height=48,
    audio=(
        AudioTrack(codec="aac", disposition=int(Disposition.comment)),
        AudioTrack(codec="flac"),
        AudioTrack(codec="libopus"),
    ),
    subtitles=(SubtitleTrack(), SubtitleTrack(codec="ass")),
    attachments=(("type.ttf", "font/ttf", b"contents"),),
    cover=True,
)
MP4 = Film(frames=6, width=64, height=48, audio=(AudioTrack(),), subtitles=(SubtitleTrack(),), timecode="01:02:03:04")


def plans_for(film_factory: Factory, container: str, audio: AudioMode = "keep") -> dict[str, StreamPlan]:
    """The plans of the streams of `MKV`, by codec (attachments by their name)."""
    plans = plan_streams(probe(film_factory(MKV, ".mkv")), container_named(container), audio)
    return {plan.info.codec: plan for plan in plans}


@pytest.mark.parametrize(
    ("container", "actions"),
    [
        ("matroska", "h264:encode aac:copy flac:copy opus:copy subrip:copy ass:copy type.ttf:attach mjpeg:attach"),
        ("mp4", "h264:encode aac:copy flac:copy opus:copy subrip:convert ass:drop type.ttf:drop mjpeg:copy"),
        ("mov", "h264:encode aac:copy flac:drop opus:drop subrip:convert ass:drop type.ttf:drop mjpeg:drop"),
        ("webm", "h264:encode aac:drop flac:drop opus:copy subrip:drop ass:drop type.ttf:drop mjpeg:drop"),
        *(
            (name, "h264:encode aac:drop flac:drop opus:drop subrip:drop ass:drop type.ttf:drop mjpeg:drop")
            for name in ("gif", "webp", "yuv4mpegpipe", "images")
        ),
    ],
    ids=["matroska", "mp4", "mov", "webm", "gif", "webp", "y4m", "images"],
)
def test_action_for_each_stream(film_factory: Factory, container: str, actions: str) -> None:
    plans = plans_for(film_factory, container)
    assert {codec: plan.action for codec, plan in plans.items()} == dict(pair.split(":") for pair in actions.split())
    assert all(plan.reason for plan in plans.values() if not plan.included)


@pytest.mark.parametrize(
    ("container", "codec", "reason"),
    [
        ("mp4", "ass", "mp4 cannot hold ass"),
        ("mp4", "subrip", "mp4 holds subtitles as mov_text"),
        ("mp4", "type.ttf", "mp4 has no attachments"),
        ("webm", "mjpeg", "webm has no cover art"),
        ("mov", "aac", "mov cannot mark it as comment"),
        ("gif", "aac", "the target holds pictures only"),
        ("matroska", "aac", ""),
    ],
)
def test_reason_is_stated(film_factory: Factory, container: str, codec: str, reason: str) -> None:
    assert plans_for(film_factory, container)[codec].reason == reason


@pytest.mark.parametrize(
    ("container", "encoders"),
    [
        ("matroska", {"aac": "aac", "flac": "flac", "opus": "aac"}),
        ("mp4", {"aac": "aac", "flac": "aac", "opus": "aac"}),
        ("webm", {"aac": "libopus", "flac": "libopus", "opus": "libopus"}),
    ],
)
def test_stretched_audio_gets_an_encoder_of_the_container(
    film_factory: Factory, container: str, encoders: dict[str, str]
) -> None:
    plans = plans_for(film_factory, container, "stretch")
    assert {codec: plans[codec].codec for codec in encoders} == encoders
    assert {plans[codec].action for codec in encoders} == {"stretch"}


def test_audio_is_dropped_on_request(film_factory: Factory) -> None:
    plans = plans_for(film_factory, "matroska", "drop")
    assert {plans[codec].action for codec in ("aac", "flac", "opus")} == {"drop"}
    assert "--audio stretch" in plans["aac"].reason
    assert plans["subrip"].action == "copy"


@pytest.mark.parametrize(
    ("container", "reason"),
    [
        ("mp4", "the time code (01:02:03:04) is written anew"),
        ("matroska", "the time code (01:02:03:04) is kept as metadata"),
    ],
)
def test_time_code_stream_is_replaced(film_factory: Factory, container: str, reason: str) -> None:
    plans = plan_streams(probe(film_factory(MP4, ".mp4")), container_named(container))
    (data,) = [plan for plan in plans if plan.info.kind == "data"]
    assert (data.action, data.reason) == ("drop", reason)


def test_text_subtitles_of_mp4_become_subrip_in_matroska(film_factory: Factory) -> None:
    plans = plan_streams(probe(film_factory(MP4, ".mp4")), container_named("matroska"))
    (subtitle,) = [plan for plan in plans if plan.info.kind == "subtitle"]
    assert (subtitle.action, subtitle.codec) == ("convert", "subrip")


def test_film_without_known_streams_has_no_plans(film_factory: Factory) -> None:
    film = replace(probe(film_factory(MP4, ".mp4")), streams=())
    assert plan_streams(film, container_named("mp4")) == ()


def write_pcm(path: Path, layout: str) -> Path:
    """Write a Matroska file with a picture and PCM audio, of whose channels Matroska stores only the number."""
    with av.open(str(path), "w") as output:
        video, audio = output.add_stream("ffv1", rate=25), output.add_stream("pcm_s16le", rate=48000)
        assert isinstance(video, av.VideoStream)
        assert isinstance(audio, av.AudioStream)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio.codec_context.layout = layout
        samples = np.zeros((1, 1920 * audio.codec_context.layout.nb_channels), np.int16)
        sound = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
        sound.sample_rate = 48000
        output.mux(video.encode(av.VideoFrame(64, 48, "yuv420p")))
        output.mux(audio.encode(sound))
        output.mux([*video.encode(None), *audio.encode(None)])
    return path


def test_pcm_without_channel_layout_is_refused_by_mp4_alone(tmp_path: Path) -> None:
    source = write_pcm(tmp_path / "film.mkv", "quad")
    actions = [plan_streams(probe(source), container_named(name))[1].action for name in ("mp4", "matroska")]
    assert actions == ["drop", "copy"]


@pytest.mark.parametrize(
    ("layout", "found"), [("mono", "mono"), ("stereo", "stereo"), ("5.1", "5.1"), ("7.1", "7.1"), ("quad", None)]
)
def test_channel_layout_follows_from_the_number_of_channels(tmp_path: Path, layout: str, found: str | None) -> None:
    with av.open(str(write_pcm(tmp_path / "film.mkv", layout))) as container:
        assert channel_layout(container.streams.audio[0]) == found


CHAPTERS = Film(
    frames=48,
    width=64,
    height=48,
    chapters=(Chapter(Fraction(0), SECOND, "one"), Chapter(SECOND, 2 * SECOND, "two")),
)


def test_chapters_are_stretched_with_the_film(film_factory: Factory) -> None:
    film = probe(film_factory(CHAPTERS, ".mp4"))
    chapters = chapters_for(film, container_named("mp4"), Timeline(Fraction(0), Fraction(0), slowdown=3))
    spans = [(c["start"] * c["time_base"], c["end"] * c["time_base"], c["metadata"]["title"]) for c in chapters]
    assert spans == [(0, 3, "one"), (3, 6, "two")]


def test_chapters_are_clipped_to_the_converted_part(film_factory: Factory) -> None:
    film = probe(film_factory(CHAPTERS, ".mp4"))
    timeline = Timeline(source_start=SECOND / 4, output_start=Fraction(0), start_trimmed=True, end=SECOND / 2)
    (chapter,) = chapters_for(film, container_named("mp4"), timeline)
    assert (chapter["start"] * chapter["time_base"], chapter["end"] * chapter["time_base"]) == (0, SECOND / 4)


def test_picture_containers_have_no_chapters(film_factory: Factory) -> None:
    film = probe(film_factory(CHAPTERS, ".mp4"))
    assert chapters_for(film, container_named("gif"), Timeline(Fraction(0), Fraction(0))) == []


@pytest.mark.parametrize(
    ("container", "written"),
    [
        ("mp4", {"title": "Picture", "handler_name": "VideoHandler", "LANGUAGE": "deu"}),
        ("mov", {"title": "Picture", "handler_name": "VideoHandler", "LANGUAGE": "ger"}),
        ("matroska", {"title": "Picture", "timecode": "01:02:03:04", "LANGUAGE": "deu"}),
    ],
)
def test_stream_metadata_of_each_container(container: str, written: dict[str, str]) -> None:
    metadata = {
        "name": "Picture",
        "handler_name": "VideoHandler",
        "timecode": "01:02:03:04",
        "LANGUAGE": "deu",
        "BPS-eng": "9000",
        "DURATION": "00:00:01.000",
        "encoder": "old",
        "vendor_id": "FFMP",
    }
    assert stream_metadata(metadata, container_named(container)) == written


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_time_code_is_with_the_picture(film_factory: Factory, suffix: str) -> None:
    film = probe(film_factory(MP4, suffix))
    for name in ("mp4", "matroska"):
        assert film_stream_metadata(film, container_named(name))["timecode"] == "01:02:03:04"
    assert "timecode" not in {key.lower() for key in container_metadata(film, container_named("mp4"))}


def test_global_metadata_do_not_describe_the_old_file(film_factory: Factory) -> None:
    film = probe(film_factory(replace(MP4, metadata={"title": "T"}), ".mp4"))
    assert {"major_brand", "encoder"} <= film.metadata.keys()
    assert container_metadata(film, container_named("mp4")) == {"title": "T"}


def test_custom_metadata_are_lost_beside_cover_art_in_mp4(film_factory: Factory) -> None:
    film = probe(film_factory(replace(MKV, metadata={"title": "T", "place": "here"}), ".mkv"))
    lost = {}
    for name in ("mp4", "mov", "matroska"):
        container = container_named(name)
        plans = plan_streams(film, container)
        lost[name] = lost_metadata(film, plans, container)
        assert includes_cover_art(plans) == (name != "mov")
        assert has_custom_keys(film.metadata, container) == (name != "matroska")
    assert lost == {"mp4": ["PLACE"], "mov": [], "matroska": []}
