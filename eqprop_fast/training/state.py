"""Everything besides the weights that a later call needs to go on training as if never interrupted."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..kernels import OptimizerState


class RandomStreams:
    """Independent generators for the uses of chance, so that one never shifts another.

    Parameters
    ----------
    seed : int
    """

    NAMES = ("init", "shuffle", "sign", "start")  # new ones last: the others' numbers stay

    def __init__(self, seed):
        for name, sequence in zip(self.NAMES, np.random.SeedSequence(seed).spawn(len(self.NAMES))):
            setattr(self, name, np.random.Generator(np.random.PCG64(sequence)))

    def state(self):
        """JSON-able state of each generator."""
        return {name: getattr(self, name).bit_generator.state for name in self.NAMES}

    @classmethod
    def from_state(cls, state):
        streams = cls(0)
        for name in cls.NAMES:
            if name in state or name != "start":  # which older files do not have
                getattr(streams, name).bit_generator.state = state[name]
        return streams


@dataclass
class TrainingState:
    """Counters, curves, optimiser memory and random streams of one training run."""

    streams: RandomStreams
    split_seed: int = 0  # of the early-stopping split
    optimizer_state: OptimizerState = field(default_factory=OptimizerState)
    particles: list | None = None
    epoch: int = 0
    samples_seen: int = 0  # t_
    n_updates: int = 0  # mini-batches done: Adam's step
    rate_factor: float = 1.0  # reached by "adaptive"
    no_improvement: int = 0
    loss_curve: list = field(default_factory=list)
    angle_curve: list = field(default_factory=list)  # feedback angles after each epoch
    best_loss: float = np.inf
    validation_scores: list = field(default_factory=list)
    best_validation_score: float = -np.inf
    best_snapshot: list | None = None
    last_snapshot: list | None = None  # of an early-stopped run, before its best weights were put back

    def make_writable(self):
        """Copies arrays that came read-only from a memory map."""
        self.optimizer_state.velocity = _writable(self.optimizer_state.velocity)
        self.optimizer_state.second = _writable(self.optimizer_state.second)
        self.particles = _writable(self.particles)


def _writable(arrays):
    return arrays and [a if a.flags.writeable else np.array(a) for a in arrays]
