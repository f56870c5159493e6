"""How a graph lies in flat arrays: a record a layer and a connection, packed weights, and scratch."""

import numpy as np

from ..graph_spec import POOLS
from ..spec import ACTIVATIONS, COSTS
from .runs import panel_columns
from .views import Record, aligned, row_records

# A layer: units; first column in rows of states; pass of a step in which it moves, -1: none
LAYER = np.dtype([(name, np.int64) for name in ("size", "offset", "activation", "turn")])
# A connection, as csrc/graph/graph.h has it. `line`: numbers of a row of the padded map below;
# `columns`, `panels`: of the packed weights of the way up, which begin at `up`; those of the way
# back at `down`; `place`, `places`: the maxima, one a unit above.
LINK = np.dtype(
    [
        (name, np.int64)
        for name in (
            "below", "above", "run", "runs", "stride", "padding", "pool", "window", "C", "H", "W", "PH",
            "line", "O", "OW", "h", "w", "columns", "panels", "up", "down", "place", "places",
        )
    ]
)
PADDING = 64  # numbers behind the rows of a sample: register tiles are written whole


def _three(shape, dense):
    """(channels, height, width); a dense connection sees one pixel."""
    if dense:
        return int(np.prod(shape)), 1, 1
    return shape


def make_links(spec, itemsize):
    """Records of all connections; sizes of the packed weights, and of the places of maxima."""
    links = np.zeros(len(spec.connections), LINK)
    up = down = places = 0
    for made, link in zip(links, spec.connections):
        dense, shapes = not link.kernel, spec.layers
        c, h, w = _three(shapes[link.below].shape, dense)
        o, above_h, above_w = _three(shapes[link.above].shape, dense)
        k, columns = link.kernel or 1, panel_columns(o, itemsize)
        panels, n = -(-o // columns), o * above_h * above_w if link.pool == "max" else 0
        values = dict(
            below=link.below, above=link.above, run=k * c, runs=k, stride=link.stride,
            padding=link.padding, pool=POOLS[link.pool], window=link.window, C=c, H=h, W=w,
            PH=h + 2 * link.padding, line=(w + 2 * link.padding) * c, O=o, OW=above_w * link.window,
            h=above_h, w=above_w, columns=columns, panels=panels, up=up, down=down, place=places, places=n,
        )
        for name, value in values.items():
            made[name] = value
        up, down, places = up + panels * k * k * c * columns, down + o * k * k * c, places + n
    return links, up, down, places


class Layout:
    """A graph's records and its weights as the kernels read them; `pixels[k]`: the units of layer k
    in their order, as places in the caller's.
    """

    def __init__(self, spec, dtype):
        self.links, up, down, self.n_places = make_links(spec, np.dtype(dtype).itemsize)
        self.layers = np.zeros(len(spec.layers), LAYER)
        turn = {k: i for i, layers in enumerate(spec.passes()) for k in layers}
        self.units, self.pixels = 0, []
        for k, layer in enumerate(spec.layers):
            self.layers[k] = layer.size, self.units, ACTIVATIONS[layer.activation], turn.get(k, -1)
            self.units += layer.size if k else 0
            order = np.arange(layer.size)
            if len(layer.shape) == 3:
                order = np.ascontiguousarray(order.reshape(layer.shape).transpose(1, 2, 0)).ravel()
            self.pixels.append(order)
        self.up, self.down, self.bias = (aligned(n, dtype) for n in (up, down, self.units))

    def pack(self, net):
        """Weights, weights of the way back and biases of a `GraphNet` as they are now."""
        for c, (link, made) in enumerate(zip(net.spec.connections, self.links)):
            forward = self._rows(link, net.weights[c])
            own = net.back is not None and net.back[c] is not None
            back = forward if not own else self._rows(link, net.links[c].as_forward(net.back[c]))
            n, columns, panels = forward.shape[1], made["columns"], made["panels"]
            wide = np.zeros((panels * columns, n), forward.dtype)
            wide[: len(forward)] = forward
            start = made["up"]
            self.up[start : start + wide.size] = wide.reshape(panels, columns, n).swapaxes(1, 2).ravel()
            self.down[made["down"] : made["down"] + back.size] = back.ravel()
        for k, layer in enumerate(net.spec.layers[1:], start=1):
            bias = net.biases[k - 1]
            if len(layer.shape) == 3:
                bias = np.tile(bias, layer.shape[1] * layer.shape[2])
            start = self.layers[k]["offset"]
            self.bias[start : start + layer.size] = bias

    def _rows(self, link, weight):
        """A row a channel above, its runs one behind the other."""
        if link.kernel:
            return weight.transpose(0, 2, 3, 1).reshape(len(weight), -1)
        return weight[self.pixels[link.below]][:, self.pixels[link.above]].T

    def as_weight(self, link, rows, shape):
        """`_rows` undone."""
        if link.kernel:
            o, c, k, _ = shape
            return np.ascontiguousarray(rows.reshape(o, k, k, c).transpose(0, 3, 1, 2))
        weight = np.empty(shape, rows.dtype)
        weight[np.ix_(self.pixels[link.below], self.pixels[link.above])] = rows.T
        return weight

    def rows_of(self, states):
        """States of the caller side by side, pixel by pixel."""
        rows = [s[:, p] for s, p in zip(states, self.pixels[1:])]
        return np.ascontiguousarray(np.concatenate(rows, axis=1))

    def give_back(self, rows, states):
        """`rows_of` undone, into the caller's arrays."""
        for k, s in enumerate(states, start=1):
            start = self.layers[k]["offset"]
            s[:, self.pixels[k]] = rows[:, start : start + s.shape[1]]

    def record(self, spec, drive, rows, shown, y, n_threads, steps=None, residual=None):
        """What the kernels take; `drive` has x, base and where of these samples."""
        m, dtype = len(rows), rows.dtype
        own, kept = row_records(
            n_threads,
            field=aligned((n_threads, self.units + PADDING), dtype),
            z=aligned((n_threads, self._most("window", "OW", "columns")), dtype),
            padded=aligned((n_threads, self._most("PH", "line")), dtype),
            places=np.zeros((n_threads, self.n_places + 1), np.int32),
            known=np.zeros((n_threads, len(self.links)), np.int64),
            failure=np.zeros((n_threads, 1), np.int64),
        )
        net = Record(
            layers=self.layers, links=self.links, up=self.up, down=self.down, bias=self.bias, own=own,
            x=drive.x.reshape(-1), base=drive.base.reshape(-1), where=drive.where.reshape(-1),
            state=rows.reshape(-1), shown=shown.reshape(-1), y=y.reshape(-1), rows=m, units=self.units,
            n_in=drive.x.shape[1], n_out=int(self.layers[-1]["size"]), n_layers=len(self.layers),
            n_places=self.n_places, n_turns=len(spec.passes()), continuous=spec.dynamics == "continuous",
            cost=COSTS[spec.cost], cost_factor=float(spec.cost_factor),
            steps=np.zeros(m, np.int32) if steps is None else steps,
            residual=np.zeros(m, dtype) if residual is None else residual,
            gain=np.array(spec.gain or [1.0] * (len(self.layers) - 1)),
            **{
                name: getattr(spec, name)
                for name in (
                    "prime_hidden", "prime_output", "linear_output", "clamp", "nudge_inside", "readout",
                )
            },
        )
        net.kept["threads"] = kept
        return net

    def _most(self, *names):
        sizes = np.prod([self.links[name] for name in names], axis=0)
        return int(sizes.max()) + PADDING
