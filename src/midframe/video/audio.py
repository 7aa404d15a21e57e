"""Stretch audio in time without changing its pitch, for slow motion."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, cast

import av
import av.container
import av.error
import av.filter

from midframe.video.containers import Container
from midframe.video.timeline import Timeline

BIT_RATE_PER_CHANNEL = 96_000
"""Bit rate of lossy audio, in bit/s for each channel."""

_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
"""The sample rates that AAC can have, in Hz."""

_LOSSLESS = ("flac", "alac", "pcm", "truehd", "wavpack", "tta", "mlp")
"""Prefixes of the names of lossless audio codecs."""


def stretched_audio_encoder(codec: str, container: Container) -> str:
    """Return the encoder for stretched audio; lossless audio stays lossless if the container has an encoder for it."""
    if container.lossless_audio_encoder is not None and codec.startswith(_LOSSLESS):
        return container.lossless_audio_encoder
    return container.audio_encoder


class AudioStretcher:
    """Decodes an audio stream, stretches it by `timeline.slowdown` at constant pitch, and encodes it for an output.

    Gaps in the audio's times are filled with silence.
    """

    def __init__(
        self,
        source: av.AudioStream,
        output: av.container.OutputContainer,
        encoder: str,
        layout: str,
        timeline: Timeline,
    ) -> None:
        """Add the encoded stream to an output.

        encoder: FFmpeg's name of the audio encoder; layout: FFmpeg's name of the channel layout that is written.
        """
        rate = source.codec_context.sample_rate
        if encoder == "libopus" or (encoder == "aac" and rate not in _AAC_RATES):
            rate = 48000
        self.stream = cast(av.AudioStream, output.add_stream(encoder, rate=rate))
        self.stream.codec_context.layout = layout
        if encoder != "flac":
            self.stream.bit_rate = BIT_RATE_PER_CHANNEL * max(1, source.codec_context.layout.nb_channels)
        self.sample_rate = rate
        self._timeline = timeline
        self._source = source
        self._graph: av.filter.Graph | None = None
        self._samples_written = 0
        self._start = Fraction(0)  # output time of the first sample; known when the first frame is decoded

    def stretch(self, packet: av.Packet[Any]) -> list[av.Packet[Any]]:
        """Decode a packet of the source and return the encoded packets that are ready; damaged packets give none."""
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            return []
        ready = []
        for frame in frames:
            if self._graph is None:
                time = (frame.pts or 0) * Fraction(frame.time_base or 1)
                self._start = max(self._timeline.output_time(time), Fraction(0))
                self._graph = self._build_graph(frame)
            self._graph.push(frame)
            ready += self._encode_filtered(self._graph)
        return ready

    def flush(self) -> list[av.Packet[Any]]:
        """Flush decoder, filters and encoder at the end of the source, and return the last packets."""
        if self._graph is None:
            return []
        for frame in self._source.codec_context.decode(None):
            self._graph.push(frame)
        self._graph.push(None)
        return [*self._encode_filtered(self._graph), *self.stream.encode(None)]

    def _build_graph(self, frame: Any) -> av.filter.Graph:
        """Build the filter graph for frames like `frame`: fill gaps, delay, stretch, convert the sample format."""
        graph = av.filter.Graph()
        remaining = Fraction(self._timeline.slowdown)  # the factor that no filter in the list covers yet
        filters = [
            ("aresample", "async=1:min_hard_comp=0.02"),  # fills gaps between the frames' times with silence
            ("adelay", f"{_stretch_delay(frame.sample_rate, self._timeline.slowdown)}S:all=1"),
        ]
        while remaining > 1:
            step = min(remaining, Fraction(2))  # atempo goes down to half the speed
            filters.append(("atempo", f"{float(1 / step):.9f}"))
            remaining /= step
        sample_format, layout = self.stream.codec_context.format.name, self.stream.layout.name
        filters += [
            ("aformat", f"sample_fmts={sample_format}:sample_rates={self.sample_rate}:channel_layouts={layout}"),
            ("abuffersink", ""),
        ]
        last = graph.add_abuffer(
            sample_rate=frame.sample_rate, format=frame.format.name, layout=frame.layout.name, time_base=frame.time_base
        )
        for name, arguments in filters:
            node = graph.add(name, arguments)
            last.link_to(node)
            last = node
        graph.configure()
        if self.stream.codec_context.frame_size:
            graph.set_audio_frame_size(self.stream.codec_context.frame_size)
        return graph

    def _encode_filtered(self, graph: av.filter.Graph) -> list[av.Packet[Any]]:
        """Encode the frames that have come out of the graph, at times that follow from the number of samples."""
        ready: list[av.Packet[Any]] = []
        while True:
            try:
                frame = cast(av.AudioFrame, graph.pull())
            except (av.error.BlockingIOError, av.error.EOFError):
                return ready
            frame.time_base = Fraction(1, self.sample_rate)
            frame.pts = round(self._start * self.sample_rate) + self._samples_written
            self._samples_written += frame.samples
            ready += self.stream.encode(frame)


def _stretch_delay(rate: int, slowdown: int) -> int:
    """Return the delay, in samples of the source, that makes up for FFmpeg's `atempo` being early.

    `atempo` copies windows of W samples from the source without stretching them. The first sample of a window comes at
    the right time, the last one (slowdown - 1) W output samples too early; the mean error is half of that.
    """
    shortest_window = rate // 24  # `atempo` rounds this up to a power of 2
    window = 1 << (shortest_window - 1).bit_length()
    return (slowdown - 1) * window // (2 * slowdown)
