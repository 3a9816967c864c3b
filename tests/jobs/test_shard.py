"""The threads around the engine: what they hand on keeps its order, and an error in one of them comes out."""

import time
from threading import Event, get_ident

import pytest

from stsb_batch.jobs.shard import ahead


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_order_whoever_is_first(workers: int):
    """Items that take longer do not let later ones pass; items and work have threads of their own."""
    threads = set()

    def work(number: int) -> int:
        threads.add(get_ident())
        time.sleep(0.02 if number % 3 == 0 else 0)
        return number * 10

    with ahead(iter(range(9)), work, workers) as results:
        assert list(results) == [number * 10 for number in range(9)]
    assert get_ident() not in threads
    assert len(threads) <= workers


@pytest.mark.parametrize("workers", [1, 2])
def test_no_more_is_taken_than_is_needed_ahead(workers: int):
    """While one result is used, `workers` more are made and one item beyond them is taken: memory stays bounded."""
    taken, enough = [], Event()

    def items():
        for number in range(50):
            taken.append(number)
            if number == workers + 1:
                enough.set()
            yield number

    with ahead(items(), lambda number: number, workers) as results:
        assert next(results) == 0
        assert enough.wait(10)
        time.sleep(0.05)
        assert len(taken) == workers + 2


def broken():
    yield 1
    raise OSError("gone")


def test_errors_come_out_in_their_turn():
    """What fails in another thread is raised where the results are taken."""
    with ahead(broken(), lambda number: number, 1) as results, pytest.raises(OSError, match="gone"):
        list(results)
    with ahead(iter([4, 0]), lambda number: 4 // number, 1) as results:
        assert next(results) == 1
        with pytest.raises(ZeroDivisionError):
            next(results)


def test_no_items_give_no_results():
    """An empty input is no error."""
    with ahead(iter([]), lambda number: number, 2) as results:
        assert list(results) == []
