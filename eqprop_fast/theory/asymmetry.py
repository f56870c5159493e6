"""Error of the vector-field estimate against the asymmetry of the weights (1808.04873).

The bound: docs/equations.md 6.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..gradients import estimated_gradient
from ..gradients.record import check_count
from ..kernels.reference import gradients as kernel
from ..kernels.reference.layered import acting
from ..networks.asymmetry import backward_weights, check_angle
from ..rules import VectorField
from .checks import by_dtype, halvings, settle
from .match import angle_between
from .models import LayeredModel, random_parameters
from .presets import layered_spec, uniform_batch
from .results import TheoryResult, log_slope, new_figure
from .values import check_dtype, check_positive, check_seed, check_sizes


@dataclass(frozen=True, eq=False)
class AsymmetryBound(TheoryResult):
    """Result of `asymmetry_bound`; the verdict must not exceed 1.

    It is the largest of three numbers, each over what it may be: error / bound of any net, the
    distance of `slope` from 1 over 0.1, and `limit_gap` over 1e-3 (1e-2 in float32).

    Attributes
    ----------
    angles : ndarray (A,)
        Angles asked for, degrees.
    measured_angles, error_angle : ndarray (A, R)
        Angle of the weights reached, and angle between estimate and gradient, of each net.
    error, bound, tight_bound : ndarray (A, R)
        ``|grad - nu|``, ``|dC/ds| |J^-1|^2 |J - J^T| |dmu/dtheta|`` and ``|dC/ds| |J^-1 - J^-T|
        |dmu/dtheta|``.
    asymmetry : ndarray (A, R)
        ``|J - J^T|``, spectral norm.
    small_asymmetry, small_error : ndarray (H, R)
        The same two numbers for backward weights ``W^T + eps noise`` as eps halves, in nets of
        linear units (of gain at most 0.5), the only ones of the leaky field whose J is symmetric at
        eps = 0.
    slope : float
        Of log error against log asymmetry there, median over the nets.
    limit_gap : float
        Largest relative distance between the estimate that the rule gives at +-beta and its limit
        -(dC/ds) J^-T dmu/dtheta.
    """

    angles: np.ndarray
    measured_angles: np.ndarray
    error_angle: np.ndarray
    error: np.ndarray
    bound: np.ndarray
    tight_bound: np.ndarray
    asymmetry: np.ndarray
    small_asymmetry: np.ndarray
    small_error: np.ndarray
    slope: float
    limit_gap: float

    def plot(self):
        figure, (left, middle, right) = new_figure(1, 3)
        shade = np.repeat(self.angles, self.error.shape[1])
        some = self.error.ravel() > 1e-12  # angle 0 has no error and no bound
        points = left.scatter(
            self.bound.ravel()[some], self.error.ravel()[some], c=shade[some], s=8, cmap="viridis"
        )
        left.scatter(
            self.tight_bound.ravel()[some],
            self.error.ravel()[some],
            marker="x",
            color="C1",
            s=6,
            alpha=0.5,
            label="middle term of the bound",
        )
        ends = np.array([self.error.ravel()[some].min(), self.bound.max()])
        left.plot(ends, ends, "k:", label="error = bound")
        left.set(
            xscale="log", yscale="log", xlabel="bound", ylabel="|grad - nu|", title="the bound"
        )
        figure.colorbar(points, ax=left, label="angle asked, degrees")
        middle.loglog(
            self.small_asymmetry, self.small_error, ".-", lw=0.5, ms=3, color="C0", alpha=0.3
        )
        middle.set(
            xlabel="|J - J^T|",
            ylabel="|grad - nu|",
            title=f"small asymmetry: slope {self.slope:.3f}",
        )
        right.scatter(self.measured_angles.ravel(), self.error_angle.ravel(), s=6, alpha=0.5)
        right.set(
            xlabel="angle of W_f and W_b^T, degrees",
            ylabel="angle of estimate and gradient, degrees",
            title="direction",
        )
        left.legend(fontsize=7)
        return figure


def _terms(model, x, y):
    """Exact gradient, limit of the estimate, |J - J^T| and the two bounds, for one sample."""
    spec = model.spec
    drive, states, _ = settle(model, x)
    jacobian = (model.step_jacobian(drive, states) - np.eye(sum(spec.sizes[1:]))) / spec.dt
    cost = np.concatenate(model.cost_gradient(states[-1], y), axis=1)[0]
    edges = np.cumsum(spec.sizes[1:])[:-1]

    def contract(z):  # with dmu/dtheta; the step carries a factor dt
        bar = np.split(z[None] / spec.dt, edges, axis=1)
        arrays = model.weights, model.back, model.biases, drive[0], drive[1]
        _, parts = kernel.step_vjp(spec, *arrays, states, bar)
        return np.concatenate([a.ravel() for group in parts for a in group])

    inverse = np.linalg.inv(jacobian)
    exact = contract(-inverse.T @ cost)
    limit = contract(-inverse @ cost)  # the nudged state moves by beta J^-1 dC/ds
    # dmu_i/dtheta: the activity a unit sees and 1 for its bias; rows of different units are
    # orthogonal
    shown = (
        [drive[1]]
        + [acting(spec, k, states[k - 1]) for k in range(1, spec.n_weights + 1)]
        + [np.zeros((1, 1))]
    )
    seen = max(
        np.sqrt((shown[k - 1] ** 2).sum() + (shown[k + 1] ** 2).sum() + 1)
        for k in range(1, spec.n_weights + 1)
    )
    asymmetry = np.linalg.norm(jacobian - jacobian.T, 2)
    scale = np.linalg.norm(cost) * seen
    tight = scale * np.linalg.norm(inverse - inverse.T, 2)
    return exact, limit, asymmetry, scale * np.linalg.norm(inverse, 2) ** 2 * asymmetry, tight


def _compared(model, exact, limit, asymmetry, bound, tight):
    """Error, asymmetry, the two bounds, angle of the estimate to the gradient, angle of the
    weights.
    """
    return (
        np.linalg.norm(exact - limit),
        asymmetry,
        bound,
        tight,
        angle_between(exact, limit),
        angle_between(
            np.concatenate([w.T.ravel() for w in model.weights[1:]]),
            np.concatenate([b.ravel() for b in model.back[1:]]),
        ),
    )


def _limit_gap(model, x, y, beta, limit):
    """Relative distance of what the rule itself gives, at a small beta, from its limit."""
    tol = 50 * np.finfo(model.dtype).eps
    given = estimated_gradient(
        model.spec,
        model.weights,
        model.biases,
        x,
        y,
        back=model.back,
        rule=VectorField(beta=beta, nudging="centered", n_steps=20_000, tol=tol),
        n_free_steps=20_000,
        tol=tol,
    ).flat()
    return np.linalg.norm(given - limit) / np.linalg.norm(limit)


def _near_symmetry(linear, weights, biases, x, y, epsilons, rng):
    """(asymmetry, error) of backward weights that are the transposed ones and some noise, for each
    epsilon.

    J = W diag(rho') - 1 of a symmetric net is symmetric only where rho' is constant: hence linear
    units.
    """
    noise = [(rng.normal(size=w.T.shape) / np.sqrt(w.size)).astype(w.dtype) for w in weights]
    rows = []
    for value in epsilons:
        back = [np.zeros_like(weights[0].T)]
        back += [w.T + w.dtype.type(value) * z for w, z in zip(weights[1:], noise[1:])]
        exact, limit, asymmetry, *_ = _terms(LayeredModel(linear, weights, biases, back), x, y)
        rows.append((asymmetry, np.linalg.norm(exact - limit)))
    return rows


def _listed(angles):
    """One angle or several, as a list."""
    return list(angles) if isinstance(angles, (list, tuple, np.ndarray)) else [angles]


def asymmetry_bound(
    *,
    sizes=(6, 8, 5, 3),
    angles=(0, 22.5, 45, 67.5, 90, 112.5, 135, 157.5, 180),
    n_networks=100,
    gain=1.0,
    eps=0.1,
    n_halvings=5,
    beta=None,
    dt=0.5,
    random_state=0,
    dtype=np.float64,
):
    """Check the bound on the error of the vector-field estimate, on random asymmetric networks.

    Parameters
    ----------
    sizes : tuple of int
        Units of each layer, input first.
    angles : float or tuple of float
        Angles between forward and backward weights, degrees in [0, 180].
    n_networks : int
        Nets per angle.
    gain : float
        Weights are U(+-gain/sqrt(fan_in)).
    eps : float
        Largest noise on the transposed weights for the slope; halved `n_halvings` times.
    beta : float, optional
        Nudging at which the learning rule itself (centered) is compared with its limit; 1e-3, or
        1e-2 in float32.
    dt : float
        Euler step.
    random_state : int or None
        Seed; None draws one, which the settings name.
    dtype : float32 or float64

    Returns
    -------
    AsymmetryBound
        Verdict: see its class; target 1.

    Raises
    ------
    ValueError
        Names the parameter.
    """
    angles = np.array([check_angle(a, "angles") for a in _listed(angles)])
    if not len(angles):
        raise ValueError("angles must hold at least one angle")
    sizes = check_sizes(sizes)
    if len(sizes) < 3:
        raise ValueError(f"sizes must hold a hidden layer, or there is no feedback, got {sizes}")
    check_count(n_networks, "n_networks")
    random_state = check_seed(random_state)
    dtype = check_dtype(dtype)
    beta, gap = by_dtype(beta, dtype, 1e-3, 1e-2), by_dtype(None, dtype, 1e-3, 1e-2)
    for name, value in (("gain", gain), ("dt", dt), ("beta", beta)):
        check_positive(value, name)
    epsilons = halvings(eps, n_halvings, "eps")
    spec = layered_spec("leaky", sizes, dt=dt)
    linear = layered_spec("leaky", sizes, activation="identity", dt=dt)
    turned, near, limit_gap = [], [], 0.0
    for r in range(n_networks):
        rng = np.random.default_rng([random_state, r])
        weights, biases = random_parameters(sizes, rng, dtype, gain=gain)
        x, y = uniform_batch(1, sizes[0], sizes[-1], rng, dtype)
        models = [
            LayeredModel(spec, weights, biases, backward_weights(weights, a, rng)) for a in angles
        ]
        terms = [_terms(model, x, y) for model in models]
        turned.append([_compared(model, *t) for model, t in zip(models, terms)])
        if r == 0:
            limit_gap = max(_limit_gap(model, x, y, beta, t[1]) for model, t in zip(models, terms))
        weights = [(min(gain, 0.5) / gain * w).astype(dtype) for w in weights]
        near.append(_near_symmetry(linear, weights, biases, x, y, epsilons, rng))
    error, asymmetry, bound, tight, error_angle, reached = np.array(turned).transpose(2, 1, 0)
    small_asymmetry, small_error = np.array(near).transpose(2, 1, 0)
    slope = float(np.median([log_slope(a, e) for a, e in zip(small_asymmetry.T, small_error.T)]))
    some = bound > 1e-12
    return AsymmetryBound(
        verdict=float(
            np.max([*(error[some] / bound[some]), abs(slope - 1) / 0.1, limit_gap / gap])
        ),
        target=1.0,
        settings=dict(
            sizes=tuple(sizes),
            angles=tuple(float(a) for a in angles),
            n_networks=n_networks,
            gain=gain,
            eps=eps,
            n_halvings=n_halvings,
            beta=beta,
            dt=dt,
            random_state=random_state,
            dtype=dtype.name,
        ),
        angles=angles,
        measured_angles=reached,
        error_angle=error_angle,
        error=error,
        bound=bound,
        tight_bound=tight,
        asymmetry=asymmetry,
        small_asymmetry=small_asymmetry,
        small_error=small_error,
        slope=slope,
        limit_gap=float(limit_gap),
    )
