"""What spoils the match of convolutional networks: clipped units, or a nudge outside rho (1905.13633,
2006.03824).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..gradients.record import check_count
from ..rules import EP
from .checks import check_data, halvings
from .conv import ConvNetwork
from .phases import bptt_moments, free_trajectory, nudged_moments
from .presets import mnist_batch
from .results import TheoryResult, draw_power, log_slope, new_figure
from .values import check_seed

# (activation, nudge inside rho?, centered?): the paper's net, the net without clipped units, ...
VARIANTS = {
    "hard sigmoid, outside": ("hard_sigmoid", False, False),
    "smooth, outside": ("shifted_sigmoid", False, False),
    "hard sigmoid, inside": ("hard_sigmoid", True, False),
    "smooth, inside": ("shifted_sigmoid", True, False),
    "smooth, inside, centered": ("shifted_sigmoid", True, True),
}
ORDER = {"smooth, inside": 1, "smooth, inside, centered": 2}


@dataclass(frozen=True, eq=False)
class NudgePlace(TheoryResult):
    """Result of `nudge_place`; the verdict is the largest distance of a slope of the smooth net
    nudged inside rho from its theory, 1 or 2.

    Attributes
    ----------
    betas : ndarray (H + 1,)
    error : dict of str to ndarray (H + 1, synapses)
        ``|update - gradient| / |gradient|`` of each layer of weights, input first, for each of
        `VARIANTS`.
    rmse : dict of str to ndarray (H + 1, synapses)
        The measure of `gradient_match`, of the cumulated curves: mean over the entries.
    slope : dict of str to float
        Of the largest error over the layers.
    at_the_edge : dict of str to list of float
        Share of the units of each layer at 0 or 1, free, where units are clipped.
    """

    betas: np.ndarray
    error: dict
    rmse: dict
    slope: dict
    at_the_edge: dict

    def plot(self):
        figure, (axis,) = new_figure(1, 1, 5, 3.6)
        for j, (name, error) in enumerate(self.error.items()):
            draw_power(axis, self.betas, error.max(axis=1), name, f"C{j}")
        axis.set(xlabel="beta", ylabel="error of the worst layer", title="EP against BPTT, P-conv")
        axis.set_xticks(self.betas, [f"{b:g}" for b in self.betas])
        axis.set_ylim(min(e.max(axis=1).min() for e in self.error.values()) / 100)
        axis.legend(fontsize=7, loc="lower right")
        return figure


def nudge_place(
    *,
    channels=(1, 32, 64),
    image_size=28,
    kernel_size=5,
    x=None,
    y=None,
    n_samples=4,
    beta=0.04,
    n_halvings=4,
    n_steps=60,
    n_free_steps=5000,
    random_state=0,
):
    """What a nudged phase learns in a convolutional network, against BPTT, as beta halves: clipped or
    smooth units, nudged outside or inside rho.

    Parameters
    ----------
    channels, image_size, kernel_size
        As of `ConvNetwork`.
    x, y : ndarray (M, channels, side, side) and (M, 10), optional
        MNIST images without.
    n_samples : int
        Of MNIST.
    beta, n_halvings : float and int
        Largest nudging strength, and how often it is halved.
    n_steps, n_free_steps : int
        K, and T at most: the free phase stops once no unit moves faster than 1e-12.
    random_state : int or None
        Seed; None draws one, which the settings name.

    Returns
    -------
    NudgePlace
        Verdict: largest ``|slope - order|`` of the smooth net nudged inside, target 0.1.

    Raises
    ------
    ValueError
        Names the parameter.
    FileNotFoundError
        MNIST is needed and not there.
    """
    betas = halvings(beta, n_halvings, "beta")
    n_steps = check_count(n_steps, "n_steps")
    if check_count(n_free_steps, "n_free_steps") < n_steps:
        raise ValueError(f"n_free_steps={n_free_steps} must be >= n_steps={n_steps}")
    seed = check_seed(random_state)
    networks = {
        name: ConvNetwork(
            channels,
            random_state=seed,
            image_size=image_size,
            kernel_size=kernel_size,
            activation=activation,
            nudge_inside=inside,
        )
        for name, (activation, inside, _) in VARIANTS.items()
    }
    if x is None and y is None:
        x, y = mnist_batch(check_count(n_samples, "n_samples"), seed)
        x = x.reshape(len(x), 1, 28, 28)
    error, rmse, edges = {}, {}, {}
    for name, (activation, _, centered) in VARIANTS.items():
        model = networks[name]
        x, y = check_data(model, x, y)
        drive = model.drive(x)
        trajectory, _, _ = free_trajectory(model, drive, len(x), n_free_steps, n_steps, 1e-12)
        exact = [synapses for _, synapses in bptt_moments(model, drive, trajectory, y)]
        free = trajectory[-1]
        learnt = [_learnt(model, x, y, free, b, n_steps, centered) for b in betas]
        error[name] = np.array([_distances(exact[-1], moments[-1]) for moments in learnt])
        rmse[name] = np.array([_curves_apart(exact, moments) for moments in learnt])
        if activation == "hard_sigmoid":
            edges[name] = [float(np.mean((s <= 0) | (s >= 1))) for s in free]
    slope = {name: log_slope(betas, e.max(axis=1)) for name, e in error.items()}
    return NudgePlace(
        verdict=max(abs(slope[name] - order) for name, order in ORDER.items()),
        target=0.1,
        settings=dict(
            channels=channels,
            image_size=image_size,
            kernel_size=kernel_size,
            beta=beta,
            n_halvings=n_halvings,
            n_steps=n_steps,
            n_free_steps=n_free_steps,
            random_state=seed,
        ),
        betas=betas,
        error=error,
        rmse=rmse,
        slope=slope,
        at_the_edge=edges,
    )


def _learnt(model, x, y, free, beta, n_steps, centered):
    """Moment by moment, what the synapses have learnt so far; centered: the mean of both signs."""
    phases = []
    for strength in (beta, -beta)[: 1 + centered]:
        rule = EP(beta=float(strength), nudging="positive", n_steps=n_steps, tol=None)
        start = [s.copy() for s in free]
        phases.append([synapses for _, synapses in nudged_moments(model, x, y, start, rule)])
    return [[sum(parts) / len(parts) for parts in zip(*moments)] for moments in zip(*phases)]


def _distances(exact, learnt):
    return [np.linalg.norm(d - n) / np.linalg.norm(n) for n, d in zip(exact, learnt)]


def _curves_apart(exact, learnt):
    """Mean over the entries of each layer of ``sqrt(sum_t (n - d)^2 / max(sum_t n^2, sum_t d^2))``."""
    means = []
    for n, d in zip(zip(*exact), zip(*learnt)):
        larger = np.maximum(sum(a * a for a in n), sum(b * b for b in d))
        apart = sum((a - b) ** 2 for a, b in zip(n, d))
        share = np.divide(apart, larger, out=np.zeros_like(larger), where=larger != 0)
        means.append(float(np.sqrt(share).mean()))
    return means
