"""BLAS on one thread: on several it rounds differently, and results must not depend on threads."""

import functools
import threading
from contextlib import contextmanager

from threadpoolctl import ThreadpoolController

# The limit is the process's, and only the thread that set it can lift it (OpenBLAS 0.3.31): one at
# a time.
_turn = threading.RLock()


@functools.cache
def _controller():
    # NumPy and SciPy may each bring a BLAS: both must be loaded to be found
    import scipy.linalg  # noqa: F401

    return ThreadpoolController()


@contextmanager
def one_blas_thread():
    """One thread for every BLAS until the block has ended; also a decorator. Other threads' blocks
    wait.
    """
    with _turn, _controller().limit(limits=1, user_api="blas"):
        yield
