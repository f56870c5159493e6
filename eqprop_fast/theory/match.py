"""Updates of a learning rule against the gradients of BPTT, step by step (1905.13633, 2005.04168)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..gradients.record import check_count
from ..networks.asymmetry import check_angle, measured_angles
from .checks import check_data, check_dtype, check_number, check_positive, check_seed
from .conv import ConvNetwork
from .models import LayeredModel
from .phases import CONTINUAL, RULES, VECTOR_FIELD, bptt_moments, free_trajectory, nudged_moments
from .presets import CONVENTIONS, PRESETS, layered_spec, mnist_batch, uniform_batch
from .results import TheoryResult, new_figure
from .toy import ToyNetwork

N_CURVES = 5


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
        The mean over the entries that move at all; weights of dark pixels count as 0 in `synapse_rmse`.
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
        """Curves of a few entries (updates dashed on gradients) and the RMSE bars; returns the figure."""
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
            drawn, [f"{v:.1e}" for v in values], fontsize=7, rotation=90 if crowded else 0, padding=2
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
        what = f"{s.get('preset') or 'gradient match'}, {s['rule']}, beta {s['beta']:g}"
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


def preset_model(
    preset, *, convention=None, dt=None, angle=None, random_state=None, dtype=np.float64
):
    """Model, x, y and settings (a dict) of a key of `PRESETS`.

    Raises
    ------
    ValueError
        Unknown preset.
    FileNotFoundError
        MNIST is needed and not there.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset must be one of {sorted(PRESETS)}, got {preset!r}")
    entry = dict(PRESETS[preset])
    kind, sizes, batch = entry.pop("kind"), entry.pop("sizes"), entry.pop("batch")
    angle = entry.pop("angle", None) if angle is None else check_angle(angle)
    if convention is not None and convention not in CONVENTIONS:
        raise ValueError(f"convention must be one of {CONVENTIONS}, got {convention!r}")
    if convention == "as_coded" and kind != "energy":
        raise ValueError(f"convention: {preset!r} is not energy-based, its output term has one form")
    if angle is not None and kind in ("toy", "conv"):
        raise ValueError(f"angle: {preset!r} has no backward weights of its own")
    if dt is not None and kind == "conv":
        raise ValueError(f"dt: {preset!r} replaces its states at every step")
    if dt is not None:
        check_positive(dt, "dt")
    check_dtype(dtype)
    rng = np.random.default_rng(random_state)
    if kind == "toy":
        model = ToyNetwork(sizes, 0.08 if dt is None else dt, rng, dtype=dtype)
        x, y = uniform_batch(batch, sizes[0], sizes[-1], rng, dtype)
    elif kind == "conv":
        model = ConvNetwork(sizes, 10, rng, dtype=dtype)
        x, y = mnist_batch(batch, rng, dtype)
        x = x.reshape(batch, 1, 28, 28)
    else:
        spec = layered_spec(kind, sizes, convention or "consistent", dt=dt)
        untrained = kind == "prototypical" and angle is not None  # 2005.04168's discrete C-VF class
        model = LayeredModel.random(spec, rng, angle=angle, dtype=dtype, learns_first_bias=not untrained)
        x, y = mnist_batch(batch, rng, dtype)
    if angle is not None:
        entry["angle"] = angle
    return model, x, y, entry


def _check_settings(settings, given_rate, model):
    """Refuse numbers out of range and rules that the model cannot follow; the rate of a rule without is 0."""
    rule, rate = settings["rule"], settings["rate"]
    if check_number(settings["beta"], "beta") == 0:
        raise ValueError(f"beta must be finite and not 0, got {settings['beta']!r}")
    if rule not in RULES:
        raise ValueError(f"rule must be one of {RULES}, got {rule!r}")
    if rule in VECTOR_FIELD and getattr(model, "back", None) is None:
        raise ValueError(f"rule: {rule!r} needs a model with backward weights (angle=...)")
    spec = getattr(model, "spec", None)
    if rule in VECTOR_FIELD and spec.dynamics == "continuous" and (spec.prime_hidden or spec.prime_output):
        raise ValueError(f"rule: {rule!r} is the leaky field without rho' (1808.04873), which this model has")
    if rule not in VECTOR_FIELD and getattr(model, "back", None) is not None:
        raise ValueError(f"rule: {rule!r} is for symmetric weights; this network has backward ones (angle)")
    if not check_number(rate, "rate") >= 0:
        raise ValueError(f"rate must be >= 0 and finite, got {rate!r}")
    if rule not in CONTINUAL:
        if given_rate:
            raise ValueError(f"rate: {rule!r} leaves the parameters alone; only {CONTINUAL} move them")
        settings["rate"] = 0.0
    k = check_count(settings["n_nudged_steps"], "n_nudged_steps")
    if check_count(settings["n_free_steps"], "n_free_steps") < k:
        raise ValueError(f"n_free_steps={settings['n_free_steps']} must be >= n_nudged_steps={k}")


