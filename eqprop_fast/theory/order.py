"""Bias of the nudged estimates: order 1 in beta one-sided, 2 centered (1602.05179, 2006.03824)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..gradients import estimated_gradient, implicit
from ..gradients.record import check_count
from ..rules import EP
from .checks import by_dtype, check_layered, check_seed, drawn, halvings, model_and_data, settle
from .results import TheoryResult, draw_power, log_slope, new_figure

KINDS = ("positive", "negative", "random sign", "centered")


@dataclass(frozen=True, eq=False)
class GradientOrder(TheoryResult):
    """Result of `gradient_order`; the verdict is the largest distance of a slope from its theory, 1
    or 2.

    Attributes
    ----------
    betas : ndarray (H + 1,)
    error : dict of str to ndarray (H + 1,)
        ``|estimate - gradient| / |gradient|`` over all parameters; keys `KINDS`. The expectation of the
        random-sign estimate is the centered one.
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
    beta, n_halvings : float and int, optional
        Largest nudging strength, and how often it is halved; 0.1 and 5, or 0.2 and 3 in float32.
    n_steps : int
        Most steps of each phase; they stop at 100 eps.

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
    dtype = model.dtype if model is not None else dtype
    beta, n_halvings = by_dtype(beta, dtype, 0.1, 0.2), by_dtype(n_halvings, dtype, 5, 3)
    betas = halvings(beta, n_halvings, "beta")
    random_state = check_seed(random_state)
    own = drawn(model, x, sizes, n_samples)
    if model is not None:
        check_layered(model)
    model, x, y = model_and_data(model, x, y, sizes, n_samples, random_state, dtype)
    if model.back is not None:
        raise ValueError("model: EP is for symmetric weights; this network has backward ones")
    settle(model, x, check_count(n_steps, "n_steps"))
    tol = 100 * np.finfo(model.dtype).eps
    network = model.spec, model.weights, model.biases, x, y
    exact = implicit(*network, n_free_steps=n_steps, tol=tol).flat()
    signs = np.random.default_rng(random_state).choice(["positive", "negative"], size=len(betas))
    estimates = {kind: [] for kind in KINDS}
    for b, sign in zip(betas, signs):
        one = {
            kind: estimated_gradient(
                *network,
                rule=EP(beta=strength, nudging=nudging, n_steps=n_steps, tol=tol),
                n_free_steps=n_steps,
                tol=tol,
            ).flat()
            for kind, strength, nudging in (
                ("positive", b, "positive"),
                ("negative", -b, "positive"),
                ("centered", b, "centered"),
            )
        }
        one["random sign"] = one[sign]
        for kind, values in estimates.items():
            values.append(one[kind])
    norm = np.linalg.norm(exact)
    error = {
        k: np.array([np.linalg.norm(e - exact) / norm for e in v]) for k, v in estimates.items()
    }
    slope = {k: log_slope(betas, v) for k, v in error.items()}
    order = {"positive": 1, "negative": 1, "random sign": 1, "centered": 2}
    return GradientOrder(
        verdict=max(abs(slope[k] - order[k]) for k in order),
        target=by_dtype(None, dtype, 0.1, 0.2),
        settings=dict(
            **own,
            beta=beta,
            n_halvings=n_halvings,
            n_steps=n_steps,
            random_state=random_state,
            dtype=np.dtype(model.dtype).name,
        ),
        betas=betas,
        error=error,
        slope=slope,
        cosine={
            k: float(v[-1] @ exact / (np.linalg.norm(v[-1]) * norm)) for k, v in estimates.items()
        },
    )
