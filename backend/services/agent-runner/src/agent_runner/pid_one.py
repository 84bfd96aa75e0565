"""What a container's first process owes the others: it passes signals on, reaps orphans, tells how it ended.

An init program beside the runner would show the runner's environment, keys and all, to agents' commands in
/proc/1/environ; this one was shut before (`stigmer_contract.process_protection`). Does nothing where the
runner is not process 1.
"""

import contextlib
import os
import signal
from types import FrameType
from typing import Final

PASSED_ON: Final = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
EXIT_BY_SIGNAL: Final = 128


def leave_first_process() -> None:
    """As process 1, go on as a child of it, and stay behind as its parent; else return at once.

    Call it while the process is small and has one thread. Only the child returns.
    """
    if os.getpid() != 1:
        return
    # Held back until there is somebody to pass them on to.
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
        return
    _watch(child)


def _watch(child: int) -> None:
    def pass_on(signal_number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):  # it ended a moment ago
            os.kill(child, signal_number)

    for signal_number in PASSED_ON:
        signal.signal(signal_number, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    while True:
        ended, status = os.wait()
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else EXIT_BY_SIGNAL - code)
