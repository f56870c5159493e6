"""Ctrl-C at a safe moment: between kernel calls, never inside one that runs on several threads."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager


@contextmanager
def interrupt_afterwards():
    """Hold a KeyboardInterrupt back until the block has ended, then raise it.

    A second Ctrl-C raises as soon as Python runs: while it waits for kernel threads, or after the call of a
    single-threaded kernel. A call trains at least one mini-batch; a huge one delays Ctrl-C.
    Does nothing outside the main thread, or where the program has a SIGINT handler of its own.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    pressed = []

    def note(signum, frame):
        if pressed:
            signal.default_int_handler(signum, frame)
        pressed.append(signum)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if pressed:
        raise KeyboardInterrupt
