"""Augmentation: each batch of images is changed at random before the network sees it.

An augmentation is a callable ``(images, rng) -> images``: images (n, channels, height, width) of
the working dtype, as the input units take them, and a `numpy.random.Generator` that belongs to the
batch. Those here are parts, and words for them.
"""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from ..docstrings import documented
from ..parts import Part

FILLS = ("zero", "edge")


class Augmentation(Part):
    """Base of the augmentations; not for direct use."""

    def __call__(self, images, rng):
        """Changed images, of the same shape."""
        raise NotImplementedError


def moved(images, rows, columns, fill):
    """Each image moved down by its entry of `rows` and right by its entry of `columns`.

    Parameters
    ----------
    images : ndarray (n, channels, height, width)
    rows, columns : ndarray of int, (n,)
    fill : {"zero", "edge"}
        What comes in at the sides.
    """
    height, width = images.shape[2:]
    down, right = np.arange(height) - rows[:, None], np.arange(width) - columns[:, None]
    inside_down, inside_right = np.clip(down, 0, height - 1), np.clip(right, 0, width - 1)
    taken = images[
        np.arange(len(images))[:, None, None, None],
        np.arange(images.shape[1])[:, None, None],
        inside_down[:, None, :, None],
        inside_right[:, None, None, :],
    ]
    if fill == "zero":
        there = (down == inside_down)[:, None, :, None] & (right == inside_right)[:, None, None, :]
        taken *= there
    return taken


class Move(Augmentation):
    """Base of `Shift` and `Crop`; not for direct use.

    Parameters
    ----------
    fill : {"zero", "edge"}
        What comes in at the sides: zeros, or the pixels of the edge.
    """

    def _move(self, images, rng, most):
        rows, columns = rng.integers(-most, most, (2, len(images)), endpoint=True)
        return moved(images, rows, columns, self.fill)


_PIXELS = [Interval(Integral, 0, 2**15, closed="both")]
_FILL = [StrOptions(set(FILLS))]


@documented
class Shift(Move):
    """Each image is moved by up to so many pixels in each direction.

    Parameters
    ----------
    pixels : int
    """

    _parameter_constraints: dict = {"pixels": _PIXELS, "fill": _FILL}

    def __init__(self, pixels=2, fill="zero"):
        self.pixels = pixels
        self.fill = fill

    def __call__(self, images, rng):
        return self._move(images, rng, self.pixels)


@documented
class Crop(Move):
    """Of each image, padded on all sides, a random part of the size it had (2006.03824).

    Parameters
    ----------
    padding : int
    """

    _parameter_constraints: dict = {"padding": _PIXELS, "fill": _FILL}

    def __init__(self, padding=4, fill="edge"):
        self.padding = padding
        self.fill = fill

    def __call__(self, images, rng):
        return self._move(images, rng, self.padding)


@documented
class Flip(Augmentation):
    """Each image is mirrored, left to right, with this probability.

    Parameters
    ----------
    probability : float
    """

    _parameter_constraints: dict = {"probability": [Interval(Real, 0, 1, closed="both")]}

    def __init__(self, probability=0.5):
        self.probability = probability

    def __call__(self, images, rng):
        mirrored = rng.random(len(images)) < self.probability
        return np.where(mirrored[:, None, None, None], images[..., ::-1], images)


AUGMENTATIONS = {"shift": Shift, "crop": Crop, "flip": Flip}


def augmentation_list(value):
    """What the parameter `augment` stands for: callables, applied in turn.

    Raises
    ------
    ValueError
    """
    if value is None:
        return []
    found = []
    for one in value if isinstance(value, (list, tuple)) else [value]:
        if isinstance(one, str) and one in AUGMENTATIONS:
            one = AUGMENTATIONS[one]()
        if not callable(one) or isinstance(one, type):
            words = ", ".join(map(repr, AUGMENTATIONS))
            raise ValueError(
                f"augment must be {words}, a callable or a list of them, got {one!r:.60}"
            )
        if isinstance(one, Part):
            one.validate()
        found.append(one)
    return found


def augmenter(augmentations, shape):
    """``(rows, rng) -> rows``: the augmentations, on a batch of samples of this shape.

    Raises
    ------
    ValueError
        When it is called: what came back is not such samples.
    """

    def augment(rows, rng):
        images = rows.reshape(len(rows), *shape)
        for one in augmentations:
            changed = np.asarray(one(images, rng))
            if changed.shape != images.shape:
                raise ValueError(
                    f"augment={one!r:.60} must return samples of shape {images.shape}, got {changed.shape}"
                )
            images = changed.astype(rows.dtype, copy=False)
        if not np.isfinite(images).all():
            raise ValueError("augment: the samples it returned are not finite")
        return images.reshape(rows.shape)

    return augment
