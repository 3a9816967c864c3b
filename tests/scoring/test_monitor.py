"""The watchdog ends what makes no progress, and nothing else."""

import os
import signal
import subprocess
import sys
import time

CODE = (
    "import sys\nfrom stsb_batch.scoring.monitor import RunMonitor, watchdog\n"
    "with watchdog(RunMonitor(), float(sys.argv[1])):\n  print('at work', flush=True)\n  sys.stdin.readline()\n"
)


def start(limit: float) -> subprocess.Popen:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", CODE, str(limit)], text=True, **pipes)
    assert process.stdout.readline() == "at work\n"
    return process


def test_no_progress_ends_the_process():
    """Work that gives no sign of progress ends with 75 and the stacks of its threads."""
    process = start(0.2)
    assert process.wait() == 75  # before its input ends
    _, said = process.communicate()
    assert "No progress" in said
    assert "Current thread" in said


def test_time_that_a_process_is_stopped_is_no_stall():
    """Ctrl-Z for longer than the limit: after the resume the work goes on."""
    process = start(2.0)
    os.kill(process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    time.sleep(2.1)
    os.kill(process.pid, signal.SIGCONT)
    process.communicate("done\n")
    assert process.returncode == 0
