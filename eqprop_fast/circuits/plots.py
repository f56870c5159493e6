"""Pictures of operating points: node voltages and dissipated power of a circuit, currents of a
crossbar.

Matplotlib is imported when a picture is asked for, never before.
"""

from types import SimpleNamespace

import numpy as np

from .elements import AMPLIFIER, DIODE, RESISTOR, VCCS, VCVS, VSOURCE
from .errors import ElementError

MAX_EDGES = 600  # of a large circuit, the branches that dissipate most are drawn


def plot_circuit(point, sample=0, *, ax=None, labels=None, max_edges=MAX_EDGES):
    """Nodes coloured by their voltage, branches drawn as thick and dark as the power they
    dissipate.

    Nodes stand in columns by their distance from the sources, so layered networks show their
    layers. Diodes are dashed, orange where they conduct; amplifiers are green arrows.

    Parameters
    ----------
    point : OperatingPoint
    sample : int
        Row of a batch.
    ax : matplotlib Axes, optional
    labels : bool, optional
        Write node names; by default only up to 60 nodes.
    max_edges : int

    Returns
    -------
    matplotlib Axes
    """
    import matplotlib.pyplot as plt
    from matplotlib.collections import LineCollection
    from matplotlib.colors import ListedColormap

    net = _as_found(point)
    volts = np.atleast_2d(point.voltages)[sample]
    ax = plt.subplots(figsize=(8, 5), layout="constrained")[1] if ax is None else ax
    at = _columns(net)
    resistor = np.array(net.nodes[RESISTOR], dtype=np.int64).reshape(-1, 2)
    power = np.atleast_2d(point.branch_currents(RESISTOR))[sample] * (
        volts[resistor[:, 0]] - volts[resistor[:, 1]]
    )
    shown = np.argsort(power, kind="stable")[-max_edges:]
    top = power.max(initial=0.0) or 1.0
    # the weakest branch stays visible
    greys = ListedColormap(plt.get_cmap("Greys")(np.linspace(0.2, 1.0, 256)))
    widths = 0.3 + 3 * power[shown] / top
    lines = LineCollection(
        at[resistor[shown]], cmap=greys, array=power[shown], linewidths=widths, zorder=1
    )
    lines.set_clim(0.0, top)
    ax.add_collection(lines)
    current = np.atleast_2d(point.branch_currents(DIODE))[sample]
    for (a, b), i in zip(net.nodes[DIODE], current, strict=True):
        on = i > 1e-3 * np.abs(current).max()
        ax.plot(
            *at[[a, b]].T,
            ls="--",
            lw=1.2 if on else 0.6,
            color="tab:orange" if on else "0.75",
            zorder=2,
        )
    for a, b in net.nodes[AMPLIFIER]:
        ax.annotate(
            "",
            at[b],
            at[a],
            arrowprops={"arrowstyle": "-|>", "color": "tab:green", "lw": 0.8},
            zorder=2,
        )
    limit = np.abs(volts).max() or 1.0
    size = 60 if net.n_nodes <= 60 else 14
    style = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit, "edgecolors": "k", "linewidths": 0.4}
    dots = ax.scatter(*at.T, c=volts, s=size, zorder=3, **style)
    if labels if labels is not None else net.n_nodes <= 60:
        for name, place in zip(net.node_names, at, strict=True):
            ax.annotate(
                name, place, xytext=(4, 4), textcoords="offset points", fontsize=7, zorder=4
            )
    ax.figure.colorbar(dots, ax=ax, label="node voltage (V)", shrink=0.8)
    ax.figure.colorbar(lines, ax=ax, label="dissipated power (W)", shrink=0.8)
    hidden = len(power) - len(shown)
    ax.set_title(
        net.title + (f" ({hidden} weaker branches not drawn)" if hidden else ""), fontsize=9
    )
    ax.set_axis_off()
    return ax


