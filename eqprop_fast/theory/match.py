"""Updates of a learning rule against the gradients of BPTT, step by step (1905.13633, 2005.04168)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from sklearn.base import clone

from ..dynamics import dynamics_of
from ..gradients.record import check_count
from ..networks.asymmetry import measured_angles
from ..relaxation import Relaxation
from ..rules import as_rule
from .checks import check_data, check_model
from .conv import ConvNetwork
from .models import LayeredModel
from .phases import bptt_moments, free_trajectory, nudged_moments
from .presets import CONVENTIONS, PRESETS, layered_spec, mnist_batch, uniform_batch
from .results import TheoryResult, new_figure
from .toy import ToyNetwork
from .values import check_dtype, check_number, check_positive, check_seed, generator_of

N_CURVES = 5
MATCHED = ("ep", "continual", "vector_field", "continual_vector_field")


@dataclass(frozen=True, eq=False)
class GradientMatch(TheoryResult):
    """Result of `gradient_match`; the verdict is the largest mean RMSE of any layer or synapse.

    Attributes
    ----------
    neuron_rmse, synapse_rmse : dict of str to float
        Mean over the entries of a layer (of a weight matrix) of
        ``sqrt(sum_t (n - d)^2 / max(sum_t n^2, sum_t d^2))``
        (docs/equations.md 10.1); synapses by their cumulated
        curves.
    neuron_rmse_std, synapse_rmse_std : dict
        Standard deviation over the same entries.
    synapse_rmse_live : dict
        The mean over the entries that move at all; weights of dark pixels count as 0 in
        `synapse_rmse`.
    sign_agreement : dict of str to float
        Percentage of the synapses whose total update has the sign of the gradient (or both are 0).
    angle : float
        Between the total update and the total gradient, all matrices concatenated, degrees
        (docs/equations.md 10.2).
    neuron_curves, synapse_curves : dict of str to (gradient, update), each ndarray (K, 5)
        A few entries over time; synapses cumulated.
    weight_angles : list of float
        Angle between forward and backward weights of each layer pair; empty when symmetric.
    n_free_steps : int
        Steps of the free phase that were needed.
    residual : float
        Largest speed of any unit at its end.
    """

    neuron_rmse: dict
    synapse_rmse: dict
    neuron_rmse_std: dict
    synapse_rmse_std: dict
    synapse_rmse_live: dict
    sign_agreement: dict
    angle: float
    neuron_curves: dict
    synapse_curves: dict
    weight_angles: list
    n_free_steps: int
    residual: float

    def plot(self):
        """Curves of a few entries (updates dashed on gradients) and the RMSE bars; returns the
        figure.
        """
        curves = [(f"neurons, {k}", v) for k, v in self.neuron_curves.items()]
        curves += [(f"synapses {k}", v) for k, v in self.synapse_curves.items()]
        n_columns = 2 if len(curves) < 5 else 3
        figure, axes = new_figure(-(-(len(curves) + 1) // n_columns), n_columns, 3.6, 2.6)
        for axis, (title, (gradient, update)) in zip(axes, curves):
            for j in range(gradient.shape[1]):
                axis.plot(-gradient[:, j], color=f"C{j}", lw=2.2, alpha=0.45)
                axis.plot(-update[:, j], color=f"C{j}", ls="--", lw=1.1)
            axis.set_title(title, fontsize=9)
            axis.ticklabel_format(style="sci", axis="y", scilimits=(0, 0))
            axis.set_xlabel("step t", fontsize=8)
            axis.tick_params(labelsize=7)
        bars = axes[len(curves)]
        names = list(self.neuron_rmse) + list(self.synapse_rmse)
        values = list(self.neuron_rmse.values()) + list(self.synapse_rmse.values())
        colors = ["C0"] * len(self.neuron_rmse) + ["C1"] * len(self.synapse_rmse)
        drawn = bars.bar(range(len(names)), values, color=colors)
        crowded = len(names) > 6  # then the labels stand upright
        bars.bar_label(
            drawn,
            [f"{v:.1e}" for v in values],
            fontsize=7,
            rotation=90 if crowded else 0,
            padding=2,
        )
        bars.margins(y=0.4 if crowded else 0.15)
        bars.set_xticks(
            range(len(names)), [n.replace(" ", "\n").replace("-", "\n") for n in names], fontsize=6
        )
        bars.ticklabel_format(style="sci", axis="y", scilimits=(0, 0))
        bars.set_title("mean RMSE", fontsize=9)
        bars.tick_params(axis="y", labelsize=7)
        for axis in axes[len(curves) + 1 :]:
            axis.axis("off")
        s = self.settings
        what = f"{s.get('preset') or 'gradient match'}, {s['rule'].word}, beta {s['rule'].beta:g}"
        if s["n_draws"] > 1:
            bars.set_title(f"mean RMSE of {s['n_draws']} draws", fontsize=9)
        if s["convention"] == "as_coded":
            what += ", as_coded"
        figure.suptitle(f"{what}: solid -gradient (BPTT), dashed update", fontsize=10)
        return figure


class _Rmse:
    """Sums over time of n^2, d^2 and (n - d)^2 of every entry."""

    def __init__(self):
        self.n2 = self.d2 = self.e2 = 0.0

    def add(self, n, d):
        self.n2, self.d2, self.e2 = self.n2 + n * n, self.d2 + d * d, self.e2 + (n - d) ** 2

    def entries(self):
        larger = np.maximum(self.n2, self.d2)
        # where nothing moved the two agree; nan stays nan
        return np.sqrt(np.divide(self.e2, larger, out=np.zeros_like(larger), where=larger != 0))


def _entry(preset):
    """A copy of an entry of `PRESETS`."""
    if not isinstance(preset, str) or preset not in PRESETS:
        raise ValueError(f"preset must be one of {sorted(PRESETS)}, got {preset!r}")
    return dict(PRESETS[preset])


def preset_model(
    preset, *, convention=None, dt=None, rule=None, random_state=None, dtype=np.float64
):
    """Model, x, y and settings (a dict) of a key of `PRESETS`.

    The angle between forward and backward weights is that of `rule`, by default the preset's.

    Raises
    ------
    ValueError
        Unknown preset.
    FileNotFoundError
        MNIST is needed and not there.
    """
    entry = _entry(preset)
    kind, sizes, batch = entry.pop("kind"), entry.pop("sizes"), entry.pop("batch")
    rule = entry["rule"] if rule is None else rule
    if convention is not None and convention not in CONVENTIONS:
        raise ValueError(f"convention must be one of {CONVENTIONS}, got {convention!r}")
    if convention == "as_coded" and kind != "energy":
        raise ValueError(
            f"convention: {preset!r} is not energy-based, its output term has one form"
        )
    if dt is not None and kind == "conv":
        raise ValueError(f"dt: {preset!r} replaces its states at every step")
    if dt is not None:
        check_positive(dt, "dt")
    check_dtype(dtype)
    rng = generator_of(random_state)
    if kind == "toy":
        model = ToyNetwork(sizes, 0.08 if dt is None else dt, rng, dtype=dtype)
        x, y = uniform_batch(batch, sizes[0], sizes[-1], rng, dtype)
    elif kind == "conv":
        model = ConvNetwork(sizes, 10, rng, dtype=dtype)
        x, y = mnist_batch(batch, rng, dtype)
        x = x.reshape(batch, 1, 28, 28)
    else:
        spec = layered_spec(kind, sizes, convention or "consistent", dt=dt)
        angle = rule.feedback_angle if rule.independent_feedback else None
        untrained = kind == "prototypical" and angle is not None  # 2005.04168's discrete C-VF class
        model = LayeredModel.random(
            spec, rng, angle=angle, dtype=dtype, learns_first_bias=not untrained
        )
        x, y = mnist_batch(batch, rng, dtype)
    return model, x, y, entry


def _chosen_rule(preset, rule, of_rule):
    """The rule given or the preset's, with `of_rule` in place of some of its parameters."""
    if rule is None:
        if preset is None:
            raise ValueError(
                "rule is needed without a preset, such as EP(beta=0.01, nudging='positive')"
            )
        rule = _entry(preset)["rule"]
    rule = clone(as_rule(rule))
    unknown = [name for name in of_rule if not name.startswith("rule__")]
    if unknown:
        raise TypeError(f"gradient_match has no parameter {unknown[0]!r}")
    rule.set_params(**{name.removeprefix("rule__"): value for name, value in of_rule.items()})
    rule.validate()
    if rule.word not in MATCHED:
        raise ValueError(f"rule must be one of {MATCHED}, got {rule!r}")
    if rule.nudging != "positive":
        raise ValueError(
            f"rule__nudging={rule.nudging!r}: one nudged phase is followed; 'positive'"
        )
    return rule


