"""The threads of one call of a compiled kernel."""

import functools
from _thread import allocate_lock, start_new_thread

from .interrupts import interrupt_afterwards

POLL_SECONDS = 1.0  # only where a signal handler's exception swallowed the end of a wait


@functools.cache
def cores():
    """Cores this process may use (affinity masks and cgroup limits count), looked up once."""
    import joblib

    return joblib.cpu_count()


def usable(n_threads, n_parts=None):
    """How many of `n_threads` threads a call uses: at most one a core, and one for each of its
    parts.
    """
    most = cores() if n_parts is None else min(cores(), n_parts)
    return max(1, min(int(n_threads), most))


@interrupt_afterwards()
def run_together(work, n_threads):
    """Call work(0), ..., work(n_threads - 1), each on a thread of its own; returns when all have
    ended.

    None begins before all threads exist, so that they can wait for each other; if one cannot be
    started, none begins. Threads say themselves that they have ended, for `Thread.join` believes so
    after a signal in Python 3.10-3.12; and they hold what they work on, for whatever a signal
    handler raises here and when.
    """
    go, begin, errors = allocate_lock(), [], []
    ended, gates = [False] * n_threads, [allocate_lock() for _ in range(n_threads)]

    def helper(thread):
        try:
            with go:
                pass
            if begin:
                work(thread)
        except BaseException as error:
            errors.append(error)
        finally:
            ended[thread] = True
            gates[thread].release()

    n_started = 0
    try:
        go.acquire()
        for thread in range(n_threads):
            gates[thread].acquire()
            start_new_thread(helper, (thread,))
            n_started += 1
        begin.append(True)
    finally:
        go.release()
        _wait(ended, gates[:n_started])
    if errors:
        raise errors[0]


def _wait(ended, gates):
    raised = None
    for thread, gate in enumerate(gates):
        while not ended[thread]:
            try:
                gate.acquire(timeout=POLL_SECONDS)
            except BaseException as error:  # of a signal handler; SIGINT's is held back
                raised = error
    if raised is not None:
        raise raised
