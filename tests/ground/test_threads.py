"""Work side by side: order, overlap, and what happens when one piece fails."""

import threading
import time

import pytest

from mmx_jax.threads import side_by_side, stream

pytestmark = pytest.mark.fast


def test_pieces_overlap_and_keep_their_order():
    meeting = threading.Barrier(2, timeout=10)  # passes only if both are under way at once

    def piece(name):
        meeting.wait()
        return name

    out = side_by_side({"b": lambda: piece("b"), "a": lambda: piece("a")}, workers=2)
    assert list(out.items()) == [("b", "b"), ("a", "a")]


def test_the_first_exception_is_raised_and_nothing_new_begins():
    begun = []

    def broken():
        raise ValueError("broken")

    work = {"first": broken} | {
        str(i): lambda i=i: (time.sleep(0.02), begun.append(i)) for i in range(50)
    }
    with pytest.raises(ValueError, match="broken"):
        side_by_side(work, workers=1)
    assert len(begun) < 50


def test_a_stream_gives_results_as_they_come():
    released = threading.Event()
    results = stream({"now": lambda: 1, "later": lambda: released.wait(10)}, workers=2)
    assert next(results) == ("now", 1)
    released.set()
    assert next(results) == ("later", True)
