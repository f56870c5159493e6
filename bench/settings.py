"""The settings that are timed: the papers' fully connected MNIST experiments, and the arithmetic in
each.

The numbers are typed in from the papers' public code, on purpose not read from eqprop_fast's
presets: a wrong preset must show up as a disagreement here, not be copied.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

BATCH_SIZE = 20


@dataclass(frozen=True)
class LayeredSetting:
    """One experiment on a fully connected layered net; lists run input -> output.

    `kind` is "prototypical" (discrete map, s <- rho(field), nudge added outside rho) or "energy"
    (Euler steps of size `dt` on the Hopfield energy, states clamped to [0, 1]). `cost_scale` is the
    c of the cost c * |s_out - y|^2: the force on the output is 2 * c * beta * (y - s_out). `rule`
    "bptt" has no nudged phase: `n_nudged_steps` are the last steps of the free phase, which are
    reversed.
    """

    name: str
    preset: str
    layers: tuple[int, ...]
    kind: str
    activation: str
    n_free_steps: int
    n_nudged_steps: int
    beta: float
    learning_rates: tuple[float, ...]
    dt: float = 1.0
    epochs: int = 30
    cost_scale: float = 0.5
    input_through_rho: bool = False
    persistent: bool = False
    random_sign: bool = False
    init: str = "fan_in"
    over_relaxation: float = 1.0  # of the -async contenders' free phase
    rule: str = "ep"
    # samples/s of the authors' public code with 2 threads, on this kind of machine
    authors_rate: float | None = None

    @property
    def nudge(self) -> float:
        """Factor of (y - s_out) in the force on the output units."""
        return 2.0 * self.cost_scale * self.beta

    @property
    def n_steps(self) -> int:
        return self.n_free_steps + self.n_nudged_steps


PRESETS = "1905.13633"
LAYERED = {
    setting.name: setting
    for setting in (
        LayeredSetting(
            "P-1h",
            f"{PRESETS}/P-1h",
            (784, 512, 10),
            "prototypical",
            "shifted_sigmoid",
            40,
            15,
            0.1,
            (0.08, 0.04),
            epochs=30,
            authors_rate=1800.0,
        ),
        LayeredSetting(
            "P-2h",
            f"{PRESETS}/P-2h",
            (784, 512, 512, 10),
            "prototypical",
            "shifted_sigmoid",
            100,
            20,
            0.5,
            (0.2, 0.05, 0.005),
            epochs=50,
            over_relaxation=1.2,
            authors_rate=360.0,
        ),
        LayeredSetting(
            "P-3h",
            f"{PRESETS}/P-3h",
            (784, 512, 512, 512, 10),
            "prototypical",
            "shifted_sigmoid",
            180,
            20,
            0.5,
            (0.2, 0.05, 0.01, 0.002),
            epochs=100,
            over_relaxation=1.3,
            authors_rate=160.0,
        ),
        LayeredSetting(
            "EB-1h",
            f"{PRESETS}/EB-1h",
            (784, 512, 10),
            "energy",
            "shifted_sigmoid",
            100,
            12,
            0.5,
            (0.1, 0.05),
            dt=0.2,
            epochs=30,
            input_through_rho=True,
            authors_rate=550.0,
        ),
        LayeredSetting(
            "EB-2h",
            f"{PRESETS}/EB-2h",
            (784, 512, 512, 10),
            "energy",
            "shifted_sigmoid",
            400,
            40,
            0.5,
            (0.4, 0.1, 0.01),
            dt=0.2,
            epochs=50,
            input_through_rho=True,
        ),
        LayeredSetting(
            "net1",
            "1602.05179/net1",
            (784, 500, 10),
            "energy",
            "hard_sigmoid",
            20,
            4,
            0.5,
            (0.1, 0.05),
            dt=0.5,
            epochs=25,
            cost_scale=1.0,
            persistent=True,
            random_sign=True,
            init="glorot",
        ),
    )
}

# the authors' own comparison: back-propagation through the last K steps of the free phase
GRADIENT = {
    f"BPTT-{name}": replace(LAYERED[name], name=f"BPTT-{name}", rule="bptt", authors_rate=None)
    for name in ("P-1h", "P-2h")
}


@dataclass(frozen=True)
class ContinualSetting:
    """One continual experiment (prototypical, shifted sigmoid); `vector_field`: untied backward
    weights.
    """

    name: str
    preset: str
    layers: tuple[int, ...]
    n_free_steps: int
    n_nudged_steps: int
    beta: float
    learning_rates: tuple[float, ...]
    vector_field: bool = False
    random_sign: bool = False
    epochs: int = 100
    kind: str = "continual"
    authors_rate: None = None
    persistent: bool = False

    @property
    def n_steps(self) -> int:
        return self.n_free_steps + self.n_nudged_steps


CONTINUAL = {
    setting.name: setting
    for setting in (
        ContinualSetting(
            "C-EP-1h", "2005.04168/C-EP-1h", (784, 512, 10), 40, 15, 0.2, (0.0056, 0.0028)
        ),
        ContinualSetting(
            "C-VF-1h",
            "2005.04168/C-VF-1h",
            (784, 512, 10),
            40,
            15,
            0.2,
            (0.0076, 0.0038),
            vector_field=True,
            random_sign=True,
        ),
    )
}


def initial_parameters(setting, seed=0, dtype=np.float32):
    """Weights (n_k, n_k+1) and biases (n_k+1,) of a setting, drawn as its paper draws them."""
    rng = np.random.default_rng(seed)
    weights, biases = [], []
    for n_in, n_out in zip(setting.layers[:-1], setting.layers[1:], strict=True):
        if getattr(setting, "init", "fan_in") == "glorot":
            bound = np.sqrt(6.0 / (n_in + n_out))
            bias = np.zeros(n_out)
        else:
            bound = 1.0 / np.sqrt(n_in)
            bias = rng.uniform(-bound, bound, n_out)
        weights.append(np.ascontiguousarray(rng.uniform(-bound, bound, (n_in, n_out)), dtype=dtype))
        biases.append(bias.astype(dtype))
    return weights, biases


def initial_back(setting, weights, angle=45.0, seed=0):
    """Untied backward weights (n_k+1, n_k) of a vector-field setting, [0] unused; None for a tied
    one.

    The transposes with each sign flipped with probability (1 - cos angle) / 2 (2005.04168).
    """
    if not getattr(setting, "vector_field", False):
        return None
    rng = np.random.default_rng(seed)
    flips = (1.0 - np.cos(np.deg2rad(angle))) / 2.0
    back = [np.zeros(weights[0].shape[::-1], weights[0].dtype)]
    for w in weights[1:]:
        signs = np.where(rng.random(w.shape[::-1]) < flips, -1, 1).astype(w.dtype)
        back.append(np.ascontiguousarray(w.T * signs))
    return back


def training_flop(setting) -> int:
    """Floating-point operations of one training sample, multiply and add counted apart, everything
    dense.

    Counted: the input drive once; for every step the products with every hidden weight matrix in
    both directions; the rank-1 update, one product for the input weights (the input does not move)
    and two for every other matrix. The continual rules make an update, and a B x B product that
    moves the drive with it, at every nudged step. Not counted: activations, biases. A code that
    skips zero pixels, sweeps alternate layers or stops early does less than this count; a code that
    recomputes the drive does more. The count is of the job, not of a code.
    """
    pairs = [
        n_in * n_out for n_in, n_out in zip(setting.layers[:-1], setting.layers[1:], strict=True)
    ]
    drive, hidden = pairs[0], sum(pairs[1:])
    if (
        getattr(setting, "rule", "ep") == "bptt"
    ):  # a reverse step is as much as a step; K steps learn
        k = setting.n_nudged_steps
        return 2 * drive + (setting.n_free_steps + k) * 4 * hidden + 2 * drive + 4 * k * hidden
    update = 2 * drive + 4 * hidden
    if isinstance(setting, ContinualSetting):
        update = setting.n_nudged_steps * (update + 2 * BATCH_SIZE * setting.layers[1])
    return 2 * drive + setting.n_steps * 4 * hidden + update


def published_flop(setting) -> int:
    """The same count where the input drive is recomputed at every step, as in the authors' code."""
    pairs = [
        n_in * n_out for n_in, n_out in zip(setting.layers[:-1], setting.layers[1:], strict=True)
    ]
    extra = setting.n_steps - 1
    if (
        getattr(setting, "rule", "ep") == "bptt"
    ):  # at every free step, and again in the reverse of K of them
        extra -= 1
    return training_flop(setting) + 2 * pairs[0] * extra
