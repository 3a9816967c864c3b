"""Work beside the scoring thread: prefetch in front of it, one writer behind it, and the clock of a shard's stages."""

import contextlib
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from time import perf_counter
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
END: Any = object()


def prefetch(items: Iterator[Item], work: Callable[[Item], Result], workers: int) -> Generator[Result, None, None]:
    """Yield `work(item)` for each item in order, done ahead in `workers` threads, each one item ahead of the caller.

    The items are taken in a thread of their own. An error comes out where its result would have; closing the iterator waits
    for what is being worked on.
    """
    with ThreadPoolExecutor(1, "stsb-batch reader") as reader, ThreadPoolExecutor(workers, "stsb-batch worker") as pool:
        coming, in_progress = reader.submit(next, items, END), deque[Future[Result]]()
        while (item := coming.result()) is not END:
            coming = reader.submit(next, items, END)
            in_progress.append(pool.submit(work, item))
            if len(in_progress) > workers:
                yield in_progress.popleft().result()
        while in_progress:
            yield in_progress.popleft().result()


class BackgroundWriter:
    """Makes calls in a thread of its own, in order, at most one of them behind the caller."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "stsb-batch writer")
        self._last: Future | None = None

    def __enter__(self) -> "BackgroundWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def start(self, function: Callable, *args: object) -> None:
        """Start a call; the one before must have been waited for."""
        self._last = self._pool.submit(function, *args)

    def wait(self) -> Any:
        """Wait for the last call; returns what it returned, or raises what it raised, once."""
        last, self._last = self._last, None
        return last.result() if last else None


class Stages:
    """Seconds that a shard spent in each stage; several threads may count at a time."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._lock = Lock()

    @contextlib.contextmanager
    def timed(self, stage: str, within: str | None = None) -> Iterator[None]:
        """Count the time for a stage, and take it off the stage `within` which it happens."""
        began = perf_counter()
        yield
        took = perf_counter() - began
        with self._lock:
            self.seconds[stage] += took
            if within:
                self.seconds[within] -= took
