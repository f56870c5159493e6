"""Threads: Python threads that run one nogil kernel each, and the barrier they meet at inside it.
"""

import numpy as np

from ..threads import run_together, usable
from .compile import atomic_add, atomic_load, kernel, relax_cpu, sleep_thread, yield_thread

__all__ = ["barrier", "run_threads", "usable"]

SPINS, YIELDS = 4000, 64
SHORTEST_NAP, LONGEST_NAP = 50, 1000  # microseconds
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
    turns, nap = 0, SHORTEST_NAP
    while atomic_load(control, GENERATION) == generation:
        if atomic_load(control, ABORT) != 0:
            return False
        turns += 1
        if turns < SPINS:
            relax_cpu()
        elif turns < SPINS + YIELDS:
            yield_thread()
        else:
            sleep_thread(nap)
            nap = min(2 * nap, LONGEST_NAP)
    return True


def run_threads(function, n_threads, *args):
    """Call function(thread, n_threads, control, *args) on `n_threads` threads."""
    control = np.zeros(CONTROL_SIZE, np.int64)
    if n_threads == 1:
        function(0, 1, control, *args)
        return

    def work(thread):
        try:
            function(thread, n_threads, control, *args)
        except BaseException:  # the others must not wait for this thread
            control[ABORT] = 1
            raise

    run_together(work, n_threads)
