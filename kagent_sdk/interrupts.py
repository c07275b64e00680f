"""Exceptions that one thread raises in another: they land at whatever bytecode that one runs next.

Who sets one needs three rules to keep it inside the work that it is meant for: set it under a lock,
and only while that thread is armed with the work; once for a work at most; after disarming, `swallow`
the one that was set, whether it has landed or not.
"""

from __future__ import annotations

import threading
from contextlib import suppress


def set_interrupt(thread_ident: int, error: type[BaseException]) -> None:
    """Let an exception of this class be raised at that thread's next bytecode.

    A thread that is inside C code sees it when it comes back to Python. Until then CPython 3.11 hangs other
    threads that are traced, as by a debugger or coverage.
    """
    import ctypes  # noqa: PLC0415 - few workers ever need it

    # int PyThreadState_SetAsyncExc(unsigned long id, PyObject *exc)
    # (https://docs.python.org/3/c-api/init.html#c.PyThreadState_SetAsyncExc)
    set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
    set_exception(ctypes.c_ulong(thread_ident), ctypes.py_object(error))


def swallow(error: type[BaseException]) -> None:
    """Make sure that none of this class is left for this thread, whether the last one has landed or not.

    Taking one back by setting NULL is no way: up to CPython 3.12 that leaves the interpreter's
    eval breaker set for good, which slows down every thread and hangs a traced one (`ceval.c`,
    `_PyEval_SignalAsyncExc`). A thread has room for one asynchronous exception: the one set here
    takes the place of one that has not landed.
    """
    ident = threading.get_ident()
    with suppress(error):
        while True:
            set_interrupt(ident, error)
