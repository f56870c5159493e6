"""Threads: Python threads that run one nogil kernel each, and the barrier they meet at inside it."""

import threading

import numpy as np

from .compile import JIT_DISABLED, atomic_add, atomic_load, kernel, relax_cpu, yield_thread

SPINS = 4000  # about 0.1 ms of polling, then the core is offered to others at each turn
ARRIVED, GENERATION, ABORT = 0, 8, 16  # places in the control array, a cache line apart
CONTROL_SIZE = 24


@kernel
def barrier(control, n_threads):
    """Wait for all threads; False if one of them has failed."""
    if n_threads == 1:
        return True
    generation = atomic_load(control, GENERATION)
    if atomic_add(control, ARRIVED, 1) == n_threads - 1:
        atomic_add(control, ARRIVED, -n_threads)
        atomic_add(control, GENERATION, 1)
        return True
    spins = 0
    while atomic_load(control, GENERATION) == generation:
        if atomic_load(control, ABORT) != 0:
            return False
        spins += 1
        if spins < SPINS:
            relax_cpu()
        else:
            yield_thread()
    return True


def usable(n_threads, n_parts):
    """How many of `n_threads` threads work of `n_parts` parts can use here."""
    return 1 if JIT_DISABLED else max(1, min(int(n_threads), n_parts))


def run_threads(function, n_threads, *args):
    """Call function(thread, n_threads, control, *args) on `n_threads` threads, the caller being thread 0."""
    control = np.zeros(CONTROL_SIZE, np.int64)
    errors = []

    def work(thread):
        try:
            function(thread, n_threads, control, *args)
        except BaseException as error:  # the others must not wait for this thread
            control[ABORT] = 1
            errors.append(error)

    helpers = [threading.Thread(target=work, args=(t,), daemon=True) for t in range(1, n_threads)]
    started = []
    try:
        for helper in helpers:
            helper.start()
            started.append(helper)
        function(0, n_threads, control, *args)
    except BaseException:
        control[ABORT] = 1
        raise
    finally:
        for helper in started:
            helper.join()
    if errors:
        raise errors[0]
