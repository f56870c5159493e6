"""Epochs over mini-batches for any network of the protocol.

One kernel call trains many mini-batches (a chunk); the chunk is sized so that a call lasts about
`CHUNK_SECONDS`, short enough for Ctrl-C and progress. A chunk boundary changes nothing in the
result: order, signs and Adam's step are fixed before the epoch is cut.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..kernels import DivergenceError, TrainPlan, TrainStats
from ..kernels.interrupts import interrupt_afterwards
from .schedules import ADAPTIVE_DIVISOR, ADAPTIVE_SMALLEST_RATE, learning_rate_factor
from .state import EpochPosition, RandomStreams, Unanswered

CHUNK_SECONDS = 0.3
FIRST_CHUNK = 16  # batches in the first call, before any timing
AUGMENT = 1  # in the seeds of augmentation


@dataclass
class TrainingData:
    """What is trained on.

    Attributes
    ----------
    x : ndarray (R, n_features), C-contiguous, or CSR
    y : ndarray (R, n_outputs), dtype of x
    rows : ndarray of int64
        Rows of `x` used for training (the others may be held out); never copied out of `x`.
    row_weight : ndarray (R,) or None
    """

    x: object
    y: np.ndarray
    rows: np.ndarray
    row_weight: np.ndarray | None = None

    def total_weight(self):
        if self.row_weight is None:
            return float(len(self.rows))
        return float(self.row_weight[self.rows].sum(dtype=np.float64))


@dataclass(frozen=True)
class FitSettings:
    """How a run is driven. `plan` carries the initial rates; the driver scales them epoch by epoch."""

    plan: TrainPlan
    n_epochs: int  # to run in this call
    shuffle: bool = True
    random_sign: bool = False
    classes: bool = True  # whether the argmax of the outputs means anything
    schedule: str = "constant"
    power_t: float = 0.5
    decay: float = 0.99
    min_factor: float = 0.0
    period: int = 1
    tol: float = 1e-4
    n_iter_no_change: float = 10
    n_threads: int = 1
    on_interrupt: str = "warn"  # or "raise": what Ctrl-C does once the run has ended
    normal_start: bool = False  # free phases start at standard normal states instead of zero
    loss_unit: float = 1.0  # what the kernels' loss is divided by
    augment: Callable | None = None  # (rows of x of a batch, generator) -> rows
    chunk_batches: int | None = None  # None: by time
    whole: bool = True  # False: an epoch of partial_fit, which ends no run


@dataclass(frozen=True)
class EpochRecord:
    """What a callback is told after each epoch."""

    epoch: int
    loss: float
    accuracy: float | None  # of the free phases while training; None without classes
    validation_score: float | None
    rates: tuple
    stats: TrainStats
    seconds: float
    # degrees, of each layer pair with independent feedback weights
    feedback_angles: list | None = None


class _Chunks:
    """Batches per kernel call, adapted to the time calls take."""

    def __init__(self, fixed):
        self.fixed = fixed
        self.size = fixed or FIRST_CHUNK

    def tell(self, n_batches, seconds):
        if self.fixed is None:
            wanted = n_batches * CHUNK_SECONDS / max(seconds, 1e-4)
            self.size = int(np.clip(wanted, max(1, self.size // 4), 4 * self.size))


class _Rollback:
    """What an epoch that diverges, or a call that is cut, must leave as it was.

    Parameters, optimiser memory, random streams, counts; persistent states of `rows`. The weights
    under which a state blows up are finite too, but of no use; those that trained the epoch before
    are.
    """

    def __init__(self, network, state, rows=None):
        memory = state.optimizer_state
        self.parameters = network.snapshot()
        self.memory = [a.copy() for a in [*memory.velocity, *memory.second]]
        self.streams, self.n_updates = state.streams.state(), state.n_updates
        self.position = state.position
        self.carried = [p.copy() for p in state.particles] if network.carry_over else None
        self.rows = None if self.carried is not None or not state.particles else rows
        self.states = None if self.rows is None else [p[rows] for p in state.particles]

    def undo(self, network, state):
        memory = state.optimizer_state
        network.restore(self.parameters)
        for a, saved in zip([*memory.velocity, *memory.second], self.memory):
            a[...] = saved
        state.streams, state.n_updates = RandomStreams.from_state(self.streams), self.n_updates
        state.position = self.position
        if self.carried is not None:
            state.particles[:] = self.carried
        elif self.states is not None:
            for part, saved in zip(state.particles, self.states):
                part[self.rows] = saved
        else:
            self._forget_lost_states(state.particles or [])

    @staticmethod
    def _forget_lost_states(particles):
        """Persistent states are not copied (a row per sample): the lost ones start again from zero."""
        for part in particles:
            lost = ~np.isfinite(part).all(axis=1)
            if lost.any():
                for p in particles:
                    p[lost] = 0


def check_finite(network, stats, memory):
    """DivergenceError if a parameter, the optimiser's memory or the sum of the costs is not finite."""
    for index, p in enumerate(network.learned):
        if not np.isfinite(p).all():
            layer = network.layer_of(index)
            raise DivergenceError(
                f"the parameters of layer {layer} became non-finite (a smaller learning_rate_init usually "
                "helps)",
                layer,
                None,
                "update",
            )
    if not np.isfinite(stats.loss):
        layer = len(network.spec.sizes) - 1
        raise DivergenceError(
            f"the cost of the states of layer {layer}, the output, became non-finite (a smaller "
            "learning_rate_init usually helps)",
            layer,
            None,
            "free",
        )
    for kept in (memory.velocity, memory.second):
        for index, a in enumerate(kept):
            if not np.isfinite(a).all():
                layer = network.layer_of(index)
                raise DivergenceError(
                    f"the solver's memory of the gradients of layer {layer} became non-finite (a smaller "
                    "learning_rate_init usually helps)",
                    layer,
                    None,
                    "update",
                )


