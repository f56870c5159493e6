"""One pass upwards is a good start of inference where bottom-up and top-down inputs agree
(1606.01651).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, softmax
from sklearn.base import clone, is_regressor

from ..gradients.record import check_count
from ..kernels import Sweeps
from ..kernels.reference.activations import rho
from ..kernels.reference.connections import bias_map
from ..kernels.reference.graph import GraphNet
from ..networks.graph_network import GraphNetwork
from ..networks.layered import LayeredNetwork
from .results import TheoryResult, new_figure

STARTS = ("zero", "pass", "doubled")


@dataclass(frozen=True, eq=False)
class FeedforwardConsistency(TheoryResult):
    """Result of `feedforward_consistency`; the verdict is the residual right after the doubled pass,
    relative to that of a zero start.

    Attributes
    ----------
    layers : list of str
        The free layers.
    mismatch : ndarray
        ``|T - B| / |B|`` of each layer at the fixed points, T its input from above and B from below;
        NaN where there is none from above.
    residual : dict of str to ndarray
        By the start ("zero", "pass", "doubled"; "learned", of a network that starts so), root mean
        square of ``s - rho(field)`` in each layer.
    correlation : float
        Between ``|T - B|`` and the residual, over samples and the layers under a hidden one, right
        after the doubled pass; NaN with one hidden layer. Over training: `feedforward_training`.
    sweeps : dict of str to ndarray (M,)
        Sweeps from each start until no unit changes by more than the tolerance.
    """

    layers: list
    mismatch: np.ndarray
    residual: dict
    correlation: float
    sweeps: dict

    @property
    def speed_up(self):
        """Median sweeps from zero over those from the learned pass or, without one, the doubled."""
        best = "learned" if "learned" in self.sweeps else "doubled"
        zero, start = (np.median(self.sweeps[s]) for s in ("zero", best))
        return float(zero / max(start, 1))

    def plot(self):
        figure, (left, middle, right) = new_figure(1, 3)
        place = np.arange(len(self.layers))
        left.bar(place, np.nan_to_num(self.mismatch), color="#667")
        left.set(title="|T - B| / |B| at the fixed points")
        width = 0.8 / len(self.residual)
        for i, start in enumerate(self.residual):
            middle.bar(place + width * (i - 1), self.residual[start], 0.9 * width, label=start)
            steps = np.sort(self.sweeps[start])
            share = np.arange(1, len(steps) + 1) / len(steps)
            right.step(steps, share, where="post", label=start)
        middle.set(title="residual right after the start")
        right.set(title="settled samples", xlabel="sweeps", ylabel="share")
        for axes in (left, middle):
            axes.set_xticks(place, self.layers, rotation=20, fontsize=8)
        middle.legend(fontsize=7)
        right.legend(fontsize=7)
        return figure


class _FreePhase:
    """The free phase of a fitted EqProp network."""

    def __init__(self, net, x):
        if net.spec.dynamics != "discrete" or net.spec.dt != 1:
            raise ValueError("model: the pass is for the undamped discrete map, Discrete(dt=1)")
        self.net, self.x, self.spec = net, x, net.spec
        self.names = self._names()
        self.answers = [net.under_hidden(k) for k in range(1, len(self.names) + 1)]

    @property
    def starts(self):
        return STARTS if self.net.recognition is None else (*STARTS, "learned")

    def start(self, name):
        if name == "zero":
            return self.net.new_particles(self.x.shape[0])
        if name == "learned":
            return self.net.recognition.states(self.x)
        return self.net.pass_upwards(self.x, gain=2.0 if name == "doubled" else 1.0)

    def settle(self, states, n_steps, tol):
        found = self.net.relax(self.x, n_steps, tol, states=states)
        return found.states, found.steps

    def answer(self, field, k):
        return rho(self.spec.activation_of(k), field)


class _Chain(_FreePhase):
    def __init__(self, net, x):
        super().__init__(net, x)
        self.biases, self.back = net.biases, net.back or [w.T for w in net.weights]

    def _names(self):
        return [*(f"hidden {k}" for k in range(1, self.spec.n_weights)), "output"]

    def inputs(self, states, k):
        x = rho(self.spec.input_activation, self.x) if k == 1 else states[k - 2]
        above = states[k] @ self.back[k] if k < len(self.names) else None
        return x @ self.net.weights[k - 1], above


class _Shaped(_FreePhase):
    """Of a network of any shape; maxima lie where the states put them."""

    def __init__(self, net, x):
        super().__init__(net, x)
        self.twin = GraphNet(net.spec, net.weights, net.back, net.biases)
        self.drive = self.twin.drive(x)
        self.biases = [
            bias_map(b, layer.shape) for b, layer in zip(net.biases, net.spec.layers[1:])
        ]

    def _names(self):
        return [self.net.names[k] for k in self.spec.moving]

    def inputs(self, states, k):
        below, above = self.twin.inputs(self.drive, states, k)
        return below - self.biases[k - 1], above


class _Machine:
    """A fitted generative estimator, data clamped and, if given, labels."""

    starts = STARTS

    def __init__(self, estimator, X, y):
        self.machine = m = estimator._machine()
        self.x = estimator._dense(estimator._checked(X))
        self.y = estimator._given(y, len(self.x))
        self.biases = m.biases[1:]
        hidden = m.n_hidden
        self.names = [f"hidden {k}" for k in range(1, hidden + 1)]
        if m.labelled and self.y is None:
            self.names.append("labels")
        self.answers = [k < hidden for k in range(1, len(self.names) + 1)]

    def start(self, name):
        m = self.machine
        states = [np.zeros((len(self.x), len(b)), m.dtype) for b in self.biases]
        if self.y is not None:
            states[-1][...] = self.y
        if name == "zero":
            return states
        for k in range(1, len(self.names) + 1):
            below, above = self.inputs(states, k)
            known = self.y is not None and k == m.n_hidden
            gain = 2 if name == "doubled" and self.answers[k - 1] else 1
            field = gain * below + self.biases[k - 1] + (above if known else 0)
            states[k - 1][...] = self.answer(field, k)
        return states

    def settle(self, states, n_steps, tol):
        every = [self.x.copy(), *(s.copy() for s in states)]
        clamped = [True, *[False] * len(states)]
        clamped[-1] = self.y is not None
        steps, _ = self.machine.sweep(every, Sweeps(n_steps, draw=False, tol=tol), clamped)
        return every[1:], steps

    def inputs(self, states, k):
        return self.machine.inputs([self.x, *states], k)

    def answer(self, field, k):
        return softmax(field, axis=1) if self.machine.is_categorical(k) else expit(field)


def feedforward_consistency(model, X, y=None, *, n_steps=1000, tol=1e-3):
    """How far a pass upwards lands from the fixed point, and how many sweeps it saves.

    Parameters
    ----------
    model : fitted EqPropClassifier, ConvEqPropClassifier, GraphEqPropClassifier, their regressors, \
            DeepBoltzmannMachine or DeepHopfieldNetwork
    X : array-like of shape (n_samples, n_features)
    y : array-like of shape (n_samples,), optional
        Labels to clamp, in a generative network that has learnt them: the paper's own case.
    n_steps : int
        Sweeps at most.
    tol : float

    Returns
    -------
    FeedforwardConsistency
        Verdict: mean residual after the doubled pass over that of a zero start, target 0.1.

    Raises
    ------
    ValueError
        The model has no such pass; its message says why.
    """
    check_count(n_steps, "n_steps")
    if not 0 <= tol < np.inf:
        raise ValueError(f"tol must be a finite number >= 0, got {tol!r}")
    net = _measured(model, X, y)
    residual, sweeps = {}, {}
    for name in net.starts:
        states = net.start(name)
        residual[name] = np.array([_rms(_left(net, states, k)) for k in _layers(net)])
        settled, sweeps[name] = net.settle(states, n_steps, tol)
    total = {name: np.sqrt(np.mean(r**2)) for name, r in residual.items()}
    return FeedforwardConsistency(
        verdict=float(total["doubled"] / total["zero"]),
        target=0.1,
        settings={"n_steps": n_steps, "tol": tol, "clamped": y is not None},
        layers=net.names,
        mismatch=np.array([_mismatch(*net.inputs(settled, k)) for k in _layers(net)]),
        residual=residual,
        correlation=_correlation(net),
        sweeps=sweeps,
    )


def _measured(model, X, y):
    return _Machine(model, X, y) if hasattr(model, "_machine") else _of_network(model, X, y)


def _of_network(model, X, y):
    found = model._network_for(X) if hasattr(model, "_network_for") else (None, None)
    for kind, made in ((LayeredNetwork, _Chain), (GraphNetwork, _Shaped)):
        if isinstance(found[0], kind):
            if y is not None:
                raise ValueError("y: an EqProp network nudges its output, it does not clamp it")
            return made(*found)
    raise ValueError(
        "model must be a fitted estimator of a Hopfield-like network (EqProp, ConvEqProp, GraphEqProp) "
        f"or a generative one, got {type(model).__name__}"
    )


def _layers(net):
    return range(1, len(net.names) + 1)


def _rms(a):
    return float(np.sqrt(np.mean(np.square(a, dtype=np.float64))))


def _left(net, states, k):
    """What layer k still has to change by."""
    below, above = net.inputs(states, k)
    field = below + net.biases[k - 1] + (0 if above is None else above)
    return states[k - 1] - net.answer(field, k)


def _mismatch(below, above):
    return np.nan if above is None else np.linalg.norm(above - below) / np.linalg.norm(below)


def _after_doubled_pass(net):
    """(|T - B|, what is left to change by) of each layer whose input was doubled, by samples."""
    states, found = net.start("doubled"), []
    for k in _layers(net):
        if net.answers[k - 1]:
            below, above = net.inputs(states, k)
            found.append([_row_rms(above - below), _row_rms(_left(net, states, k))])
    return found


def _row_rms(a):
    return np.linalg.norm(a, axis=1) / np.sqrt(a.shape[1])


def _correlation(net):
    """Of |T - B| with the state's residual, over samples and layers whose input was doubled."""
    found = _after_doubled_pass(net)
    if not found:
        return np.nan
    gaps, left = np.concatenate(found, axis=1)
    return float(np.corrcoef(gaps, left)[0, 1])


