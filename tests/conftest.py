"""Kernels start as many threads as a test asks for, whatever the machine. Tests marked
`needs_mnist` get it from EQPROP_DATA, else from OpenML, or are skipped with the reason.
"""

import os

import numpy as np
import pytest
from eqprop_fast.kernels import threads

from eqprop_fast.datasets import DatasetUnavailableError, load_mnist, mnist_path

threads.cores = lambda: 64  # else a machine of two cores would test no more than two


@pytest.fixture(scope="session")
def mnist_folder(tmp_path_factory):
    """A folder with mnist.npz, or the reason why there is none."""
    if mnist_path() is not None:
        return os.environ["EQPROP_DATA"]
    if os.environ.get("EQPROP_OFFLINE"):
        return DatasetUnavailableError("EQPROP_DATA holds no mnist.npz, and EQPROP_OFFLINE is set")
    try:
        parts = load_mnist(download=True)
    except DatasetUnavailableError as error:
        return error
    folder = tmp_path_factory.mktemp("mnist")
    images = [np.rint(x.reshape(-1, 28, 28) * 255).astype(np.uint8) for x in parts[:2]]
    names = ("x_train", "x_test", "y_train", "y_test")
    np.savez(folder / "mnist.npz", **dict(zip(names, [*images, *parts[2:]])))
    return str(folder)


@pytest.fixture(autouse=True)
def _mnist(request, monkeypatch):
    if request.node.get_closest_marker("needs_mnist") is None:
        return
    folder = request.getfixturevalue("mnist_folder")
    if isinstance(folder, Exception):
        pytest.skip(str(folder))
    monkeypatch.setenv("EQPROP_DATA", folder)