def _augmented(x, rows, plan, state, settings):
    """The rows of x, batch by batch as the augmentation changes them.

    A batch has a generator of its own, so that chunks and interruptions change nothing.
    """
    x, done = np.array(x[rows]), state.position.batches
    for b, start in enumerate(range(0, len(rows), plan.batch_size)):
        rng = np.random.default_rng((state.split_seed, AUGMENT, state.epoch, done + b))
        part = slice(start, start + plan.batch_size)
        x[part] = settings.augment(x[part], rng)
    return x


def _train_chunk(network, data, rows, plan, state, settings):
    """One kernel call."""
    x, y, row_weight, particles = data.x, data.y, data.row_weight, state.particles
    by_row = particles is not None and not network.carry_over
    own = None  # persistent states of rows that were numbered anew
    if settings.normal_start or settings.augment is not None:  # only the chunk's rows
        x = x[rows] if settings.augment is None else _augmented(x, rows, plan, state, settings)
        y, row_weight = y[rows], None if row_weight is None else row_weight[rows]
        if settings.normal_start:
            particles = network.normal_particles(len(rows), state.streams.start)
        elif by_row:
            own = rows
            particles = [p[rows] for p in particles]
        rows = np.arange(len(rows), dtype=np.int64)
    stats = network.train(
        x, y, rows, plan, row_weight, particles, state.optimizer_state, settings.n_threads
    )
    if own is not None:
        for p, trained in zip(state.particles, particles):
            p[own] = trained
    check_finite(network, stats, state.optimizer_state)
    return stats


