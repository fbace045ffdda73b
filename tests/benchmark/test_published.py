from __future__ import annotations

import pytest

from botorch_roma.benchmark.published import (
    PAPER_AVERAGES,
    PAPER_MAX,
    PAPER_SCORES,
    PAPER_TASKS,
    PAPER_WIDTH,
    RERUNS,
)
from botorch_roma.benchmark.tables import average_scores


@pytest.mark.parametrize("percentile", [100, 50])
def test_the_average_of_the_paper(percentile: int) -> None:
    found = average_scores(PAPER_SCORES[percentile], PAPER_MAX, PAPER_WIDTH)
    assert found == pytest.approx(PAPER_AVERAGES[percentile], abs=1e-3)
    assert average_scores({"best": PAPER_MAX}, PAPER_MAX, PAPER_WIDTH) == {"best": 1.0}


def test_shapes() -> None:
    columns = [PAPER_MAX, PAPER_WIDTH, *PAPER_SCORES[100].values(), *PAPER_SCORES[50].values()]
    assert {len(c) for c in columns} == {len(PAPER_TASKS)}
    for scores in RERUNS.values():
        for best, median in scores.values():
            assert median is None or median < best


def test_missing_score() -> None:
    with pytest.raises(ValueError, match="zip"):
        average_scores({"RoMA": (1.0,)}, PAPER_MAX, PAPER_WIDTH)