@dataclass(frozen=True, eq=False)
class FeedforwardTraining(TheoryResult):
    """Result of `feedforward_training`; the verdict is 1 minus the correlation.

    Attributes
    ----------
    layers : list of str
        Those under a hidden one, whose input the pass doubles.
    gap : ndarray (n_epochs, len(layers))
        Root mean square of T - B right after the doubled pass, T what a layer gets from above and B
        from below.
    residual : ndarray (n_epochs, len(layers))
        The same of what is left to change: ``s - rho(field)``.
    """

    layers: list
    gap: np.ndarray
    residual: np.ndarray

    @property
    def correlation(self):
        """Of `gap` and `residual`, over training and layers."""
        return 1 - self.verdict

    def plot(self):
        figure, (axes,) = new_figure()
        for name, gap, left in zip(self.layers, self.gap.T, self.residual.T):
            axes.plot(gap, left, "o-", ms=3, lw=0.6, label=name)
        axes.set(
            xlabel="|T - B| after the pass",
            ylabel="residual after the pass",
            title=f"over training: correlation {self.correlation:.3f}",
        )
        axes.legend(fontsize=7)
        return figure


def feedforward_training(model, X, y=None, *, rows=None, clamp=None, n_epochs=40):
    """Whether what a pass upwards leaves to change follows |T - B| while a network learns.

    Parameters
    ----------
    model : estimator that `feedforward_consistency` takes, with more than one hidden layer
        A clone of it is trained, by `partial_fit`.
    X : array-like of shape (n_samples, n_features)
    y : array-like of shape (n_samples,), optional
        What it learns.
    rows : array-like of shape (n_rows, n_features), optional
        Where it is measured after each epoch; None: X.
    clamp : array-like of shape (n_rows,), optional
        Labels to clamp there, in a generative network that learns them.
    n_epochs : int
        At least 2.

    Returns
    -------
    FeedforwardTraining
        Verdict: 1 - correlation, target 0.05.

    Raises
    ------
    ValueError
        The model has no such pass, or no layer under a hidden one.
    """
    check_count(n_epochs, "n_epochs")
    if n_epochs < 2:
        raise ValueError(f"n_epochs must be at least 2, got {n_epochs}")
    model, rows = clone(model), X if rows is None else rows
    more = {} if y is None or is_regressor(model) else {"classes": np.unique(y)}
    found = []
    for _ in range(n_epochs):
        model.partial_fit(X, y, **more)
        net = _measured(model, rows, clamp)
        pairs = _after_doubled_pass(net)
        if not pairs:
            raise ValueError("model must have more than one hidden layer: the last is not doubled")
        found.append([[_rms(a) for a in pair] for pair in pairs])
    gap, left = np.moveaxis(np.array(found), 2, 0)
    return FeedforwardTraining(
        verdict=1 - float(np.corrcoef(gap.ravel(), left.ravel())[0, 1]),
        target=0.05,
        settings={"n_epochs": n_epochs, "clamped": clamp is not None},
        layers=[name for name, answers in zip(net.names, net.answers) if answers],
        gap=gap,
        residual=left,
    )
