"""What an experiment of a paper is, and how it is found."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import numpy as np

from ..networks.graph import Dense, ReadOut, chain

# papers run all their epochs, on inputs as they are, and decay no weights
ALL_EPOCHS = dict(tol=0.0, n_iter_no_change=np.inf, early_stopping=False, input_scaling=None)
LAYERED = dict(ALL_EPOCHS, weight_decay=0.0)


@dataclass(frozen=True)
class Preset:
    """One experiment.

    Attributes
    ----------
    name : str
        "arXiv id/row".
    source : str
        Where the numbers come from.
    parameters : dict
        Constructor parameters.
    layers : tuple of int or str
        Size of each layer, input first; of a map as "32x12x12".
    n_train : int
        Training rows of the paper's data set (MNIST).
    test_error : float or None
        Reported test error in percent; None: not known to us.
    notes : str
    dataset : str
    data : str
        The same for `eqprop_fast.datasets.load_named`.
    """

    name: str
    source: str
    parameters: dict
    layers: tuple
    n_train: int = 60_000
    test_error: float | None = None
    notes: str = ""
    dataset: str = "MNIST, pixels in [0, 1]"
    data: str = "mnist"


def mnist(name, source, parameters, **about):
    """The `Preset` of a network on MNIST; its layers follow from the parameters."""
    return Preset(name, source, parameters, (784, *parameters["hidden_layer_sizes"], 10), **about)


def conv(name, source, parameters, **about):
    """The `Preset` of a convolutional network with ten classes; its layers follow from the
    parameters.
    """
    hidden = [one for one in parameters["layers"] if not isinstance(one, ReadOut)]
    graph = chain(parameters["input_shape"], [*hidden, Dense(10)])
    return Preset(name, source, parameters, sizes_of(graph), **about)


def sizes_of(graph):
    """What each layer of a `Graph` is, in a word."""
    return tuple("x".join(map(str, layer.sides)) for layer in graph.layers)


def look_up(table, name):
    """A copy of the entry of a table of presets.

    Raises
    ------
    ValueError
        Unknown name; the message lists the known ones.
    """
    if name not in table:
        raise ValueError(f"unknown preset {name!r}; known: {', '.join(table)}")
    return deepcopy(table[name])
