"""Data of the demo, the tests and the benchmarks: bundled 8x8 digits, and MNIST where it can be
found.
"""

from __future__ import annotations

import math
import os
import socket
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

import numpy as np

from ._archive import Archive, ArchiveError

OPENML_SILENCE = 10.0  # seconds without an answer before OpenML counts as unreachable
_PIXELS = 28 * 28
_MAX_BYTES = 2**30  # of one array of a file: MNIST's largest has 47 million


class DatasetUnavailableError(RuntimeError):
    """The data set is neither on this machine nor reachable; the message says what was tried."""


def load_digits(test_fraction=0.25, dtype="float32", random_state=0):
    """scikit-learn's 8x8 digits, pixels scaled to [0, 1], stratified split.

    Parameters
    ----------
    test_fraction : float
    dtype : str
    random_state : int
        Seed of the split.

    Returns
    -------
    X_train, X_test : ndarray (n, 64)
    y_train, y_test : ndarray of int (n,)
    """
    from sklearn.datasets import load_digits as bundled
    from sklearn.model_selection import train_test_split

    X, y = bundled(return_X_y=True)
    X = (X / 16).astype(dtype)
    return train_test_split(X, y, test_size=test_fraction, random_state=random_state, stratify=y)


def mnist_path():
    """Path of ``$EQPROP_DATA/mnist.npz``, or None."""
    folder = os.environ.get("EQPROP_DATA")
    path = Path(folder) / "mnist.npz" if folder else None
    return path if path is not None and path.is_file() else None


def load_mnist(dtype="float32", download=False):
    """MNIST, pixels scaled to [0, 1].

    Parameters
    ----------
    dtype : str
    download : bool
        Whether to ask OpenML (through scikit-learn, which caches it) when
        ``$EQPROP_DATA/mnist.npz`` is missing.

    Returns
    -------
    X_train (60000, 784), X_test (10000, 784) : ndarray
    y_train, y_test : ndarray of int

    Raises
    ------
    DatasetUnavailableError
        Also where the file, or what OpenML sent, is not such a set of images and labels.
    """
    dtype = np.dtype(dtype)
    if dtype.kind != "f":
        raise ValueError(f"dtype must be a floating-point type, got {dtype}")
    path = mnist_path()
    if path is not None:
        parts = _mnist_from_file(path)
    elif download:
        parts = _mnist_from_openml()
    else:
        raise DatasetUnavailableError(
            "MNIST not found: set EQPROP_DATA to a folder that holds mnist.npz"
        )
    x_train, x_test, y_train, y_test = parts
    scale = dtype.type(1 / 255)
    images = [x.reshape(len(x), -1).astype(dtype) for x in (x_train, x_test)]
    for x in images:
        x *= scale
    return images[0], images[1], y_train.astype(np.int64), y_test.astype(np.int64)


def _mnist_from_file(path):
    try:
        with Archive(path, compressed=True) as archive:
            shapes = {}
            for name in ("x_train", "x_test", "y_train", "y_test"):  # before the first is read
                dtype, shapes[name] = archive.look(name)
                if dtype.kind not in "iuf":
                    raise ArchiveError(f"{name} is {dtype}, not numbers")
            for part in ("train", "test"):
                _check_shapes(part, shapes[f"x_{part}"], shapes[f"y_{part}"])
            parts = [
                archive.read(k, archive.dtypes[k], s, "A", _MAX_BYTES) for k, s in shapes.items()
            ]
        _check_values(parts)
    except (OSError, ValueError, MemoryError) as error:
        raise DatasetUnavailableError(f"{path} is no MNIST archive ({error})") from error
    return parts


def _check_shapes(part, images, labels):
    if len(images) < 2 or math.prod(images[1:]) != _PIXELS or not images[0]:
        raise ArchiveError(f"x_{part} has the shape {images}, expected images of {_PIXELS} pixels")
    if labels != images[:1]:
        raise ArchiveError(
            f"y_{part} has the shape {labels}, expected a label for each of {images[0]} images"
        )


def _check_values(parts):
    """Pixels from 0 to 255 and labels 0 to 9, without exception."""
    for x in parts[:2]:
        if not (x.min() >= 0 and x.max() <= 255):  # not so where there is a NaN
            raise ArchiveError("pixels must be numbers from 0 to 255")
    for y in parts[2:]:
        if not (y.min() >= 0 and y.max() <= 9 and (y == np.floor(y)).all()):
            raise ArchiveError("labels must be whole numbers from 0 to 9")


@contextmanager
def _patience(seconds):
    """New sockets give up after `seconds` of silence; `fetch_openml` sets no limit of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _mnist_from_openml():
    from sklearn.datasets import fetch_openml

    try:
        with _patience(OPENML_SILENCE):
            X, y = fetch_openml(
                "mnist_784", version=1, return_X_y=True, as_frame=False, n_retries=1
            )
    except (OSError, HTTPException, ValueError) as error:  # no network, a proxy, a changed service
        raise DatasetUnavailableError(
            f"MNIST not found: EQPROP_DATA holds no mnist.npz and OpenML did not serve it ({error})"
        ) from error
    try:
        y = y.astype(np.int64)
        parts = X[:60_000], X[60_000:], y[:60_000], y[60_000:]
        for part, x, labels in zip(("train", "test"), parts[:2], parts[2:]):
            _check_shapes(part, x.shape, labels.shape)
        _check_values(parts)
    except (TypeError, ValueError) as error:
        raise DatasetUnavailableError(f"OpenML did not serve MNIST ({error})") from error
    return parts