def _check_settings(settings, given_rate, model):
    """Refuse numbers out of range and rules that the model cannot follow; the rate of a rule
    without is 0.
    """
    rule, rate = settings["rule"], settings["rate"]
    if rule.independent_feedback and getattr(model, "back", None) is None:
        raise ValueError(
            f"rule: {rule.word!r} needs a model with backward weights (feedback_angle)"
        )
    if not rule.independent_feedback and getattr(model, "back", None) is not None:
        raise ValueError(
            f"rule: {rule.word!r} is for symmetric weights; this network has backward ones"
        )
    if hasattr(model, "spec"):
        rule.check(dynamics=dynamics_of(model.spec), relaxation=Relaxation(model.spec.schedule))
    if not check_number(rate, "rate") >= 0:
        raise ValueError(f"rate must be >= 0 and finite, got {rate!r}")
    if not rule.continual:
        if given_rate:
            raise ValueError(
                f"rate: {rule.word!r} leaves the parameters alone; only continual rules move them"
            )
        settings["rate"] = 0.0
    if check_count(settings["n_free_steps"], "n_free_steps") < rule.n_steps:
        raise ValueError(
            f"n_free_steps={settings['n_free_steps']} must be >= the rule's n_steps={rule.n_steps}"
        )


def _target(preset, beta):
    """What the theorems of 1905.13633 and, at a small rate, 2005.04168 should reach: errors of
    order beta.
    """
    if preset is None:
        return None
    if preset.endswith("toy"):
        return abs(beta)
    return 1e-2 if preset.startswith("1905.13633/") and preset.endswith("EB-1h") else None


