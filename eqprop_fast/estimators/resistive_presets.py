"""The resistive experiments as named parameter sets; rates run input -> output, as in their sources."""

from __future__ import annotations

from .presets import _ALL_EPOCHS, Preset, look_up

_DRN = dict(  # 2402.11674, authors' papers/fast-drn/drn.py
    diodes="signed",
    amplifier_gain=1.0,
    output_pairs=False,
    schedule="asynchronous",
    nudging="centered",
    carry_over=True,
    conductance_gain=1.0,
    g_min=0.0,
    g_max=None,
    tol_free=None,
    tol_nudged=None,
    batch_size=4,
    learning_rate="exponential",
    lr_decay=0.99,
    shuffle=True,
    **_ALL_EPOCHS,
)
_SOURCE = "2402.11674, authors' papers/fast-drn/drn.py"


def _row(name, hidden, gain, steps, beta, rates, epochs, test_error, bias_rates=None):
    parameters = dict(
        _DRN,
        hidden_layer_sizes=hidden,
        input_gain=gain,
        n_free_steps=steps,
        n_nudged_steps=steps,
        beta=beta,
        learning_rate_init=rates,
        bias_learning_rate_init=bias_rates,
        max_iter=epochs,
    )
    return Preset(f"2402.11674/DRN-{name}", _SOURCE, parameters, (784, *hidden, 10), test_error=test_error)


# 2006.01981 names its network and its elements; its gain, beta, rates, bounds, batch, epochs and error are
# not known to us. Ours: gain 4 (as in a public re-implementation), diodes at 0 and 1 V, the rest chosen on a
# held-out tenth of the training set.
_KENDALL = Preset(
    "2006.01981/mnist",
    "2006.01981 (784 x 2 - 100 - 10 pairs, diodes, amplifiers, complementary inputs); every number is ours",
    dict(
        _DRN,
        hidden_layer_sizes=(100,),
        diodes="clipped",
        amplifier_gain=4.0,
        output_pairs=True,
        input_gain=12.0,
        n_free_steps=6,
        n_nudged_steps=6,
        beta=1.0,
        learning_rate_init=(0.02, 0.02),
        max_iter=10,
    ),
    (784, 100, 10),
    notes="the authors' constants are not published",
)

_TABLE = [
    #    name  hidden       gain  steps beta rates, input -> output      epochs test error
    _row("XS", (100,), 100.0, 4, 1.0, (0.006, 0.006), 10, 3.46),
    _row("XL", (32768,), 800.0, 4, 1.0, (0.006, 0.006), 100, 1.33),
    _row("1H", (1024,), 480.0, 4, 1.0, (0.006, 0.006), 50, 1.57),
    _row("2H", (1024, 1024), 2000.0, 5, 1.0, (0.002, 0.006, 0.018), 50, 1.48),
    _row(
        "3H",
        (1024, 1024, 1024),
        4000.0,
        6,
        2.0,
        (0.005, 0.02, 0.08, 0.005),
        50,
        1.66,
        bias_rates=(0.0005, 0.002, 0.008, 0.0005),
    ),
    _KENDALL,
]
RESISTIVE_PRESETS = {p.name: p for p in _TABLE}


def list_resistive_presets():
    """Names that `ResistiveClassifier.from_paper` knows."""
    return list(RESISTIVE_PRESETS)


def resistive_preset(name):
    """The `Preset` of a name, with its source, layers and notes.

    Raises
    ------
    ValueError
        Unknown name; the message lists the known ones.
    """
    return look_up(RESISTIVE_PRESETS, name)
