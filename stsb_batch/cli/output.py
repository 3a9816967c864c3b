"""Progress and lines for people, on stderr: a bar on a terminal, a line every few seconds anywhere else."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from stsb_batch.refresh.fine_tune import Step
    from stsb_batch.scoring.monitor import RunMonitor

LINE_SECONDS = 5.0

out = Console(highlight=False, soft_wrap=True)  # a line stays whole in a pipe, where the width is not known
err = Console(stderr=True, highlight=False)


def echo(line: str) -> None:
    """Print a line for people, on stderr."""
    err.print(line, soft_wrap=True)


@contextmanager
def exits_with(code: int) -> Iterator[None]:
    """Print inside this context; when nobody reads the output (`| head`), the process exits with `code`."""
    try:
        yield
        if sys.stdout:
            sys.stdout.flush()
    except (OSError, SystemExit):  # rich makes the second of a broken pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # where the rest goes when Python flushes at its end
        raise SystemExit(code) from None


@contextmanager
def row_progress(clock: Callable[[], float] = time.monotonic) -> Iterator[Callable[["RunMonitor"], None]]:
    """Give a callback for a scoring job's monitor; shows rows/s, tokens/s and the time left.

    The speed is that since the first batch was done: the time before it goes into opening the model.
    """
    first: list[tuple[float, int, int]] = []  # moment, rows and tokens of the first batch
    line_at = 0.0
    with _bar(TextColumn("{task.fields[speed]}")) as bar:
        task = bar.add_task("scoring", total=None, speed="opening the model", visible=False)

        def show(monitor: "RunMonitor") -> None:
            nonlocal line_at
            now = clock()
            if not monitor.rows:
                bar.update(task, total=monitor.total_rows, visible=monitor.total_rows > 0)
                return
            if not first:
                first.append((now, monitor.rows, monitor.tokens))
                line_at = now
            began, rows, tokens = first[0]
            seconds = max(now - began, 1e-9)
            rows_per_second = (monitor.rows - rows) / seconds
            speed = f"{rows_per_second:,.0f} rows/s, {(monitor.tokens - tokens) / seconds:,.0f} tokens/s"
            bar.update(task, completed=monitor.rows, speed=speed)
            if not err.is_terminal and now - line_at >= LINE_SECONDS:
                line_at = now
                left = (monitor.total_rows - monitor.rows) / max(rows_per_second, 1e-9)
                line = f"scored {monitor.rows:,} of {monitor.total_rows:,} rows, {speed}, {left:,.0f} s left"
                echo(line)

        yield show


@contextmanager
def step_progress() -> Iterator[Callable[["Step"], None]]:
    """Give a callback for training steps; shows steps, loss and the time left."""
    line_at = time.monotonic()
    with _bar(TextColumn("{task.fields[figures]}")) as bar:
        tasks: dict[str, TaskID] = {}

        def show(step: "Step") -> None:
            nonlocal line_at
            figures = ", ".join(f"{name} {value:.3f}" for name, value in step.figures.items())
            if step.stage not in tasks:
                tasks[step.stage] = bar.add_task(f"training, stage {step.stage}", total=step.total, figures="")
            bar.update(tasks[step.stage], completed=step.done, figures=figures)
            now = time.monotonic()
            if not err.is_terminal and (now - line_at >= LINE_SECONDS or step.done == step.total):
                line_at = now
                line = f"training, stage {step.stage}: step {step.done} of {step.total}"
                echo(f"{line}, {figures}" if figures else line)

        yield show


def _bar(*columns: ProgressColumn) -> Progress:
    usual = (TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*usual, *columns, console=err, disable=not err.is_terminal)
