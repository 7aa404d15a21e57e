"""Sound that is played slower at its own pitch, for slow motion."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, cast

import av
import av.container
import av.error
import av.filter

from midframe.video.timeline import Timeline

_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
_LOSSLESS = ("flac", "alac", "pcm", "truehd", "wavpack", "tta", "mlp")


def stretch_codec(codec: str, container: str) -> str:
    """The codec in which stretched sound is written: lossless stays lossless where the container can."""
    if container == "webm":
        return "libopus"
    return "flac" if container == "matroska" and codec.startswith(_LOSSLESS) else "aac"


class Stretcher:
    """Decodes an audio stream, stretches it by a whole factor, and encodes it for an output.

    layout: the channels that are written. Gaps in the sound's times are filled with silence.
    """

    def __init__(
        self, source: av.AudioStream, output: av.container.OutputContainer, codec: str, layout: str, timeline: Timeline
    ) -> None:
        rate = source.codec_context.sample_rate
        if codec == "libopus" or (codec == "aac" and rate not in _AAC_RATES):
            rate = 48000
        self.stream = cast(av.AudioStream, output.add_stream(codec, rate=rate))
        self.stream.codec_context.layout = layout
        channels = source.codec_context.layout.nb_channels
        if codec != "flac":
            self.stream.bit_rate = 96_000 * max(1, channels)
        self.rate = rate
        self.timeline = timeline
        self.source = source
        self.graph: av.filter.Graph | None = None
        self.samples = 0
        self.start: Fraction | None = None

    def take(self, packet: av.Packet[Any]) -> list[av.Packet[Any]]:
        """Put a packet in; gives the packets that are ready to be written."""
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            return []
        ready = []
        for frame in frames:
            if self.graph is None:
                self.start = max(self.timeline.place((frame.pts or 0) * Fraction(frame.time_base or 1)), Fraction(0))
                self.graph = self._build(frame)
            self.graph.push(frame)
            ready += self._drain()
        return ready

    def finish(self) -> list[av.Packet[Any]]:
        """What is left to be written."""
        if self.graph is None:
            return []
        for frame in self.source.codec_context.decode(None):
            self.graph.push(frame)
        self.graph.push(None)
        return [*self._drain(), *self.stream.encode(None)]

    def _build(self, frame: Any) -> av.filter.Graph:
        graph = av.filter.Graph()
        node = graph.add_abuffer(
            sample_rate=frame.sample_rate, format=frame.format.name, layout=frame.layout.name, time_base=frame.time_base
        )
        # Sound that begins later than it should, by its own times, does so after as much silence.
        steady = graph.add("aresample", "async=1:min_hard_comp=0.02")
        node.link_to(steady)
        late = graph.add("adelay", f"{_earliness(frame.sample_rate, self.timeline.slow)}S:all=1")
        steady.link_to(late)
        node, slow = late, Fraction(self.timeline.slow)
        while slow > 1:
            step = min(slow, Fraction(2))  # the filter goes down to half the speed
            tempo = graph.add("atempo", f"{float(1 / step):.9f}")
            node.link_to(tempo)
            node, slow = tempo, slow / step
        codec_format = self.stream.codec_context.format.name
        shape = graph.add(
            "aformat", f"sample_fmts={codec_format}:sample_rates={self.rate}:channel_layouts={self.stream.layout.name}"
        )
        node.link_to(shape)
        sink = graph.add("abuffersink")
        shape.link_to(sink)
        graph.configure()
        if self.stream.codec_context.frame_size:
            graph.set_audio_frame_size(self.stream.codec_context.frame_size)
        return graph

    def _drain(self) -> list[av.Packet[Any]]:
        assert self.graph is not None
        assert self.start is not None
        ready: list[av.Packet[Any]] = []
        while True:
            try:
                frame = cast(av.AudioFrame, self.graph.pull())
            except (av.error.BlockingIOError, av.error.EOFError):
                return ready
            frame.time_base = Fraction(1, self.rate)
            frame.pts = round(self.start * self.rate) + self.samples
            self.samples += frame.samples
            ready += self.stream.encode(frame)


def _earliness(rate: int, slow: int) -> int:
    """By how many samples of the source FFmpeg's `atempo` puts sound too early on average.

    It lays windows of W samples at steps of the output, each taken from the place in the input where it begins; what
    lies within a window is not stretched, so a sound comes by up to (slow - 1) W too early, half of that on average,
    in the output's time.
    """
    least = rate // 24
    window = 1 << (least - 1).bit_length()
    return (slow - 1) * window // (2 * slow)
