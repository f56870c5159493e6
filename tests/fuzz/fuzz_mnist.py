"""mnist.npz: `load_mnist` gives images and labels that fit each other, or a
DatasetUnavailableError.
"""

import functools
import io
import os
import tempfile
import zipfile
from unittest import mock

import numpy as np

from eqprop_fast.datasets import DatasetUnavailableError, load_mnist

from .common import corpus, mutate, run_inputs
from .fuzz_checkpoints import archive_of, change_array, members


@functools.cache
def seeds():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (5, 28, 28), np.uint8), np.arange(5, dtype=np.uint8)
    file = io.BytesIO()
    np.savez_compressed(file, x_train=x, x_test=x[:2], y_train=y, y_test=y[:2])
    return [file.getvalue(), archive_of(members(file.getvalue()).items())]


def check(data):
    """True if the file was taken; AssertionError for another verdict than the two documented."""
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, EQPROP_DATA=folder):
        with open(os.path.join(folder, "mnist.npz"), "wb") as file:
            file.write(data)
        try:
            x_train, x_test, y_train, y_test = load_mnist()
        except DatasetUnavailableError:
            return False
    for x, y in ((x_train, y_train), (x_test, y_test)):
        assert x.shape == (len(y), 784) and x.dtype == np.float32 and y.dtype == np.int64
        assert x.min() >= 0 and x.max() <= 1 and y.min() >= 0 and y.max() <= 9
    return True


def change(rng, data):
    files = list(members(data).items())
    at = int(rng.integers(0, len(files)))
    files[at] = files[at][0], change_array(rng, files[at][1])
    if rng.random() < 0.1:
        files.append(("other.npy", files[0][1]))
    return archive_of(files, rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))


def run(seconds, seed):
    inputs = [*seeds(), *corpus("mnist").values()]

    def make(rng):
        data = inputs[int(rng.integers(0, len(inputs)))]
        return mutate(rng, data) if rng.random() < 0.4 or data not in seeds() else change(rng, data)

    return run_inputs("mnist", seconds, seed, make, check)
