"""MNIST for the benchmarks: the folder EQPROP_DATA, else scikit-learn's download, else a stated reason."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np


class DataUnavailable(RuntimeError):
    """MNIST is not to be had here; the message says what was tried."""


def load_mnist():
    """Pixels as uint8 (n, 784) and labels as int64 (n,): x_train, y_train, x_test, y_test."""
    folder = os.environ.get("EQPROP_DATA")
    tried = []
    if folder:
        path = Path(folder) / "mnist.npz"
        if path.exists():
            with np.load(path) as arrays:
                x_train, y_train, x_test, y_test = (
                    arrays[k] for k in ("x_train", "y_train", "x_test", "y_test")
                )
            return (
                x_train.reshape(len(x_train), -1),
                y_train.astype(np.int64),
                x_test.reshape(len(x_test), -1),
                y_test.astype(np.int64),
            )
        tried.append(f"{path} does not exist")
    else:
        tried.append("EQPROP_DATA is not set")
    try:
        from sklearn.datasets import fetch_openml

        pixels, labels = fetch_openml("mnist_784", version=1, return_X_y=True, as_frame=False)
    except Exception as error:  # no network, or a changed service: both mean "skip", with the reason
        tried.append(f"fetch_openml: {type(error).__name__}")
        raise DataUnavailable("MNIST not found: " + "; ".join(tried)) from error
    pixels, labels = pixels.astype(np.uint8), labels.astype(np.int64)
    return pixels[:60000], labels[:60000], pixels[60000:], labels[60000:]


def training_batches(n_batches, batch_size=20, seed=0, dtype=np.float32):
    """`n_batches` shuffled MNIST mini-batches: a list of (x in [0, 1] (B, 784), one-hot y (B, 10))."""
    x_train, y_train, _, _ = load_mnist()
    order = np.random.default_rng(seed).permutation(len(x_train))[: n_batches * batch_size]
    one_hot = np.eye(10, dtype=dtype)
    batches = []
    for rows in order.reshape(n_batches, batch_size):
        x = np.ascontiguousarray(x_train[rows], dtype=dtype) / dtype(255)
        batches.append((x, one_hot[y_train[rows]]))
    return batches
