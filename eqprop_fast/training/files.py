"""Writing a file whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from contextlib import suppress

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be unlinked: no lock is needed
    fcntl = None

MAX_NAME = 255  # bytes of a file's name, on every common file system
_NEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)
_SUFFIX = re.compile(
    r"\.[a-z0-9_]{8}\.tmp"
)  # of a temporary file, after the name of what it becomes


def write_text(path, text):
    """`write_atomically` of a text, in UTF-8."""
    write_atomically(path, lambda file: file.write(text.encode()))


def write_atomically(path, write):
    """Call ``write(file)`` on a temporary file, flush it to disk and move it to `path`.

    A symbolic link is followed, the mode of a file that is replaced is kept (a new one gets what
    umask leaves), and what killed processes left of earlier writes to `path` is removed.
    """
    path = check_writable(path)
    folder = os.path.dirname(path)
    handle, temporary = _new_temporary(path)
    try:
        with os.fdopen(handle, "wb") as file:
            if os.path.exists(path):
                os.chmod(temporary, stat.S_IMODE(os.stat(path).st_mode))
            write(file)
            file.flush()
            os.fsync(file.fileno())
            if fcntl is not None:  # still open, and so still locked: nobody takes it for a leftover
                os.replace(temporary, path)
        if fcntl is None:
            os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    if hasattr(os, "O_DIRECTORY"):  # the rename itself must survive a power cut
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def check_writable(path):
    """The file that a write to `path` replaces or makes, links followed.

    Raises
    ------
    OSError
        It could not be written: no folder, not a regular file, a name too long, no permission.
    """
    path = os.path.realpath(os.fspath(path))
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, f"there is no folder {folder!r}", path)
    if os.path.islink(path):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    if os.path.exists(path):
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not os.path.isfile(path):
            raise OSError(errno.EINVAL, "not a regular file", path)
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    if len(os.fsencode(os.path.basename(path))) > MAX_NAME:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)
    return path


def _stem(path):
    """What the names of temporary files for `path` begin with: its own, as far as there is room."""
    name = os.fsencode(os.path.basename(path))
    return os.fsdecode(name[: MAX_NAME - len(".12345678.tmp")])


def _new_temporary(path):
    """(handle, path) of a new file beside `path`; locked while it is open, where the system has
    locks.
    """
    remove_leftovers(path)
    while True:
        name = f"{_stem(path)}.{secrets.token_hex(4)}.tmp"
        temporary = os.path.join(os.path.dirname(path), name)
        try:
            handle = os.open(temporary, _NEW, 0o666)
        except FileExistsError:
            continue
        if not _lock(handle):
            os.close(handle)
        elif os.path.exists(temporary):
            return handle, temporary
        else:  # another process took it for a leftover before it was locked
            os.close(handle)


def _lock(handle):
    if fcntl is not None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            pass  # a file system without locks: leftovers are not removed there either
    return True


def remove_leftovers(path):
    """Remove temporary files of writes to `path` whose process is gone."""
    folder, stem = os.path.dirname(path), _stem(path)
    for name in os.listdir(folder):
        if not (name.startswith(stem) and _SUFFIX.fullmatch(name[len(stem) :])):
            continue
        leftover = os.path.join(folder, name)
        try:
            if fcntl is None:
                os.unlink(leftover)
                continue
            handle = os.open(leftover, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(leftover)
            finally:
                os.close(handle)
        except OSError:
            continue  # in use, another user's, or gone
