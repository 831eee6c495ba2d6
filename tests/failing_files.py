"""A disk that fails: the Nth call of the file layer raises, as SQLite's own tests do it."""

import errno
import os
import signal
from contextlib import contextmanager
from unittest import mock

CALLS = ("open", "write", "fsync", "replace")


class Failing:
    """Counts the calls of the file layer and lets the Nth one fail."""

    def __init__(self, nth, how):
        self.nth, self.how, self.count, self.failed = nth, how, 0, None

    def wrap(self, name):
        call = getattr(os, name)

        def counted(*args, **kwargs):
            self.count += 1
            if self.count == self.nth:
                self.failed = name
                self.how(call, *args)
            return call(*args, **kwargs)

        return counted


def no_space(call, *args):
    if call.__name__ == "write":
        call(args[0], bytes(args[1])[: len(args[1]) // 2])  # a full disk takes a part of it
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def input_output_error(call, *args):
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def killed(call, *args):
    if call.__name__ == "write":
        call(args[0], bytes(args[1])[: len(args[1]) // 2])
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def failing(nth, how=no_space):
    """Let the Nth open, write, fsync or rename of what runs inside fail."""
    state = Failing(nth, how)
    patches = [mock.patch.object(os, name, state.wrap(name)) for name in CALLS]
    for patch in patches:
        patch.start()
    try:
        yield state
    finally:
        for patch in patches:
            patch.stop()
