"""What a container's first process owes the others: it passes signals on, reaps orphans, tells how it ended.

It is small, and forks a new runner where the one that has worked asks for it: that one has grown.

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
EXIT_RENEW: Final = 75
"""By which the child asks for a new one in its place. Seen by nobody else."""


def leave_first_process() -> bool:
    """As process 1, go on as a child of it, and stay behind as its parent; else return at once.

    Call it while the process is small and has one thread. Only the child returns, and each that follows it.

    Returns:
        Whether the process was the first one, so that it has a container to itself.
    """
    if os.getpid() != 1:
        return False
    # Held back until there is somebody to pass them on to.
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    while (child := os.fork()) != 0:
        _watch(child)
    for signal_number in PASSED_ON:
        signal.signal(signal_number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # until the runner listens, there is nothing to give back
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    return True


def _watch(child: int) -> None:
    """Wait for the child's end, and end alike; returns, with signals held back, where it is to be renewed."""
    was_told = False

    def pass_on(signal_number: int, _frame: FrameType | None) -> None:
        nonlocal was_told
        was_told = was_told or signal_number != signal.SIGUSR2
        with contextlib.suppress(ProcessLookupError):  # it ended a moment ago
            os.kill(child, signal_number)

    for signal_number in PASSED_ON:
        signal.signal(signal_number, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    while True:
        ended, status = os.wait()
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
            # By SIGUSR2 it ends only where it listens no more, and is about to be renewed or to end.
            if code not in (EXIT_RENEW, -signal.SIGUSR2):
                os._exit(code if code >= 0 else EXIT_BY_SIGNAL - code)
            if was_told:  # to end, as it was about to
                os._exit(0)
            return
