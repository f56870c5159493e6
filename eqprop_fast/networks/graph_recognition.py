"""The pass upwards that learns (recognition.py), through a network of any shape."""

from __future__ import annotations

import numpy as np

from ..kernels.reference.connections import bias_sum
from ..kernels.reference.graph import GraphNet
from .recognition import LearnedPass


class GraphRecognitionPass(LearnedPass):
    """Weights and biases of a pass upwards through a `GraphNetwork`, trained in place.

    A layer's connection with itself has no part in it: the pass comes by once.

    Parameters
    ----------
    network : GraphNetwork
        That it predicts; undamped discrete map.
    weights, biases : lists of C-contiguous ndarray
        Of the shapes of the network's own.
    learning_rate : float
        As of `RecognitionPass`.
    """

    def __init__(self, network, weights, biases, learning_rate=1.0):
        self.network, self.spec = network, network.spec._replace(schedule="forward", dt=1.0)
        super().__init__(weights, biases, learning_rate)

    def states(self, x, n_threads=1):
        """Predicted states of all layers, each row independent of the others."""
        states, own = self.network.new_particles(x.shape[0]), (self.weights, self.network.back)
        relax = self.network.kernels.graph_relax
        relax(self.spec, *own, self.biases, x, states, n_threads=n_threads)  # from zero: the pass
        return states

    batch_states = states

    def _learn(self, x, predicted, settled, share):
        twin = GraphNet(self.spec, self.weights, self.network.back, self.biases)
        drive = twin.drive(x)
        shown = [drive.shown, *twin.shown(drive, predicted)]
        where = twin.where(drive, shown[1:])
        for k, layer in enumerate(self.spec.layers[1:], start=1):
            links = [
                (c, twin.links[c], shown[link.below])
                for c, link in enumerate(self.spec.connections)
                if link.above == k != link.below
            ]
            error = share * (settled[k - 1] - predicted[k - 1])
            self._step(layer, links, where, share, error, self.biases[k - 1])

    def _step(self, layer, links, where, share, error, bias):
        """Of the connections to one layer, `links` (index, twin, states below), and its bias."""
        positions = layer.size // layer.n_biases  # that a bias, or a kernel, acts at
        # one bias for many units cannot answer to what each of them gets in all samples alike
        middles = [
            (share * low).sum(axis=0, keepdims=True)
            if positions == 1 and self.weights[c].ndim == 2
            else None
            for c, _, low in links
        ]
        lows = [low if m is None else low - m for (_, _, low), m in zip(links, middles)]
        q = sum(
            _size(op, low, share, self.weights[c], where[c]) for (c, op, _), low in zip(links, lows)
        )
        rate = error.dtype.type(self.learning_rate / (1 + q))
        bias += error.dtype.type(self.learning_rate / (2 * positions)) * bias_sum(
            error, layer.shape
        )
        for (c, op, _), low, middle in zip(links, lows, middles):
            change = rate * op.correlation(low, error, where[c])
            self.weights[c] += change
            if middle is not None:
                bias -= bias_sum(op.lift(middle, change), layer.shape)


def _size(op, low, share, weight, where):
    """Mean over the samples of the squares that a unit's weights see, summed over its positions."""
    squares = share * np.square(low)
    if weight.ndim == 2:
        return float(squares.sum())
    seen = op.lift(squares, np.ones_like(weight), where).sum(axis=0)  # of average pools: at least
    return float(seen.reshape(len(weight), -1).sum(axis=1).max())
