"""A flow run's time limit, so that it holds."""

import signal

AGAIN = 10.0  # seconds


def insist_on_limit() -> None:
    """Have the alarm of the present run's time limit ring again every `AGAIN` seconds, until the run has ended.

    Prefect sets it to ring once. When the error that it raises then falls into a destructor or another callback, Python
    drops it (`datasets` has destructors that take a while), and the run would go on without any limit.
    """
    left, _ = signal.getitimer(signal.ITIMER_REAL)
    if left:
        signal.setitimer(signal.ITIMER_REAL, left, AGAIN)
