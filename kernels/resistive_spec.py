"""What a layered resistive network is besides its conductances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DIODES = ("signed", "clipped", "none")


@dataclass(frozen=True)
class ResistiveSpec:
    """What a resistive network is besides its conductances.

    Attributes
    ----------
    sizes : tuple of int
        Features, nodes of each hidden layer, outputs.
    input_gain : float
        The input sources stand at +-input_gain * x volt.
    amplifier_gain : float
        Voltage gain a of the bidirectional amplifier (2006.01981: a forward, 1/a for the current
        back) behind every hidden node; 1: none.
    diodes : {"signed", "clipped", "none"}
        Hidden nodes: first half kept >= 0 V, second half <= 0 V (2402.11674); all between 0 and 1 V
        (two diodes, as in 2006.01981); or linear.
    pairs : bool
        Two output nodes for each output, which is the difference of their voltages (2006.01981).
    schedule : {"synchronous", "asynchronous", "forward", "backward"}
    carry_over : bool
        Training: a free phase starts where the previous batch ended.
    g_min, g_max : float
        Bounds of every conductance, in siemens.
    """

    sizes: tuple
    input_gain: float = 1.0
    amplifier_gain: float = 1.0
    diodes: str = "signed"
    pairs: bool = False
    schedule: str = "asynchronous"
    carry_over: bool = False
    g_min: float = 0.0
    g_max: float = np.inf

    @property
    def n_weights(self):
        return len(self.sizes) - 1

    @property
    def node_sizes(self):
        """Nodes of layers 1..L."""
        return (*self.sizes[1:-1], (2 if self.pairs else 1) * self.sizes[-1])

    @property
    def crossbar_shapes(self):
        """(rows, columns) of each matrix of conductances; the input has two rows for each feature."""
        return list(zip((2 * self.sizes[0], *self.node_sizes), self.node_sizes))

    def referred(self, k):
        """Factor by which the kernels' voltage of layer k (1-based) exceeds the node's: the gain
        from there on.

        Referred to the output, amplifiers vanish from the equations: E = sum_k E_k / a^(2k) in node
        voltages is the plain network's energy in v_k * a^(hidden layers from k on), with the input
        gain multiplied likewise.
        """
        return self.amplifier_gain ** (len(self.sizes) - 1 - k)

    @property
    def steps_to_output(self):
        """Steps that the input needs to reach the output from a network at 0 V."""
        n = self.n_weights
        return {"synchronous": n, "asynchronous": (n + 1) // 2, "forward": 1, "backward": n}[
            self.schedule
        ]

    @property
    def source_gain(self):
        """Voltage of a source at x = 1, referred to the output."""
        return self.input_gain * self.referred(0) / self.amplifier_gain

    def bounds(self, dtype):
        """Lowest and highest voltage of the nodes of each layer, referred to the output."""
        lower = [np.full(n, -np.inf, dtype) for n in self.node_sizes]
        upper = [np.full(n, np.inf, dtype) for n in self.node_sizes]
        for k, (lo, hi) in enumerate(zip(lower[:-1], upper[:-1]), start=1):
            if self.diodes == "signed":
                lo[: len(lo) // 2], hi[len(hi) // 2 :] = 0, 0
            elif self.diodes == "clipped":
                lo[:], hi[:] = 0, self.referred(k)
        return lower, upper
