"""Data of the demo, the tests and the benchmarks: bundled 8x8 digits; MNIST and other sets of images
where they can be found.
"""

from __future__ import annotations

import math
import os
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import numpy as np

from ._archive import Archive, ArchiveError

OPENML_SILENCE = 10.0  # seconds without an answer before OpenML counts as unreachable
_MAX_BYTES = 2**30  # of one array of a file: MNIST's largest has 47 million, CIFAR-10's 154


@dataclass(frozen=True)
class _Images:
    """A set of images, in a file of x_train, x_test (0 to 255), y_train, y_test (0 to 9)."""

    name: str
    file: str
    pixels: int
    n_train: int = 60_000
    openml: str | None = None  # its name there


_MNIST = _Images("MNIST", "mnist.npz", 28 * 28, openml="mnist_784")
_FASHION = _Images("Fashion-MNIST", "fashion_mnist.npz", 28 * 28, openml="Fashion-MNIST")
_CIFAR10 = _Images("CIFAR-10", "cifar10.npz", 32 * 32 * 3, 50_000)


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
    return _path(_MNIST)


def _path(images):
    folder = os.environ.get("EQPROP_DATA")
    path = Path(folder) / images.file if folder else None
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
    return _load(_MNIST, dtype, download)


def load_fashion_mnist(dtype="float32", download=False):
    """Fashion-MNIST as 2312.15103 has it: padded to 32 x 32, ``(x - 0.286) / 0.353``.

    Parameters
    ----------
    dtype, download
        As of `load_mnist`; the file is ``$EQPROP_DATA/fashion_mnist.npz``.

    Returns
    -------
    X_train (60000, 1024), X_test (10000, 1024) : ndarray
    y_train, y_test : ndarray of int

    Raises
    ------
    DatasetUnavailableError
    """
    *images, y_train, y_test = _load(_FASHION, dtype, download)
    sides = [(0, 0), (2, 2), (2, 2)]
    padded = [np.pad(x.reshape(-1, 28, 28), sides).reshape(len(x), -1) for x in images]
    for x in padded:
        _normalise(x, [0.2860], [0.3530])
    return *padded, y_train, y_test


def load_cifar10(dtype="float32", download=False):
    """CIFAR-10 as 2006.03824 has it: ``(x - mean) / (3 deviations)`` of each channel.

    Parameters
    ----------
    dtype : str
    download : bool
        Not served: `download` or not, the file is ``$EQPROP_DATA/cifar10.npz``, images (n, 32, 32,
        3).

    Returns
    -------
    X_train (50000, 3072), X_test (10000, 3072) : ndarray
        Channel after channel.
    y_train, y_test : ndarray of int

    Raises
    ------
    DatasetUnavailableError
    """
    *images, y_train, y_test = _load(_CIFAR10, dtype, download)
    rows = [
        np.ascontiguousarray(x.reshape(-1, 1024, 3).swapaxes(1, 2)).reshape(len(x), -1)
        for x in images
    ]
    for x in rows:
        _normalise(x, [0.4914, 0.4822, 0.4465], [3 * 0.2023, 3 * 0.1994, 3 * 0.2010])
    return *rows, y_train, y_test


def _normalise(x, means, deviations):
    """In place; so many channels."""
    channels = x.reshape(len(x), len(means), -1)
    channels -= np.array(means, x.dtype)[:, None]
    channels /= np.array(deviations, x.dtype)[:, None]


def load_named(name, download=False):
    """The data of a preset: "mnist", "fashion_mnist" or "cifar10".

    Raises
    ------
    DatasetUnavailableError
        Says what is needed where.
    """
    loaders = {"mnist": load_mnist, "fashion_mnist": load_fashion_mnist, "cifar10": load_cifar10}
    return loaders[name](download=download)


def _load(images, dtype, download):
    """Rows of pixels from 0 to 1, and labels."""
    dtype = np.dtype(dtype)
    if dtype.kind != "f":
        raise ValueError(f"dtype must be a floating-point type, got {dtype}")
    path = _path(images)
    if path is not None:
        parts = _from_file(images, path)
    elif download and images.openml:
        parts = _from_openml(images)
    else:
        raise DatasetUnavailableError(
            f"{images.name} not found: set EQPROP_DATA to a folder that holds {images.file}, with x_train "
            f"and x_test of {images.pixels} pixels from 0 to 255, y_train and y_test from 0 to 9"
        )
    x_train, x_test, y_train, y_test = parts
    scale = dtype.type(1 / 255)
    rows = [x.reshape(len(x), -1).astype(dtype) for x in (x_train, x_test)]
    for x in rows:
        x *= scale
    return rows[0], rows[1], y_train.astype(np.int64), y_test.astype(np.int64)


def _from_file(images, path):
    try:
        with Archive(path, compressed=True) as archive:
            shapes = {}
            for name in ("x_train", "x_test", "y_train", "y_test"):  # before the first is read
                dtype, shapes[name] = archive.look(name)
                if dtype.kind not in "iuf":
                    raise ArchiveError(f"{name} is {dtype}, not numbers")
            for part in ("train", "test"):
                _check_shapes(images, part, shapes[f"x_{part}"], shapes[f"y_{part}"])
            parts = [
                archive.read(k, archive.dtypes[k], s, "A", _MAX_BYTES) for k, s in shapes.items()
            ]
        _check_values(parts)
    except (OSError, ValueError, MemoryError) as error:
        raise DatasetUnavailableError(f"{path} is no {images.name} archive ({error})") from error
    return parts


def _check_shapes(images, part, x, y):
    """Refuse arrays of other shapes than this set has."""
    if len(x) < 2 or math.prod(x[1:]) != images.pixels or not x[0]:
        raise ArchiveError(f"x_{part} has the shape {x}, expected images of {images.pixels} pixels")
    if y != x[:1]:
        raise ArchiveError(
            f"y_{part} has the shape {y}, expected a label for each of {x[0]} images"
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


def _from_openml(images):
    from sklearn.datasets import fetch_openml

    try:
        with _patience(OPENML_SILENCE):
            X, y = fetch_openml(
                images.openml, version=1, return_X_y=True, as_frame=False, n_retries=1
            )
    except (OSError, HTTPException, ValueError) as error:  # no network, a proxy, a changed service
        raise DatasetUnavailableError(
            f"{images.name} not found: EQPROP_DATA holds no {images.file} and OpenML did not serve it "
            f"({error})"
        ) from error
    try:
        y = y.astype(np.int64)
        n = images.n_train
        parts = X[:n], X[n:], y[:n], y[n:]
        for part, x, labels in zip(("train", "test"), parts[:2], parts[2:]):
            _check_shapes(images, part, x.shape, labels.shape)
        _check_values(parts)
    except (TypeError, ValueError) as error:
        raise DatasetUnavailableError(f"OpenML did not serve {images.name} ({error})") from error
    return parts
