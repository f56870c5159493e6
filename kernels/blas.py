"""BLAS on one thread: on several it rounds differently, and results must not depend on threads."""

import functools
import threading
from contextlib import contextmanager

from threadpoolctl import ThreadpoolController

_lock, _inside, _limits = threading.Lock(), [], []


@functools.cache
def _controller():
    import scipy.linalg  # noqa: F401  NumPy and SciPy may each bring a BLAS: both must be loaded to be found

    return ThreadpoolController()


@contextmanager
def one_blas_thread():
    """One thread for every BLAS until the block has ended; also a decorator.

    The limit is the process's: blocks of several threads share it, and the last one to end lifts it.
    """
    with _lock:
        if not _inside:
            _limits.append(_controller().limit(limits=1, user_api="blas"))
        _inside.append(None)
    try:
        yield
    finally:
        with _lock:
            _inside.pop()
            if not _inside:
                _limits.pop().restore_original_limits()
