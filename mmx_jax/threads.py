"""Several pieces of host work at once, because compiling keeps one core busy and not Python."""

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["side_by_side", "stream"]

T = TypeVar("T")


def side_by_side(work: Mapping[str, Callable[[], T]], workers: int | None = None) -> dict[str, T]:
    """Calls every function in a thread and returns their results by name, in the order given.

    XLA compiles without Python's lock, so that programs of several explainers are compiled at the
    same time. The first exception is raised; after it nothing new is begun. Ctrl-C does not wait
    for what has been begun.

    Args:
      work: functions that don't depend on each other, by name.
      workers: threads; by default one per core, at most 4.

    >>> side_by_side({"a": lambda: 1, "b": lambda: 2})
    {'a': 1, 'b': 2}
    """
    return dict(stream(work, workers))


def stream(
    work: Mapping[str, Callable[[], T]], workers: int | None = None
) -> Iterator[tuple[str, T]]:
    """The same, one result after the other as they are there, in the order given."""
    cores = max(1, min(4, os.cpu_count() or 1)) if workers is None else workers
    pool, patient = ThreadPoolExecutor(max_workers=cores), True
    try:
        waiting = {name: pool.submit(function) for name, function in work.items()}
        for name, future in waiting.items():
            yield name, future.result()
    except KeyboardInterrupt:
        patient = False
        raise
    finally:
        pool.shutdown(wait=patient, cancel_futures=True)
