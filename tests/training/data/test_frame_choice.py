"""Choice of three frames of a window: their times, and how often each choice is made."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import pairwise

import pytest

from midframe.errors import SettingError
from midframe.training.data.augmentation import generator_for
from midframe.training.data.frame_choice import choose_frames


@pytest.mark.parametrize("count", [3, 5, 7])
def test_chosen_frames_lie_at_their_times(count: int) -> None:
    times = [Fraction(1, 2), Fraction(1, 3), Fraction(2, 3), Fraction(1, 4)]
    chosen_times: Counter[Fraction] = Counter()
    distances: Counter[int] = Counter()
    for sample in range(300):
        choice = choose_frames(count, generator_for(0, 0, sample), times)
        assert 0 <= choice.first < choice.target < choice.second < count
        assert Fraction(choice.target - choice.first, choice.second - choice.first) == choice.time
        chosen_times[choice.time] += 1
        distances[choice.second - choice.first] += choice.time == Fraction(1, 2)
    assert set(chosen_times) == {time for time in times if time.denominator < count}
    assert min(chosen_times.values()) > 40
    counts_at_half = [distances[k] for k in range(2, count, 2)]
    assert all(abs(a - b) < 35 for a, b in pairwise(counts_at_half))


def test_a_time_without_a_frame_is_refused() -> None:
    with pytest.raises(SettingError, match="windows of 3 frames"):
        choose_frames(3, generator_for(0, 0, 0), [Fraction(1, 3)])
