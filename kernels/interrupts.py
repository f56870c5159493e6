"""Ctrl-C at a safe moment: between kernel calls, never inside one."""

import signal
import threading
from contextlib import contextmanager

_pressed = []  # what the main thread's block that holds Ctrl-C back has seen; none: no such block


@contextmanager
def interrupt_afterwards():
    """Hold Ctrl-C back until the block has ended, however often it is pressed; then it acts as
    ever.

    SIGINT's handler is held back, whoever installed it: what it raises could strike between any two
    instructions. Also a decorator. Does nothing outside the main thread, where no handler runs, and
    within another such block, which holds on.
    """
    if _pressed or threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):
        yield
        return
    pressed = []
    try:
        signal.signal(signal.SIGINT, lambda *args: pressed.append(args))
    except ValueError:  # a subinterpreter: signals are none of its business
        yield
        return
    try:
        _pressed.append(pressed)
        yield
    finally:
        _pressed.clear()
        signal.signal(signal.SIGINT, handler)
        for args in pressed:
            handler(*args)
