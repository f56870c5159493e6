"""Everything besides the weights that a later call needs to go on training as if never interrupted."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import numpy as np

from ..kernels import OptimizerState, TrainStats


class RandomStreams:
    """Independent generators for the uses of chance, so that one never shifts another.

    Parameters
    ----------
    seed : int
    """

    NAMES = ("init", "shuffle", "sign", "start")  # new ones last: the others' numbers stay

    def __init__(self, seed):
        for name, sequence in zip(self.NAMES, self._sequences(seed)):
            setattr(self, name, np.random.Generator(np.random.PCG64(sequence)))

    @staticmethod
    @functools.lru_cache(maxsize=16)  # every epoch begins from those of 0
    def _sequences(seed):
        return np.random.SeedSequence(seed).spawn(len(RandomStreams.NAMES))

    def state(self):
        """JSON-able state of each generator."""
        return {name: getattr(self, name).bit_generator.state for name in self.NAMES}

    @classmethod
    def from_state(cls, state):
        streams = cls(0)
        for name in cls.NAMES:
            if name in state or name != "start":  # which older states do not have
                getattr(streams, name).bit_generator.state = state[name]
        return streams


@dataclass(frozen=True)
class EpochPosition:
    """How far an epoch has come, for an interrupted one to be gone on with."""

    n_rows: int
    batch_size: int
    streams: dict  # before the epoch: its order and its signs are drawn from them
    batches: int = 0  # done
    stats: TrainStats = field(default_factory=TrainStats)  # of those

    def fits(self, n_rows, batch_size):
        """Whether an epoch of so many rows in such batches is the one that was interrupted."""
        return (self.n_rows, self.batch_size) == (n_rows, batch_size)


@dataclass(frozen=True)
class Unanswered:
    """What callbacks are told of the last epoch and the state does not hold, until all have
    answered.
    """

    stats: TrainStats
    rates: tuple
    seconds: float


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
    # of an early-stopped run, before its best weights were put back
    last_snapshot: list | None = None
    position: EpochPosition | None = None  # within an epoch that was interrupted
    unanswered: Unanswered | None = None  # what callbacks are yet to answer to
    ended: str | None = None  # "max_iter", "tol", "callback", "interrupted", "divergence", "error"

    def make_writable(self):
        """Copies arrays that came read-only from a memory map."""
        self.optimizer_state.velocity = writable(self.optimizer_state.velocity)
        self.optimizer_state.second = writable(self.optimizer_state.second)
        self.particles = writable(self.particles)

    def forget_best(self):
        """The parameters were replaced: those that were the best so far are another model's."""
        self.best_snapshot = self.last_snapshot = None
        self.best_validation_score = -np.inf


def writable(arrays):
    """`arrays` (a list, None or with None in it), those that are read-only copied: kernels take
    parameters as in/out.
    """
    return arrays and [a if a is None or a.flags.writeable else np.array(a) for a in arrays]
