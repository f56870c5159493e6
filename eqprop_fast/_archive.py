"""Reading .npz files from elsewhere: a member's type and shape are known, and bounded, before it is
read.
"""

from __future__ import annotations

import math
import os
import re
import zipfile
from contextlib import contextmanager

import numpy as np

_MAGIC = b"\x93NUMPY\x01\x00"  # of the only version that numpy writes for arrays of plain numbers
_HEADER = re.compile(
    rb"\{'descr': '([<>|][biufUSO]\d{1,9})', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,18}, )*(?:\d{1,18},?)?)\), \} *\n"
)
_ENCRYPTED = 0x1 | 0x40


class ArchiveError(ValueError):
    """The file is no archive of arrays as `numpy.savez` writes them."""


@contextmanager
def _zip_errors():
    """Whatever zipfile and zlib raise on damaged input, as one error."""
    try:
        yield
    except ArchiveError:
        raise
    except Exception as error:
        raise ArchiveError(f"damaged or no zip archive: {error}") from error


class Archive:
    """An .npz file; use as a context manager.

    Parameters
    ----------
    path : path-like
    compressed : bool
        Whether members may be compressed. What is not takes no more memory than the file is long.

    Attributes
    ----------
    shapes, dtypes : dict
        Of each member, by name. Nothing else has been read of it yet.
    """

    def __init__(self, path, compressed=False):
        if os.path.exists(path) and not os.path.isfile(path):
            raise ArchiveError("not a file")
        self._file = open(path, "rb")
        try:
            with _zip_errors():
                self._zip = zipfile.ZipFile(self._file)
            self._members = self._look_at(compressed)
            self.shapes, self.dtypes, self._fortran, self._starts = {}, {}, {}, {}
        except BaseException:
            self._file.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()

    @property
    def names(self):
        return set(self._members)

    def _look_at(self, compressed):
        """Name to directory entry of each member."""
        members, length = {}, os.fstat(self._file.fileno()).st_size
        allowed = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED} if compressed else {zipfile.ZIP_STORED}
        entries = self._zip.infolist()
        if sum(entry.compress_size for entry in entries) > length:
            raise ArchiveError("its members are larger than the file")
        for entry in entries:
            name = entry.filename.removesuffix(".npy")
            if name in members or name == entry.filename:
                raise ArchiveError(f"unexpected member {entry.filename[:100]!r}")
            if entry.flag_bits & _ENCRYPTED:
                raise ArchiveError(f"member {name[:100]!r} is encrypted")
            stored = entry.compress_type == zipfile.ZIP_STORED
            if entry.compress_type not in allowed or (
                stored and entry.compress_size != entry.file_size
            ):
                raise ArchiveError(f"member {name[:100]!r} is compressed in a way that is not read")
            members[name] = entry
        return members

    def look(self, name):
        """(dtype, shape) of a member, from its header."""
        if name not in self._members:
            raise ArchiveError(f"{name} is missing")
        if name in self.shapes:
            return self.dtypes[name], self.shapes[name]
        with _zip_errors(), self._zip.open(self._members[name]) as member:
            start = member.read(len(_MAGIC) + 2)
            if start[:-2] != _MAGIC or len(start) != len(_MAGIC) + 2:
                raise ArchiveError(f"{name} is no array")
            header = member.read(int.from_bytes(start[-2:], "little"))
        match = _HEADER.fullmatch(header)
        if match is None:
            raise ArchiveError(f"{name} is no array of plain numbers or text")
        descr, fortran, shape = match.groups()
        try:
            dtype = np.dtype(descr.decode())
        except Exception:
            raise ArchiveError(f"{name} has the unknown type {descr.decode()!r}") from None
        self.dtypes[name], self._fortran[name] = dtype, fortran == b"True"
        self.shapes[name] = tuple(int(n) for n in re.findall(rb"\d+", shape))
        self._starts[name] = len(start) + len(header)
        return dtype, self.shapes[name]

    def read(self, name, dtype, shape, order="C", max_bytes=None):
        """The member, if it is of that dtype and shape (and at most `max_bytes` long); a new array."""
        found, its_shape = self.look(name)
        if (found, its_shape) != (np.dtype(dtype), tuple(shape)):
            raise ArchiveError(
                f"{name} is {found} of shape {its_shape}, expected {dtype} of shape {shape}"
            )
        if found.hasobject or (self._fortran[name] and order == "C"):
            raise ArchiveError(f"{name} is stored as Python objects or in Fortran order")
        size = math.prod(shape) * found.itemsize
        if self._members[name].file_size != self._starts[name] + size:
            raise ArchiveError(f"{name} is not as long as its shape says")
        if max_bytes is not None and size > max_bytes:
            raise ArchiveError(f"{name} has {size} bytes, more than {max_bytes}")
        array = np.empty(shape[::-1] if self._fortran[name] else shape, found)
        with _zip_errors(), self._zip.open(self._members[name]) as member:
            member.read(self._starts[name])
            target = memoryview(array.reshape(-1).view(np.uint8)) if size else memoryview(b"")
            done = 0
            while done < size:
                count = member.readinto(target[done:])
                if not count:
                    raise ArchiveError(f"{name} is cut short")
                done += count
            if member.read(1):  # at the end, where the checksum is looked at too
                raise ArchiveError(f"{name} is longer than it says")
        return array.T if self._fortran[name] else array

    def text(self, name, max_bytes=None):
        """A member that holds text: list of str."""
        dtype, shape = self.look(name)
        if dtype.kind != "U" or len(shape) > 1 or dtype.byteorder == ">":
            raise ArchiveError(f"{name} is no text")
        if dtype.itemsize == 0:
            return [""] * math.prod(shape)
        flat = self.read(name, dtype, shape, max_bytes=max_bytes).reshape(-1)
        raw, width = flat.tobytes(), dtype.itemsize
        parts = [raw[i : i + width] for i in range(0, len(raw), width)]
        try:
            words = [part.decode("utf-32-le", "surrogatepass") for part in parts]
        except UnicodeDecodeError as error:
            raise ArchiveError(f"{name} is no text: {error.reason}") from None
        return [word.rstrip("\0") for word in words]
