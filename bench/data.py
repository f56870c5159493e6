"""Mini-batches of MNIST for the timed steps; the data set itself comes from `eqprop_fast.datasets`."""

from __future__ import annotations

import numpy as np

from eqprop_fast.datasets import DatasetUnavailableError, load_mnist

__all__ = ["DatasetUnavailableError", "load_mnist", "training_batches"]


def training_batches(n_batches, batch_size=20, seed=0, dtype=np.float32):
    """`n_batches` shuffled MNIST mini-batches: a list of (x in [0, 1] (B, 784), one-hot y (B, 10))."""
    x_train, _, y_train, _ = load_mnist(dtype=np.dtype(dtype).name, download=True)
    order = np.random.default_rng(seed).permutation(len(x_train))[: n_batches * batch_size]
    one_hot = np.eye(10, dtype=dtype)
    return [
        (x_train[rows], one_hot[y_train[rows]]) for rows in order.reshape(n_batches, batch_size)
    ]
