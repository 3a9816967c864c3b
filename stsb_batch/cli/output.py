"""What a person sees while something runs: a bar on a terminal, a line every few seconds anywhere else. All on stderr."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from stsb_batch.scoring.monitor import RunMonitor

LINE_SECONDS = 5.0

out = Console(highlight=False, soft_wrap=True)  # a line stays whole in a pipe, where the width is not known
err = Console(stderr=True, highlight=False)


def say(line: str) -> None:
    """Tell a person what has just been done."""
    err.print(line, soft_wrap=True)


@contextmanager
def unread_ends_with(code: int) -> Iterator[None]:
    """Print inside; when nobody reads it (`| head`), the process ends with `code`."""
    try:
        yield
        if sys.stdout:
            sys.stdout.flush()
    except (OSError, SystemExit):  # rich makes the second of a broken pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # where the rest goes when Python flushes at its end
        raise SystemExit(code) from None


@contextmanager
def row_progress() -> Iterator[Callable[["RunMonitor"], None]]:
    """Give a callback for a scoring job's monitor; shows rows/s, tokens/s and the time left.

    The speed is that since the first batch was done: the time before it goes into opening the model.
    """
    first: list[tuple[float, int, int]] = []  # moment, rows and tokens of the first batch
    line_at = 0.0
    with _bar(TextColumn("{task.fields[speed]}")) as bar:
        task = bar.add_task("scoring", total=None, speed="opening the model", visible=False)

        def show(monitor: "RunMonitor") -> None:
            nonlocal line_at
            now = time.monotonic()
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
                err.print(line, soft_wrap=True)

        yield show


@contextmanager
def step_progress() -> Iterator[Callable]:
    """Give a callback for training steps (`refresh.fine_tune.Step`); shows steps, loss and the time left."""
    state = {"said": time.monotonic()}
    with _bar(TextColumn("{task.fields[figures]}")) as bar:
        tasks: dict[str, int] = {}

        def advance(step) -> None:
            figures = ", ".join(f"{name} {value:.3f}" for name, value in step.figures.items())
            if step.stage not in tasks:
                tasks[step.stage] = bar.add_task(f"training, stage {step.stage}", total=step.total, figures="")
            bar.update(tasks[step.stage], completed=step.done, figures=figures)
            if not err.is_terminal and (time.monotonic() - state["said"] >= LINE_SECONDS or step.done == step.total):
                state["said"] = time.monotonic()
                said = f"training, stage {step.stage}: step {step.done} of {step.total}"
                err.print(f"{said}, {figures}" if figures else said, soft_wrap=True)

        yield advance


def _bar(*columns) -> Progress:
    shown = (TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn(), TimeRemainingColumn(), *columns)
    return Progress(*shown, console=err, disable=not err.is_terminal)
