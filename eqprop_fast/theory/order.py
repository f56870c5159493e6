"""Bias of the nudged estimates: order 1 in beta one-sided, 2 centered (1602.05179, 2006.03824)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..gradients import estimated_gradient, implicit
from ..gradients.record import check_count
from ..rules import EP
from .checks import by_dtype, check_layered, dtype_of, halvings, settle, subject
from .results import TheoryResult, draw_power, log_slope, new_figure

# Kinds of estimates, and the order in beta of their error.
ORDER = {"positive": 1, "negative": 1, "random sign": 1, "centered": 2}


@dataclass(frozen=True, eq=False)
class GradientOrder(TheoryResult):
    """Result of `gradient_order`; the verdict is the largest distance of a slope from its theory, 1
    or 2.

    Attributes
    ----------
    betas : ndarray (H + 1,)
    error : dict of str to ndarray (H + 1,)
        ``|estimate - gradient| / |gradient|`` over all parameters; keys of `ORDER`. The expectation of
        the random-sign estimate is the centered one.
    slope : dict of str to float
    cosine : dict of str to float
        With the exact gradient, at the smallest beta.
    """

    betas: np.ndarray
    error: dict
    slope: dict
    cosine: dict

    def plot(self):
        figure, (axis,) = new_figure(1, 1, 5, 3.8)
        for j, (kind, error) in enumerate(self.error.items()):
            draw_power(axis, self.betas, error, kind, f"C{j}")
        axis.set(
            xlabel="beta", ylabel="relative error of the gradient", title="Bias of the EP estimates"
        )
        axis.legend(fontsize=8)
        return figure


def _estimates(network, beta, sign, n_steps, tol):
    """Every kind of estimate at one beta; `sign` is the kind that chance has drawn."""

    def estimate(strength, nudging):
        rule = EP(beta=strength, nudging=nudging, n_steps=n_steps, tol=tol)
        return estimated_gradient(*network, rule=rule, n_free_steps=n_steps, tol=tol).flat()

    one = {
        "positive": estimate(beta, "positive"),
        "negative": estimate(-beta, "positive"),
        "centered": estimate(beta, "centered"),
    }
    return {**one, "random sign": one[sign]}


def gradient_order(
    *,
    model=None,
    x=None,
    y=None,
    sizes=(8, 16, 12, 5),
    n_samples=4,
    beta=None,
    n_halvings=None,
    random_state=0,
    dtype=np.float64,
    n_steps=20_000,
):
    """Error of the EP estimates against implicit differentiation as beta halves.

    Parameters
    ----------
    model, x, y : optional
        A smooth symmetric `LayeredModel` with an energy, and its data; a random one of `sizes`
        without.
    sizes, n_samples : tuple of int, int
        Of the random network and its data.
    beta, n_halvings : float and int, optional
        Largest nudging strength, and how often it is halved; 0.1 and 5, or 0.2 and 3 in float32.
    n_steps : int
        Most steps of each phase; they stop at 100 eps.
    random_state : int or None
        Seed; None draws one, which the settings name.
    dtype : float32 or float64

    Returns
    -------
    GradientOrder
        Verdict: largest |slope - order|, target 0.1 (0.2 in float32, whose rounding leaves only large betas).

    Raises
    ------
    ValueError
        Names the parameter.
    ArithmeticError
        The free phase did not settle.
    """
    dtype = dtype_of(model, dtype)
    beta, n_halvings = by_dtype(beta, dtype, 0.1, 0.2), by_dtype(n_halvings, dtype, 5, 3)
    betas = halvings(beta, n_halvings, "beta")
    if model is not None:
        check_layered(model)
    model, x, y, of_subject = subject(model, x, y, sizes, n_samples, random_state, dtype)
    if model.back is not None:
        raise ValueError("model: EP is for symmetric weights; this network has backward ones")
    settle(model, x, check_count(n_steps, "n_steps"))
    tol = 100 * np.finfo(model.dtype).eps
    network = model.spec, model.weights, model.biases, x, y
    exact = implicit(*network, n_free_steps=n_steps, tol=tol).flat()
    rng = np.random.default_rng(of_subject["random_state"])
    signs = rng.choice(["positive", "negative"], size=len(betas))
    estimates = [_estimates(network, b, sign, n_steps, tol) for b, sign in zip(betas, signs)]
    estimates = {kind: np.array([one[kind] for one in estimates]) for kind in ORDER}
    norm = np.linalg.norm(exact)
    error = {k: np.linalg.norm(v - exact, axis=1) / norm for k, v in estimates.items()}
    slope = {k: log_slope(betas, v) for k, v in error.items()}
    return GradientOrder(
        verdict=max(abs(slope[k] - ORDER[k]) for k in ORDER),
        target=by_dtype(None, dtype, 0.1, 0.2),
        settings=dict(of_subject, beta=beta, n_halvings=n_halvings, n_steps=n_steps),
        betas=betas,
        error=error,
        slope=slope,
        cosine={
            k: float(v[-1] @ exact / (np.linalg.norm(v[-1]) * norm)) for k, v in estimates.items()
        },
    )