def gradient_match(
    preset=None,
    *,
    model=None,
    x=None,
    y=None,
    rule=None,
    n_free_steps=None,
    rate=None,
    convention=None,
    dt=None,
    steady_tol=1e-12,
    target=None,
    n_draws=1,
    random_state=0,
    dtype=None,
    **of_rule,
):
    """Compare a rule's updates with the gradients of BPTT at every step of the nudged phase.

    Parameters
    ----------
    preset : str, optional
        A figure setting of the papers, a key of `PRESETS`; what is given beside it overrides it.
    model, x, y
        Instead of a preset: a `LayeredModel`, `ToyNetwork` or `ConvNetwork`, inputs (M, N[0]) and
        targets (M, N[L]).
    rule : LearningRule
        `EP`, `ContinualEP`, `VectorField` or `ContinualVectorField` with nudging "positive": its
        beta and `n_steps` (K) are those of the nudged phase, of which every step is compared, so
        that a tolerance plays no part; its `feedback_angle` is that of a preset's network.
    n_free_steps : int
        T. The free phase stops early once no unit moves faster than `steady_tol`.
    rate : float
        Learning rate of the continual rules.
    convention : {"consistent", "as_coded"}, optional
        Output term of the energy-based presets, see `presets.layered_spec`; "consistent" by
        default.
    dt : float, optional
        Overrides the Euler step, or damps the discrete map.
    steady_tol : float
        See `n_free_steps`.
    target : float, optional
        What the verdict should stay below; by default beta for the toy presets, 1e-2 for EB-1h,
        none else.
    n_draws : int
        Repeat a preset with so many draws of its network and data (seeds from `random_state` up):
        every number is then the mean over them, and the curves are the first one's.
    random_state : int or None
        Seed of parameters, data and the curves shown; None draws one, which the settings name.
    dtype : float32 or float64, optional
        Of a preset; float64 by default. `convention`, `dt` and `dtype` are a given model's own.
    **of_rule
        ``rule__beta=0.001`` and its like: one parameter of the rule, the preset's without `rule`.

    Returns
    -------
    GradientMatch

    Raises
    ------
    ValueError
        Names the parameter.

    Notes
    -----
    Theorem (1905.13633): if the transition is the gradient of a primitive function and the steady
    state has held for the last K + 1 steps, normalised update and minus gradient agree at every
    step as beta goes to 0.
    """
    if (preset is None) == (model is None):
        raise ValueError("give either preset or model (with x and y)")
    if preset is None:
        check_model(model)
    random_state = check_seed(random_state)
    of_preset = dict(convention=convention, dt=dt, dtype=dtype)
    if check_count(n_draws, "n_draws") > 1:
        if preset is None or x is not None or y is not None:
            raise ValueError(f"n_draws={n_draws}: a given model and data are not drawn")
        given = dict(rule=rule, n_free_steps=n_free_steps, rate=rate, **of_preset, **of_rule)
        given.update(steady_tol=steady_tol, target=target)
        seeds = range(random_state, random_state + n_draws)
        return _mean([gradient_match(preset, random_state=seed, **given) for seed in seeds])
    rule = _chosen_rule(preset, rule, of_rule)
    model, x, y, settings = _model_and_settings(preset, model, x, y, rule, random_state, of_preset)
    given = dict(n_free_steps=n_free_steps, rate=rate)
    settings.update({k: v for k, v in given.items() if v is not None}, rule=rule)
    if "n_free_steps" not in settings:
        raise ValueError("n_free_steps is needed without a preset")
    x, y = check_data(model, x, y)
    check_number(steady_tol, "steady_tol")
    _check_settings(settings, rate, model)
    tracks, free_steps, residual = _follow(model, x, y, settings, steady_tol, random_state)
    return _record(
        model,
        tracks,
        free_steps,
        residual,
        target=_target(preset, rule.beta) if target is None else target,
        settings=dict(
            settings,
            preset=preset,
            convention=convention,
            random_state=random_state,
            n_draws=1,
            dt=dt if preset else model.dt,
            steady_tol=steady_tol,
            dtype=np.dtype(model.dtype).name,
        ),
    )


