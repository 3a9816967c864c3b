"""A flow run's timeout, so that it cannot be lost."""

import signal

REARM_SECONDS = 10.0


def rearm_timeout(every: float = REARM_SECONDS) -> None:
    """Have the timeout of the present run fire again every so many seconds, until the run has ended.

    Prefect sets an alarm that fires once. When the error that it raises falls into a destructor or another callback, Python
    drops it (`datasets` has destructors that take a while), and the run would go on without any timeout.
    """
    left, _ = signal.getitimer(signal.ITIMER_REAL)
    if left:
        signal.setitimer(signal.ITIMER_REAL, left, every)
