"""`DamageLog` counts what FFmpeg logs for one film, and leaves PyAV's logging as it was."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator

import av.logging
import pytest

from midframe.video.damage import DamageLog


def log_error(component: str, message: str, level: int = logging.ERROR) -> None:
    """Log as PyAV does for a component of FFmpeg."""
    logging.getLogger(f"libav.{component}").log(level, message)


@pytest.fixture(autouse=True)
def quiet_libav() -> Iterator[None]:
    """Keep the messages of these tests out of their output."""
    logger = logging.getLogger("libav")
    propagate, logger.propagate = logger.propagate, False
    yield
    logger.propagate = propagate


def test_errors_of_named_components_are_counted() -> None:
    with DamageLog({"h264", "matroska,webm"}) as log:
        log_error("h264", " error while decoding MB 3 4\n")
        log_error("h264", "error while decoding MB 3 4")
        log_error("matroska,webm", "File ended prematurely")
        log_error("aac", "channel element 1.0 is not allocated")
        log_error("h264", "a warning", logging.WARNING)
    assert log.messages == Counter({"h264: error while decoding MB 3 4": 2, "matroska: File ended prematurely": 1})


def test_messages_are_added_to_a_given_counter() -> None:
    messages = Counter({"h264: broken": 1})
    with DamageLog({"h264"}, messages):
        log_error("h264", "broken")
    assert messages == Counter({"h264: broken": 2})


def test_nothing_is_counted_before_and_after() -> None:
    log = DamageLog({"h264"})
    log_error("h264", "too early")
    with log:
        pass
    log_error("h264", "too late")
    assert log.messages == Counter()


def test_different_messages_are_limited() -> None:
    with DamageLog({"h264"}) as log:
        for number in range(DamageLog.LIMIT + 10):
            log_error("h264", f"error {number}")
        log_error("h264", "error 0")
    assert len(log.messages) == DamageLog.LIMIT
    assert log.messages["h264: error 0"] == 2


def test_a_thread_with_a_log_of_its_own_is_not_counted_elsewhere() -> None:
    """The message of a worker thread, which has no log, is counted in every log that is open for its component."""
    both_open, other_done = threading.Barrier(2), threading.Event()
    other = DamageLog({"h264"})

    def read_other_film() -> None:
        with other:
            both_open.wait(10)
            log_error("h264", "of the other film")
            other_done.wait(10)

    reader = threading.Thread(target=read_other_film)
    with DamageLog({"h264"}) as log:
        reader.start()
        both_open.wait(10)
        log_error("h264", "of this film")
        worker = threading.Thread(target=log_error, args=("h264", "of a worker"))
        worker.start()
        worker.join()
        other_done.set()
        reader.join()
    assert log.messages == Counter({"h264: of this film": 1, "h264: of a worker": 1})
    assert other.messages == Counter({"h264: of the other film": 1, "h264: of a worker": 1})


def test_settings_of_pyav_are_changed_while_any_log_is_open() -> None:
    before = (av.logging.get_level(), av.logging.get_skip_repeated())
    first, second = DamageLog(()), DamageLog(())
    with first:
        with second:
            assert not av.logging.get_skip_repeated()
        assert not av.logging.get_skip_repeated()
        assert (av.logging.get_level() or 0) >= av.logging.ERROR
    assert (av.logging.get_level(), av.logging.get_skip_repeated()) == before


def test_settings_of_pyav_are_restored_after_an_error() -> None:
    before = (av.logging.get_level(), av.logging.get_skip_repeated())
    with pytest.raises(RuntimeError, match="stop"), DamageLog(()):
        raise RuntimeError("stop")
    assert (av.logging.get_level(), av.logging.get_skip_repeated()) == before
    assert not DamageLog._open