def _train_epoch(network, data, state, settings, chunks, on_chunk):
    """One epoch, or what an interrupt has left of it."""
    plan = settings.plan
    position = state.position
    if position is None or not position.fits(len(data.rows), plan.batch_size):
        position = EpochPosition(len(data.rows), plan.batch_size, state.streams.state())
    order, sign = data.rows, None
    streams = RandomStreams.from_state(position.streams)
    if settings.shuffle:
        order = streams.shuffle.permutation(order)
    order = np.ascontiguousarray(order, dtype=np.int64)
    n_batches = -(-len(order) // plan.batch_size)
    if settings.random_sign:
        sign = (2 * streams.sign.integers(0, 2, n_batches) - 1).astype(np.int8)
    factor = learning_rate_factor(
        settings.schedule,
        state.epoch,
        state.samples_seen,
        state.rate_factor,
        power_t=settings.power_t,
        decay=settings.decay,
        min_factor=settings.min_factor,
        period=settings.period,
    )
    plan = replace(
        plan,
        rate=tuple(factor * r for r in plan.rate),
        bias_rate=tuple(factor * r for r in plan.bias_rate),
    )
    with interrupt_afterwards():
        streams.start = state.streams.start  # which runs on within the epoch
        state.streams, state.position = streams, position
    while position.batches < n_batches:
        done, stats = position.batches, position.stats
        count = min(chunks.size, n_batches - done)
        part = replace(
            plan,
            sign=None if sign is None else sign[done : done + count],
            adam_step=state.n_updates,
            loss_so_far=stats.loss,
        )
        rows = order[done * plan.batch_size : (done + count) * plan.batch_size]
        start = time.perf_counter()
        whole = _Rollback(network, state, rows)
        with interrupt_afterwards():
            try:
                stats = stats.followed_by(_train_chunk(network, data, rows, part, state, settings))
            except KeyboardInterrupt:  # not held back: nobody knows how far the call got
                whole.undo(network, state)
                raise
            state.n_updates += count
            state.position = position = replace(position, batches=done + count, stats=stats)
        chunks.tell(count, time.perf_counter() - start)
        if on_chunk is not None:
            on_chunk(len(rows))
    return position.stats, plan.rate


def fit_epochs(
    network,
    data,
    state,
    settings,
    *,
    validate: Callable | None = None,
    callbacks=(),
    progress=None,
    on_epoch: Callable | None = None,
):
    """Train `network` for up to `settings.n_epochs` epochs, in place.

    Parameters
    ----------
    network : Network
    data : TrainingData
    state : TrainingState
        Continued, and updated in place.
    settings : FitSettings
    validate : callable or None
        ``validate() -> score`` (higher is better) turns early stopping on: the best snapshot is
        restored at the end.
    callbacks : sequence of callables
        Each is called with an `EpochRecord`; one that returns True stops the run. All are asked of
        every epoch; those of `state.unanswered`, which an exception or a kill kept from answering,
        once more before anything is trained.
    progress : Progress or None
        See `training.progress`.
    on_epoch : callable or None
        Called with no argument once the state of an epoch is complete (checkpoints); that of the
        last one is then as at the end of the run, with the best snapshot in place.

    Returns
    -------
    str
        Why it ended: "max_iter", "tol", "callback" or "interrupted"; `state.ended` too, also
        "divergence" or "error" where an exception leaves. An interrupted epoch is gone on with by
        the next call with this state.

    Raises
    ------
    KeyboardInterrupt
        With ``settings.on_interrupt == "raise"``.
    DivergenceError
        The epoch is undone, as if it had not begun: parameters, optimiser memory and counts are
        those after the last whole epoch; with `validate`, the best parameters are put back.
    """
    _reopen(network, state, validate)
    reason = "error"
    try:
        reason = _run_epochs(
            network, data, state, settings, validate, callbacks, progress, on_epoch
        )
    except KeyboardInterrupt:
        reason = "interrupted"
        if settings.on_interrupt == "raise":
            raise
        warnings.warn("Training interrupted by user; the current weights are kept.", stacklevel=2)
    except DivergenceError:
        reason = "divergence"
        raise
    finally:
        _close(network, state, validate, reason if settings.whole else None)
    return reason


def _run_epochs(network, data, state, settings, validate, callbacks, progress, on_epoch):
    chunks = _Chunks(settings.chunk_batches)
    total_weight = data.total_weight()
    if state.unanswered is not None:
        asked = _ask(callbacks, state, settings, validate)
        if asked or has_stopped(state, settings):
            return "tol" if has_stopped(state, settings) else "callback"
    for index in range(settings.n_epochs):
        start = time.perf_counter()
        rollback = _Rollback(network, state)
        try:
            stats, rates = _train_epoch(
                network,
                data,
                state,
                settings,
                chunks,
                None if progress is None else progress.advance,
            )
            score = None if validate is None else validate()
        except DivergenceError:
            rollback.undo(network, state)
            raise
        with interrupt_afterwards():
            state.epoch += 1
            state.samples_seen += len(data.rows)
            state.loss_curve.append(stats.loss / (total_weight * settings.loss_unit))
            state.position = None
            _note_improvement(network, state, settings, score)
            angles = network.feedback_angles()
            if angles is not None:
                state.angle_curve.append(angles)
            stop = _should_stop(state, settings)
            state.unanswered = Unanswered(stats, rates, time.perf_counter() - start)
        if progress is not None:
            progress.epoch(_record(state, settings, validate))
        if not callbacks:
            state.unanswered = None
        reason = "tol" if stop else "max_iter" if index + 1 == settings.n_epochs else None
        if on_epoch is not None:
            if reason is not None and settings.whole:
                _close(network, state, validate, reason)
            on_epoch()
            _reopen(network, state, validate)
        asked = _ask(callbacks, state, settings, validate)
        if stop or asked:
            return "tol" if stop else "callback"
    return "max_iter"


def _record(state, settings, validate):
    """Of the last epoch."""
    told = state.unanswered
    return EpochRecord(
        epoch=state.epoch,
        loss=state.loss_curve[-1],
        accuracy=told.stats.n_correct / told.stats.n_samples if settings.classes else None,
        validation_score=None if validate is None else state.validation_scores[-1],
        rates=told.rates,
        stats=told.stats,
        seconds=told.seconds,
        feedback_angles=state.angle_curve[-1] if state.angle_curve else None,
    )


def _ask(callbacks, state, settings, validate):
    """Whether a callback wants to stop."""
    if not callbacks:
        state.unanswered = None
        return False
    record = _record(state, settings, validate)
    asked = [bool(callback(record)) for callback in callbacks]  # no short-circuit: each hears of it
    state.unanswered = None
    return any(asked)


def has_stopped(state, settings):
    """Whether the run has ended because nothing improved, by the settings that hold now."""
    rate = max(settings.plan.rate) * state.rate_factor
    slower = settings.schedule == "adaptive" and rate > ADAPTIVE_SMALLEST_RATE
    return state.no_improvement > settings.n_iter_no_change and not slower


@interrupt_afterwards()
def _close(network, state, validate, reason):
    """The run's end: its reason, and the best parameters put back."""
    state.ended = reason
    if validate is not None and state.best_snapshot is not None:
        if state.last_snapshot is None:
            state.last_snapshot = network.snapshot()
        network.restore(state.best_snapshot)


@interrupt_afterwards()
def _reopen(network, state, validate):
    """Undo `_close`: the optimiser's memory belongs to the last parameters, not to the best ones."""
    state.ended = None
    if validate is not None and state.last_snapshot is not None:
        network.restore(state.last_snapshot)
    state.last_snapshot = None


def _note_improvement(network, state, settings, score):
    """scikit-learn MLP's bookkeeping of `n_iter_no_change`; `score` of the validation rows, if any."""
    if score is None:
        loss = state.loss_curve[-1]
        state.no_improvement = (
            state.no_improvement + 1 if loss > state.best_loss - settings.tol else 0
        )
        state.best_loss = min(state.best_loss, loss)
        return
    state.validation_scores.append(score)
    worse = score < state.best_validation_score + settings.tol
    state.no_improvement = state.no_improvement + 1 if worse else 0
    if score > state.best_validation_score:
        state.best_validation_score = score
        state.best_snapshot = network.snapshot()


def _should_stop(state, settings):
    if has_stopped(state, settings):
        return True
    if state.no_improvement > settings.n_iter_no_change:  # "adaptive": slower instead
        state.rate_factor /= ADAPTIVE_DIVISOR
        state.no_improvement = 0
    return False
