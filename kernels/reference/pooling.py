"""Pooling of maps in squares that do not overlap, and its adjoint; the NumPy twin.

Maps are (M, C, H, W), pooled ones (M, C, H/n, W/n). Max pooling is linear once the places of the
maxima are found: `where` (M, C, H/n, W/n, 1), the first of equal entries; None for the other kinds.
"""

import numpy as np


def _squares(z, n):
    """(M, C, H, W) -> (M, C, H/n, W/n, n n)."""
    m, c, h, w = z.shape
    return z.reshape(m, c, h // n, n, w // n, n).swapaxes(3, 4).reshape(m, c, h // n, w // n, n * n)


def find(kind, z, n):
    """The places of the maxima."""
    return _squares(z, n).argmax(axis=4)[..., None] if kind == "max" else None


def pool(kind, z, n, where):
    """The entry of each square at `where`, or the mean over the square."""
    if kind == "none":
        return z
    squares = _squares(z, n)
    if kind == "average":
        return squares.sum(axis=4) / z.dtype.type(n * n)
    return np.take_along_axis(squares, where, axis=4)[..., 0]


def unpool(kind, s, n, where):
    """Adjoint of `pool`."""
    if kind == "none":
        return s
    m, c, h, w = s.shape
    if kind == "average":
        squares = np.broadcast_to((s / s.dtype.type(n * n))[..., None], (m, c, h, w, n * n))
    else:
        squares = np.zeros((m, c, h, w, n * n), s.dtype)
        np.put_along_axis(squares, where, s[..., None], axis=4)
    return squares.reshape(m, c, h, w, n, n).swapaxes(3, 4).reshape(m, c, h * n, w * n)
