"""What runs beside the scoring thread keeps its order, and its errors come out in their turn."""

import contextlib
import time
from threading import Event, get_ident

import pytest

from stsb_batch.scoring.threads import BackgroundWriter, Stages, prefetch


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_order_whoever_is_first(workers: int):
    """Items that take longer do not let later ones pass; items and work have threads of their own."""
    threads = set()

    def work(number: int) -> int:
        threads.add(get_ident())
        time.sleep(0.02 if number % 3 == 0 else 0)
        return number * 10

    assert list(prefetch(iter(range(9)), work, workers)) == [number * 10 for number in range(9)]
    assert get_ident() not in threads
    assert len(threads) <= workers


@pytest.mark.parametrize("workers", [1, 2])
def test_no_more_is_taken_than_is_needed(workers: int):
    """While one result is used, `workers` more are made and one item beyond them is taken: memory stays bounded."""
    taken, enough = [], Event()

    def items():
        for number in range(50):
            taken.append(number)
            if number == workers + 1:
                enough.set()
            yield number

    with contextlib.closing(prefetch(items(), lambda number: number, workers)) as results:
        assert next(results) == 0
        assert enough.wait(10)
        time.sleep(0.05)
        assert len(taken) == workers + 2


def broken():
    yield 1
    raise OSError("gone")


def test_errors_come_out_in_their_turn():
    """What fails in another thread is raised where the results are taken."""
    with pytest.raises(OSError, match="gone"):
        list(prefetch(broken(), lambda number: number, 1))
    results = prefetch(iter([4, 0]), lambda number: 4 // number, 1)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_no_items_give_no_results():
    """An empty input is no error."""
    assert list(prefetch(iter([]), lambda number: number, 2)) == []


def test_the_writer_is_one_call_behind():
    """Calls run in order in one other thread; what one returns or raises comes out at the next wait, once."""
    threads = []

    def work(number: int) -> int:
        threads.append(get_ident())
        return 4 // number

    with BackgroundWriter() as writer:
        assert writer.wait() is None
        writer.start(work, 2)
        assert writer.wait() == 2
        assert writer.wait() is None
        writer.start(work, 0)
        with pytest.raises(ZeroDivisionError):
            writer.wait()
        assert writer.wait() is None
    assert len(set(threads)) == 1
    assert get_ident() not in threads


def test_time_within_a_stage_counts_once():
    """What is counted for an inner stage is taken off the outer one."""
    stages = Stages()
    with stages.timed("score"), stages.timed("wait for input", within="score"):
        time.sleep(0.02)
    assert stages.seconds["wait for input"] >= 0.02
    assert 0 <= stages.seconds["score"] < stages.seconds["wait for input"]