def _model_and_settings(preset, model, x, y, rule, random_state, of_preset):
    """What the preset brings, or a given model, with data that was given beside it."""
    if preset is None:
        for name, value in of_preset.items():
            if value is not None:
                raise ValueError(f"{name}: a given model has its own")
        if getattr(rule, "feedback_angle", 0) != 0:
            raise ValueError(
                "rule__feedback_angle: the backward weights of a given model have their own"
            )
        return model, x, y, dict(rate=0.0)
    if of_preset["dtype"] is None:
        of_preset = dict(of_preset, dtype=np.float64)
    model, drawn_x, drawn_y, settings = preset_model(
        preset, rule=rule, random_state=random_state, **of_preset
    )
    if x is None and y is None:
        x, y = drawn_x, drawn_y
    return model, x, y, settings


class _Tracks:
    """RMSE sums, shown entries and last values of every layer or synapse, over the moments."""

    def __init__(self, names):
        self.rmse = {name: _Rmse() for name in names}
        self.curves = {name: [] for name in names}
        self.shown = {}
        self.last = {}

    def add(self, name, n, d, show):
        """The gradient `n` and the update `d` of one moment; `show` picks entries at the first."""
        self.rmse[name].add(n, d)
        if name not in self.shown:
            self.shown[name] = show(n)
        shown = self.shown[name]
        self.curves[name].append((n[shown], d[shown]))
        self.last[name] = n, d

    def entries(self):
        return {name: r.entries() for name, r in self.rmse.items()}

    def stacked(self):
        """(gradient, update) of the shown entries, each (K, N_CURVES)."""
        return {
            name: tuple(np.array(side) for side in zip(*pairs))
            for name, pairs in self.curves.items()
        }