def _target(preset, beta):
    """What the theorems of 1905.13633 and, at a small rate, 2005.04168 should reach: errors of order beta."""
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
    beta=None,
    n_free_steps=None,
    n_nudged_steps=None,
    rule=None,
    rate=None,
    convention=None,
    dt=None,
    angle=None,
    steady_tol=1e-12,
    target=None,
    n_draws=1,
    random_state=0,
    dtype=None,
):
    """Compare a rule's updates with the gradients of BPTT at every step of the nudged phase.

    Parameters
    ----------
    preset : str, optional
        A figure setting of the papers, a key of `PRESETS`; what is given beside it overrides it.
    model, x, y
        Instead of a preset: a `LayeredModel`, `ToyNetwork` or `ConvNetwork`, inputs (M, N[0]) and
        targets (M, N[L]).
    beta : float
        Nudging strength, not 0.
    n_free_steps, n_nudged_steps : int
        T and K. The free phase stops early once no unit moves faster than `steady_tol`.
    rule : {"ep", "continual", "vector_field", "continual_vector_field"}
        "ep" by default.
    rate : float
        Learning rate of the continual rules.
    convention : {"consistent", "as_coded"}, optional
        Output term of the energy-based presets, see `presets.layered_spec`; "consistent" by default.
    dt : float, optional
        Overrides the Euler step, or damps the discrete map.
    angle : float, optional
        Degrees between forward and backward weights of the preset's network.
    n_draws : int
        Repeat a preset with so many draws of its network and data (seeds from `random_state` up): every
        number is then the mean over them, and the curves are the first one's.
    target : float, optional
        What the verdict should stay below; by default beta for the toy presets, 1e-2 for EB-1h, none else.
    random_state : int or None
        Seed of parameters, data and the curves shown; None draws one, which the settings name.
    dtype : float32 or float64, optional
        Of a preset; float64 by default. `convention`, `dt`, `angle` and `dtype` are a given model's own.

    Returns
    -------
    GradientMatch

    Raises
    ------
    ValueError
        Names the parameter.

    Notes
    -----
    Theorem (1905.13633): if the transition is the gradient of a primitive function and the steady state has
    held for the last K + 1 steps, normalised update and minus gradient agree at every step as beta goes to
    0.
    """
    if (preset is None) == (model is None):
        raise ValueError("give either preset or model (with x and y)")
    given = dict(
        beta=beta, n_free_steps=n_free_steps, n_nudged_steps=n_nudged_steps, rule=rule, rate=rate
    )
    random_state = check_seed(random_state)
    of_preset = dict(convention=convention, dt=dt, angle=angle, dtype=dtype)
    if check_count(n_draws, "n_draws") > 1:
        if preset is None or x is not None or y is not None:
            raise ValueError(f"n_draws={n_draws}: a given model and data are not drawn")
        return _mean([
            gradient_match(
                preset, **given, **of_preset, steady_tol=steady_tol, target=target,
                random_state=random_state + i,
            )
            for i in range(n_draws)
        ])
    settings = dict(rule="ep", rate=0.0)
    if preset is None:
        for name, value in of_preset.items():
            if value is not None:
                raise ValueError(f"{name}: a given model has its own")
    else:
        of_preset["dtype"] = np.float64 if dtype is None else dtype
        model, data_x, data_y, entry = preset_model(preset, random_state=random_state, **of_preset)
        x, y = (data_x, data_y) if x is None and y is None else (x, y)
        settings.update(entry)
    settings.update({k: v for k, v in given.items() if v is not None})
    for name in ("beta", "n_free_steps", "n_nudged_steps"):
        if name not in settings:
            raise ValueError(f"{name} is needed without a preset")
    x, y = check_data(model, x, y)
    check_number(steady_tol, "steady_tol")
    _check_settings(settings, given["rate"], model)
    beta, rule, k = settings["beta"], settings["rule"], settings["n_nudged_steps"]
    drive = model.drive(x)
    trajectory, steps, residual = free_trajectory(
        model, drive, len(x), settings["n_free_steps"], k, steady_tol
    )
    free = trajectory[-1]
    neurons = {name: _Rmse() for name in model.layers}
    synapses = {name: _Rmse() for name in model.synapses}
    picker = np.random.default_rng(random_state)
    curves_s, curves_w, picked = {n: [] for n in neurons}, {n: [] for n in synapses}, {}
    exact_moments = bptt_moments(model, drive, trajectory, y)
    rule_moments = nudged_moments(model, x, y, free, beta, k, rule, settings["rate"])
    for t, ((n_s, n_w), (d_s, d_w)) in enumerate(zip(exact_moments, rule_moments)):
        for name, depth, n, d in zip(model.layers, model.depth, n_s, d_s):
            n, d = n.sum(axis=0).ravel(), d.sum(axis=0).ravel()
            if t < depth:  # the signal has not arrived (docs/equations.md 10.1)
                n, d = np.zeros_like(n), np.zeros_like(d)
            neurons[name].add(n, d)
            pick = picked.setdefault(name, picker.permutation(n.size)[:N_CURVES])
            curves_s[name].append((n[pick], d[pick]))
        for name, n, d in zip(model.synapses, n_w, d_w):
            synapses[name].add(n, d)
            if name not in picked:  # entries that move at all: half of MNIST's pixels are dark
                rows = np.arange(n.shape[0])
                if x.ndim == 2 and len(rows) == x.shape[1]:
                    rows = np.flatnonzero(np.abs(x).max(axis=0))
                others = [picker.integers(m, size=N_CURVES) for m in n.shape[1:]]
                picked[name] = rows[picker.integers(len(rows), size=N_CURVES)], *others
            curves_w[name].append((n[picked[name]], d[picked[name]]))

    rmse_s = {name: r.entries() for name, r in neurons.items()}
    rmse_w = {name: r.entries() for name, r in synapses.items()}
    total_n, total_d = (np.concatenate([w.ravel() for w in total]) for total in (n_w, d_w))
    means_s, means_w = ({k: float(v.mean()) for k, v in r.items()} for r in (rmse_s, rmse_w))
    stacked = [
        {name: tuple(np.array(side) for side in zip(*pairs)) for name, pairs in curves.items()}
        for curves in (curves_s, curves_w)
    ]
    return GradientMatch(
        verdict=float(np.max([*means_s.values(), *means_w.values()])),
        target=_target(preset, beta) if target is None else target,
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
        neuron_rmse=means_s,
        synapse_rmse=means_w,
        neuron_rmse_std={k: float(v.std()) for k, v in rmse_s.items()},
        synapse_rmse_std={k: float(v.std()) for k, v in rmse_w.items()},
        synapse_rmse_live={k: float(v[v > 0].mean()) if (v > 0).any() else 0.0 for k, v in rmse_w.items()},
        sign_agreement={
            name: float(100 * (np.sign(n) == np.sign(d)).mean())
            for name, n, d in zip(model.synapses, n_w, d_w)
        },
        angle=angle_between(total_n, total_d),
        neuron_curves=stacked[0],
        synapse_curves=stacked[1],
        weight_angles=measured_angles(model.weights, model.back)
        if getattr(model, "back", None) is not None
        else [],
        n_free_steps=steps,
        residual=residual,
    )


def _mean(results):
    """The first result, with the means of the numbers of all."""
    first = results[0]
    numbers = ("neuron_rmse", "synapse_rmse", "neuron_rmse_std", "synapse_rmse_std", "synapse_rmse_live",
               "sign_agreement")
    means = {
        name: {key: float(np.mean([getattr(r, name)[key] for r in results])) for key in getattr(first, name)}
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
