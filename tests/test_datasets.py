"""Data loading: shapes, scaling, and an honest message where MNIST cannot be had."""

from urllib.error import URLError

import numpy as np
import pytest

from eqprop_fast.datasets import (
    DatasetUnavailableError,
    load_cifar10,
    load_digits,
    load_fashion_mnist,
    load_mnist,
    mnist_path,
)


def test_digits():
    x_train, x_test, y_train, y_test = load_digits()
    assert x_train.shape == (1347, 64) and x_test.shape == (450, 64) and x_train.dtype == np.float32
    assert (
        x_train.min() == 0 and x_train.max() == 1 and set(y_train) == set(y_test) == set(range(10))
    )
    np.testing.assert_array_equal(x_test, load_digits()[1])


def test_mnist_from_a_file(tmp_path, monkeypatch):
    images = np.arange(3 * 28 * 28).reshape(3, 28, 28).astype(np.uint8)
    labels = np.array([3, 1, 4], np.uint8)
    np.savez(
        tmp_path / "mnist.npz", x_train=images, x_test=images[:1], y_train=labels, y_test=labels[:1]
    )
    monkeypatch.setenv("EQPROP_DATA", str(tmp_path))
    x_train, x_test, y_train, y_test = load_mnist()
    assert x_train.shape == (3, 784) and x_test.shape == (1, 784) and y_train.tolist() == [3, 1, 4]
    np.testing.assert_allclose(x_train[1], images[1].ravel() / 255, rtol=1e-6)


def test_other_images_from_files(tmp_path, monkeypatch):
    """Padded and normalised, or channel after channel."""
    monkeypatch.setenv("EQPROP_DATA", str(tmp_path))
    rng, labels = np.random.default_rng(0), np.array([3, 1, 4], np.uint8)
    for file, load, shape in (
        ("fashion_mnist.npz", load_fashion_mnist, (28, 28)),
        ("cifar10.npz", load_cifar10, (32, 32, 3)),
    ):
        with pytest.raises(DatasetUnavailableError, match=file):
            load()
        images = rng.integers(0, 256, (3, *shape), dtype=np.uint8)
        arrays = dict(x_train=images, x_test=images[:1], y_train=labels, y_test=labels[:1])
        np.savez(tmp_path / file, **arrays)
        x_train, x_test, y_train, _ = load()
        np.testing.assert_array_equal(x_train[:1], x_test)
        assert y_train.tolist() == [3, 1, 4] and x_train.dtype == np.float32
        if len(shape) == 2:
            right = (np.pad(images[1], 2) / 255 - 0.2860) / 0.3530
        else:
            mean, deviation = np.array([0.4914, 0.4822, 0.4465]), np.array([0.2023, 0.1994, 0.2010])
            right = ((images[1] / 255 - mean) / (3 * deviation)).transpose(2, 0, 1)
        np.testing.assert_allclose(x_train[1], right.ravel(), atol=2e-6)


def test_mnist_missing(tmp_path, monkeypatch):
    import sklearn.datasets._openml as openml

    def unreachable(*args, **kwargs):
        raise URLError("no network in this test")

    monkeypatch.setenv("EQPROP_DATA", str(tmp_path))
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(openml, "urlopen", unreachable)
    assert mnist_path() is None
    with pytest.raises(DatasetUnavailableError, match="EQPROP_DATA"):
        load_mnist()
    with (
        pytest.warns(UserWarning),
        pytest.raises(DatasetUnavailableError, match="no network in this test"),
    ):
        load_mnist(download=True)


def test_a_damaged_archive_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("EQPROP_DATA", str(tmp_path))
    for content in (b"", b"not an archive", b"PK\x03\x04 cut short"):
        (tmp_path / "mnist.npz").write_bytes(content)
        with pytest.raises(DatasetUnavailableError, match="mnist.npz is no MNIST archive"):
            load_mnist()
    np.savez(tmp_path / "mnist.npz", x_train=np.zeros(3))
    with pytest.raises(DatasetUnavailableError, match="x_test"):
        load_mnist()


def test_a_silent_network_is_given_up(tmp_path, monkeypatch):
    """A proxy that accepts and never answers."""
    import socket

    from eqprop_fast import datasets

    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("EQPROP_DATA", str(tmp_path))
        monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "cache"))
        monkeypatch.setattr(datasets, "OPENML_SILENCE", 0.2)
        with pytest.warns(UserWarning), pytest.raises(DatasetUnavailableError, match="OpenML"):
            load_mnist(download=True)
    assert socket.getdefaulttimeout() is None


@pytest.mark.needs_mnist
def test_real_mnist():
    x_train, x_test, y_train, y_test = load_mnist()
    assert (
        x_train.shape == (60_000, 784)
        and x_test.shape == (10_000, 784)
        and x_train.dtype == np.float32
    )
    assert x_train.min() == 0 and x_train.max() == pytest.approx(1)
    assert np.bincount(y_train).min() > 5000 and np.bincount(y_test).min() > 800