def _columns(net):
    """Places (n_nodes, 2): x by distance from the sources, y spread within the column; supplies and
    ground below.
    """
    neighbours = [set() for _ in range(net.n_nodes)]
    for kind in (RESISTOR, DIODE, VCVS, VCCS, AMPLIFIER):
        for nodes in net.nodes[kind]:
            neighbours[nodes[0]].add(nodes[1])
            neighbours[nodes[1]].add(nodes[0])
    inputs = [net.find(name) for name in net.inputs] or [
        (VSOURCE, k) for k in range(len(net.names[VSOURCE]))
    ]
    first = [n for kind, k in inputs for n in net.nodes[kind][k] if n] or list(
        range(1, min(2, net.n_nodes))
    )
    depth = np.full(net.n_nodes, -1)
    rails = {0} | {
        n for nodes in net.nodes[VSOURCE] for n in nodes
    }  # supplies would short-cut the layers
    depth[first] = 0
    queue = list(dict.fromkeys(first))
    for node in queue:
        if node in rails and node not in first:
            continue
        for other in sorted(neighbours[node]):
            if depth[other] < 0 and other:
                depth[other] = depth[node] + 1
                queue.append(other)
    below = np.array([n in rails and n not in first for n in range(net.n_nodes)])
    depth[(depth < 0) & ~below] = depth.max() + 1
    at = np.zeros((net.n_nodes, 2))
    at[:, 0] = depth
    for column in np.unique(depth[~below]):
        members = np.flatnonzero((depth == column) & ~below)
        at[members, 1] = np.linspace(1, 0, members.size + 2)[1:-1]
    at[below, 0] = np.linspace(0, max(depth.max(), 1), below.sum() + 2)[1:-1]
    at[below, 1] = -0.1
    return at


def _as_found(point):
    """The netlist as it was when the point was found: elements and nodes that came later are left
    out.
    """
    net, n = point.netlist, point._assembly.n_nodes
    counts = [len(point._assembly.pairs[kind]) for kind in range(len(net.names))]
    names = [own[:count] for own, count in zip(net.names, counts, strict=True)]
    known = {name.lower() for own in names for name in own}
    return SimpleNamespace(
        title=net.title,
        n_nodes=n,
        node_names=net.node_names[:n],
        names=names,
        nodes=[own[:count] for own, count in zip(net.nodes, counts, strict=True)],
        inputs=[name for name in net.inputs if name.lower() in known],
        find=net.find,
        find_node=net.find_node,
    )


def plot_crossbar(point, rows, columns, sample=0, *, ax=None):
    """Heat map of the currents that flow from row nodes to column nodes through the resistors
    between them.

    Parameters
    ----------
    point : OperatingPoint
    rows, columns : sequences of node names
    sample : int
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    import matplotlib.pyplot as plt

    current = crossbar_currents(point, rows, columns, sample)
    ax = plt.subplots(figsize=(7, 4.5), layout="constrained")[1] if ax is None else ax
    limit = np.abs(current).max() or 1.0
    image = ax.imshow(
        current, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest"
    )
    ax.figure.colorbar(image, ax=ax, label="current, row to column (A)")
    for axis, names in ((ax.yaxis, rows), (ax.xaxis, columns)):
        if len(names) <= 30:
            axis.set_ticks(range(len(names)), names, fontsize=7)
    ax.set_xlabel("columns")
    ax.set_ylabel("rows")
    total = current.sum(axis=0)
    ax.set_title(
        f"{point.netlist.title}: {np.abs(total).max():.3g} A into the strongest column", fontsize=9
    )
    return ax


def crossbar_currents(point, rows, columns, sample=0):
    """Currents (len(rows), len(columns)) from row nodes to column nodes, ampere; 0 where no
    resistor joins them.
    """
    net = _as_found(point)
    row = {net.find_node(name): k for k, name in enumerate(rows)}
    column = {net.find_node(name): k for k, name in enumerate(columns)}
    out, hits = np.zeros((len(rows), len(columns))), 0
    current = np.atleast_2d(point.branch_currents(RESISTOR))[sample]
    for (a, b), i in zip(net.nodes[RESISTOR], current, strict=True):
        if a in row and b in column:
            out[row[a], column[b]] += i
            hits += 1
        elif b in row and a in column:
            out[row[b], column[a]] -= i
            hits += 1
    if not hits:
        raise ElementError("no resistor joins these rows and columns")
    return out
