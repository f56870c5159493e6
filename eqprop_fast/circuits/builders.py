"""Ready-made circuits: the layered network of 2006.01981 (crossbars, diodes, bidirectional
amplifiers).
"""

import numpy as np

from . import checks
from .elements import D1N4148
from .errors import ElementError
from .netlist import Netlist


def layered_netlist(
    sizes,
    *,
    diode=D1N4148,
    low=0.0,
    high=0.0,
    gain=4.0,
    bias=None,
    output_pairs=False,
    g_init=None,
    g_min=1e-7,
    g_max=np.inf,
    random_state=None,
):
    """A layered resistive network with complementary inputs.

    Every input drives a +x and a -x source; crossbars of trainable conductances join the layers;
    every hidden node has a diode up to a source at `high` volt and one from a source at `low` volt,
    then a bidirectional amplifier. The node is held between about `low` minus and `high` plus one
    forward drop.

    Parameters
    ----------
    sizes : sequence of int
        Inputs (before doubling), hidden nodes ..., outputs.
    diode : DiodeModel or "ideal"
    low, high : float
        Source voltages behind the hidden nodes' diodes, volt; low <= high + two forward drops.
    gain : float
        Of the amplifiers; 1/gain is fed back.
    bias : float or None
        Voltage of a +/- bias pair of sources added to the input rows and, amplified layers too, as
        extra rows.
    output_pairs : bool
        Two nodes per output, whose difference is the output.
    g_init : (float, float) or None
        Range of the uniform start; None: (g_min, 2.8 / sqrt(rows + columns)) as in the third-party
        reproductions.
    g_min, g_max : float
        Bounds, siemens.
    random_state : int, Generator or None

    Returns
    -------
    Netlist
        `inputs` are marked as x1+, x1-, x2+, ...: see `complementary`.
    """
    sizes = _checked_sizes(sizes)
    output_pairs = checks.flag("output_pairs", output_pairs)
    g_init, g_min, g_max = _checked_range(g_init, g_min, g_max)
    rng = checks.generator(random_state)
    net = Netlist("layered resistive network " + "-".join(map(str, sizes)))
    rows, inputs = _input_rows(net, sizes[0])
    bias_rows = [] if bias is None else _bias_rows(net, checks.number("bias", bias))
    if len(sizes) > 2:
        net.voltage_source("vlow", "low", "0", low)
        net.voltage_source("vhigh", "high", "0", high)
    for layer, size in enumerate(sizes[1:], start=1):
        last = layer == len(sizes) - 1
        rows = rows + bias_rows
        if last:
            columns = [f"y{k}{s}" for k in range(size) for s in ("pn" if output_pairs else "p")]
        else:
            columns = [f"h{layer}_{k}" for k in range(size)]
        top = 2.8 / np.sqrt(len(rows) + len(columns))
        start = (g_min, min(top, g_max)) if g_init is None else g_init
        g = np.maximum(rng.uniform(*start, size=(len(rows), len(columns))), 1e-12)
        net.crossbar(f"w{layer}", rows, columns, g, g_min=g_min, g_max=g_max)
        if not last:
            rows = _hidden_nodes(net, layer, columns, diode, gain)
    net.mark_inputs(inputs)
    net.mark_outputs(
        list(zip(columns[::2], columns[1::2], strict=True)) if output_pairs else columns
    )
    return net


def _checked_sizes(sizes):
    try:
        sizes = [checks.count("sizes: each", s) for s in sizes]
    except TypeError:
        raise ElementError(f"sizes must be a sequence of whole numbers, got {sizes!r}") from None
    if len(sizes) < 2:
        raise ElementError(f"sizes must be at least two positive numbers, got {sizes}")
    return sizes


def _checked_range(g_init, g_min, g_max):
    """Bounds of the conductances, and the range within them that they start from."""
    g_min = checks.number("g_min", g_min)
    g_max = checks.number("g_max", g_max, finite=False)
    if not 0 <= g_min <= g_max:
        raise ElementError(f"need 0 <= g_min <= g_max, got {g_min} and {g_max}")
    if g_init is not None:
        g_init = checks.array("g_init", g_init, 1)
        if g_init.size != 2 or not g_min <= g_init[0] <= g_init[1] <= g_max:
            raise ElementError(
                f"g_init must be (low, high) within [g_min, g_max], got {g_init.tolist()}"
            )
    return g_init, g_min, g_max


def _input_rows(net, n):
    """n inputs as pairs of sources, +x and -x; returns their nodes and names."""
    rows, inputs = [], []
    for k in range(n):
        for sign in "pn":
            rows.append(f"x{k}{sign}")
            inputs.append(f"vx{k}{sign}")
            net.voltage_source(inputs[-1], rows[-1], "0", 0.0)
    return rows, inputs


def _bias_rows(net, bias):
    """A pair of sources at +bias and -bias; returns their nodes."""
    for name, value in (("bp", bias), ("bn", -bias)):
        net.voltage_source(f"v{name}", name, "0", value)
    return ["bp", "bn"]


def _hidden_nodes(net, layer, columns, diode, gain):
    """Two diodes and an amplifier at every node of a hidden layer; returns the amplified nodes."""
    rows = []
    for k, node in enumerate(columns):
        net.diode(f"dh{layer}_{k}", node, "high", diode)
        net.diode(f"dl{layer}_{k}", "low", node, diode)
        net.amplifier(f"a{layer}_{k}", node, f"s{layer}_{k}", gain)
        rows.append(f"s{layer}_{k}")
    return rows


def complementary(x, scale=1.0):
    """Inputs (M, n) as the source voltages (M, 2n) of `layered_netlist`: scale * (x1, -x1, x2, -x2,
    ...).
    """
    x = np.atleast_2d(checks.array("x", x)) * checks.number("scale", scale)
    return np.stack([x, -x], axis=2).reshape(len(x), -1)