def _follow(model, x, y, settings, steady_tol, random_state):
    """The two sides moment by moment: tracks of neurons and synapses, free steps, residual."""
    rule = settings["rule"]
    drive = model.drive(x)
    trajectory, steps, residual = free_trajectory(
        model, drive, len(x), settings["n_free_steps"], rule.n_steps, steady_tol
    )
    neurons, synapses = _Tracks(model.layers), _Tracks(model.synapses)
    picker = np.random.default_rng(random_state)

    def some_units(n):
        return picker.permutation(n.size)[:N_CURVES]

    def some_weights(n):  # entries that move at all: half of MNIST's pixels are dark
        rows = np.arange(n.shape[0])
        if x.ndim == 2 and len(rows) == x.shape[1]:
            rows = np.flatnonzero(np.abs(x).max(axis=0))
        others = [picker.integers(m, size=N_CURVES) for m in n.shape[1:]]
        return rows[picker.integers(len(rows), size=N_CURVES)], *others

    exact_moments = bptt_moments(model, drive, trajectory, y)
    rule_moments = nudged_moments(model, x, y, trajectory[-1], rule, settings["rate"])
    for t, ((n_s, n_w), (d_s, d_w)) in enumerate(zip(exact_moments, rule_moments)):
        for name, depth, n, d in zip(model.layers, model.depth, n_s, d_s):
            n, d = n.sum(axis=0).ravel(), d.sum(axis=0).ravel()
            if t < depth:  # the signal has not arrived (docs/equations.md 10.1)
                n, d = np.zeros_like(n), np.zeros_like(d)
            neurons.add(name, n, d, some_units)
        for name, n, d in zip(model.synapses, n_w, d_w):
            synapses.add(name, n, d, some_weights)
    return (neurons, synapses), steps, residual


def _record(model, tracks, free_steps, residual, target, settings):
    """The result of what was followed."""
    neurons, synapses = tracks
    rmse_s, rmse_w = neurons.entries(), synapses.entries()
    means_s, means_w = ({k: float(v.mean()) for k, v in r.items()} for r in (rmse_s, rmse_w))
    total_n, total_d = (
        np.concatenate([w.ravel() for w in side]) for side in zip(*synapses.last.values())
    )
    has_back = getattr(model, "back", None) is not None
    return GradientMatch(
        verdict=float(np.max([*means_s.values(), *means_w.values()])),
        target=target,
        settings=settings,
        neuron_rmse=means_s,
        synapse_rmse=means_w,
        neuron_rmse_std={k: float(v.std()) for k, v in rmse_s.items()},
        synapse_rmse_std={k: float(v.std()) for k, v in rmse_w.items()},
        synapse_rmse_live={
            k: float(v[v > 0].mean()) if (v > 0).any() else 0.0 for k, v in rmse_w.items()
        },
        sign_agreement={
            name: float(100 * (np.sign(n) == np.sign(d)).mean())
            for name, (n, d) in synapses.last.items()
        },
        angle=angle_between(total_n, total_d),
        neuron_curves=neurons.stacked(),
        synapse_curves=synapses.stacked(),
        weight_angles=measured_angles(model.weights, model.back) if has_back else [],
        n_free_steps=free_steps,
        residual=residual,
    )


def _mean(results):
    """The first result, with the means of the numbers of all."""
    first = results[0]
    numbers = (
        "neuron_rmse",
        "synapse_rmse",
        "neuron_rmse_std",
        "synapse_rmse_std",
        "synapse_rmse_live",
        "sign_agreement",
    )
    means = {
        name: {
            key: float(np.mean([getattr(r, name)[key] for r in results]))
            for key in getattr(first, name)
        }
        for name in numbers
    }
    return replace(
        first,
        **means,
        verdict=max(*means["neuron_rmse"].values(), *means["synapse_rmse"].values()),
        settings=dict(first.settings, n_draws=len(results)),
        angle=float(np.mean([r.angle for r in results])),
        weight_angles=[float(a) for a in np.mean([r.weight_angles for r in results], axis=0)],
        n_free_steps=max(r.n_free_steps for r in results),
        residual=max(r.residual for r in results),
    )


def angle_between(a, b):
    """Angle between two vectors, degrees; by the chord, which keeps small angles exact."""
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    return float(np.rad2deg(2 * np.arcsin(min(np.linalg.norm(a - b) / 2, 1.0))))
