"""Exact gradients of graphs behind a compiled backend: its kernel relaxes, the reverse steps, which
are baselines and not for speed, are the NumPy twin's.
"""

from dataclasses import dataclass, replace

from .reference.graph import GraphNet
from .reference.rules import train_net


@dataclass
class RelaxedNet(GraphNet):
    """A `GraphNet` whose states are relaxed by `kernel`, a backend's graph_relax."""

    kernel: object = None
    n_threads: int = 1

    def _of(self, spec):
        return replace(self, spec=spec)

    def relax(self, drive, states, y=None, beta=0.0, n_steps=1, tol=-1.0, phase="free", step=None):
        arrays = self.spec, self.weights, self.back, self.biases, drive.x
        return self.kernel(*arrays, states, y, beta, n_steps, tol, self.n_threads)


def train_exactly(kernel, n_threads, network, *data):
    """`kernels.reference.train.graph_train` with a rule of GRADIENT_RULES, relaxing by `kernel`:
    `network` is spec, weights, back, biases; `data` is what follows them there.
    """
    return train_net(RelaxedNet(*network, kernel=kernel, n_threads=n_threads), *data)
