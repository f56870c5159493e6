"""Data of the demo, the tests and the benchmarks: bundled 8x8 digits, and MNIST where it can be found."""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

OPENML_SILENCE = 10.0  # seconds without an answer before OpenML counts as unreachable


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
        Whether to ask OpenML (through scikit-learn, which caches it) when ``$EQPROP_DATA/mnist.npz`` is
        missing.

    Returns
    -------
    X_train (60000, 784), X_test (10000, 784) : ndarray
    y_train, y_test : ndarray of int

    Raises
    ------
    DatasetUnavailableError
    """
    path = mnist_path()
    if path is not None:
        try:
            with np.load(path, allow_pickle=False) as file:
                parts = [file[k] for k in ("x_train", "x_test", "y_train", "y_test")]
        except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
            raise DatasetUnavailableError(f"{path} is no MNIST archive ({error})") from error
    elif download:
        parts = _mnist_from_openml()
    else:
        raise DatasetUnavailableError("MNIST not found: set EQPROP_DATA to a folder that holds mnist.npz")
    x_train, x_test, y_train, y_test = parts
    scale = np.dtype(dtype).type(1 / 255)
    images = [x.reshape(len(x), -1).astype(dtype) for x in (x_train, x_test)]
    for x in images:
        x *= scale
    return images[0], images[1], y_train.astype(np.int64), y_test.astype(np.int64)


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
            X, y = fetch_openml("mnist_784", version=1, return_X_y=True, as_frame=False, n_retries=1)
    except (OSError, HTTPException, ValueError) as error:  # no network, a proxy, a changed service
        raise DatasetUnavailableError(
            f"MNIST not found: EQPROP_DATA holds no mnist.npz and OpenML did not serve it ({error})"
        ) from error
    y = y.astype(np.int64)
    return X[:60_000], X[60_000:], y[:60_000], y[60_000:]
