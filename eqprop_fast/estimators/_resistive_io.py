"""Resistive estimators out of and into other tools: netlist, SPICE, CSV, programming of real
devices.
"""

from __future__ import annotations

import copy
import csv
import io
import os

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ..kernels import get_backend
from ..training.files import write_atomically, write_text

_HEADER = ("layer", "row", "column", "siemens")
MAX_ROW = 256  # characters of a row of the file, on average; ours have at most 60


def _csv_text(path, n_positions):
    """The file's text, unless it is longer than a file of that many positions can be."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"{path} is not a file")
    limit = MAX_ROW * (n_positions + 1)
    try:
        with open(path, newline="", encoding="utf-8") as file:
            text = file.read(limit + 1)
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no CSV text") from None
    if len(text) > limit:
        raise ValueError(f"{path} is longer than {n_positions} positions can be")
    return text


def _csv_rows(file, path):
    """(line number, fields) of each row."""
    reader = csv.reader(file)
    try:
        for fields in reader:
            yield reader.line_num, fields
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: no CSV text ({error})") from None


class ResistiveInterop:
    """`to_netlist`, `to_spice`, `export_conductances`, `import_conductances`, `program`."""

    def to_netlist(self, x=None):
        """The fitted network as an `eqprop_fast.circuits.Netlist`.

        Nodes are called x<i>p and x<i>n (inputs), h<k>_<i> (hidden layer k), o<i> (outputs);
        conductances g<k>_<i>_<j>. Conductances of 0 S are left out, and so are hidden nodes that no
        conductance touches. The input sources are marked as inputs (x0p, x0n, x1p, ...), the
        outputs as outputs.

        Parameters
        ----------
        x : array-like of shape (n_features,) or None
            Features that the sources are set to; None: all sources at 0 V.

        Returns
        -------
        Netlist
        """
        from ..circuits.netlist import Netlist

        check_is_fitted(self)
        spec = self._fitted_network(None).spec
        n_in, L, a = spec.sizes[0], spec.n_weights, spec.amplifier_gain
        at_rest = x is None
        x = np.zeros(n_in) if at_rest else np.asarray(x, dtype=np.float64).ravel()
        if x.shape != (n_in,) or not np.isfinite(x).all():
            raise ValueError(f"x must be {n_in} finite numbers, got shape {np.shape(x)}")
        if not at_rest:
            x = self._to_sources(x[np.newaxis])[0].astype(np.float64)
        net = Netlist("resistive network " + "-".join(map(str, spec.sizes)))
        for i in range(n_in):
            for sign, name in ((1, "p"), (-1, "n")):
                net.voltage_source(
                    f"vx{i}{name}", f"x{i}{name}", "0", sign * spec.input_gain * x[i]
                )
        net.mark_inputs([f"vx{i}{s}" for i in range(n_in) for s in "pn"])
        if spec.diodes == "clipped" and L > 1:
            net.voltage_source("vhigh", "high", "0", 1.0)
        rows = [f"x{i}{s}" for s in "pn" for i in range(n_in)]
        for k, (g, b) in enumerate(zip(self.coefs_, self.intercepts_), start=1):
            nodes = [f"o{i}" if k == L else f"h{k}_{i}" for i in range(g.shape[1])]
            for i, j in zip(*np.nonzero(g)):
                value = float(g[i, j])  # programmed devices may lie outside the range of training
                low, high = min(spec.g_min, value), max(spec.g_max, value)
                net.conductance(f"g{k}_{i}_{j}", rows[i], nodes[j], value, g_min=low, g_max=high)
            used = (g != 0).any(axis=0) | (k == L or (self.coefs_[k] != 0).any(axis=1))
            for i, node in enumerate(nodes):
                if b[i] and used[i]:
                    net.current_source(f"ib{k}_{i}", "0", node, float(b[i]) / spec.referred(k))
            if k < L:
                self._hidden_nodes(net, spec, k, nodes, used, a)
                rows = [node + "a" for node in nodes] if a != 1 else nodes
        half = spec.sizes[-1]
        net.mark_outputs(
            [(f"o{i}", f"o{half + i}") if spec.pairs else f"o{i}" for i in range(half)]
        )
        return net

    @staticmethod
    def _hidden_nodes(net, spec, k, nodes, used, gain):
        for i, node in enumerate(nodes):
            if not used[i]:
                continue
            if spec.diodes == "clipped":
                net.diode(f"dl{k}_{i}", "0", node)
                net.diode(f"dh{k}_{i}", node, "high")
            elif spec.diodes == "signed" and i < len(nodes) // 2:
                net.diode(f"d{k}_{i}", "0", node)
            elif spec.diodes == "signed" and i >= len(nodes) // 2:
                net.diode(f"d{k}_{i}", node, "0")
            if gain != 1:
                net.amplifier(f"a{k}_{i}", node, node + "a", gain)

    def to_spice(self, path, x):
        """Write the fitted network with the input vector `x` as a SPICE file that ngspice runs.

        Parameters
        ----------
        path : path-like
        x : array-like of shape (n_features,)
        """
        from ..circuits.spice_write import to_spice

        text = to_spice(self.to_netlist(x))
        write_text(os.fspath(path), text)

    def export_conductances(self, path):
        """Write conductances and bias currents as CSV: layer, row, column, siemens.

        `row` counts the nodes of the layer below (layer 1: +x rows, then -x rows); the row "bias"
        holds currents in ampere (referred to the output). Numbers survive exactly.

        Parameters
        ----------
        path : path-like
        """
        check_is_fitted(self)

        def write(file):
            lines = [",".join(_HEADER)]
            for k, (g, b) in enumerate(zip(self.coefs_, self.intercepts_), start=1):
                lines += [
                    f"{k},{i},{j},{v!r}"
                    for i, row in enumerate(g.tolist())
                    for j, v in enumerate(row)
                ]
                lines += [f"{k},bias,{j},{v!r}" for j, v in enumerate(b.tolist())]
            file.write(("\n".join(lines) + "\n").encode())

        write_atomically(os.fspath(path), write)

    def import_conductances(self, path):
        """Replace the fitted conductances and bias currents by those of a CSV that
        `export_conductances` describes.

        Parameters
        ----------
        path : path-like

        Returns
        -------
        self

        Raises
        ------
        ValueError
            No CSV text; with the line: unknown or repeated position, a number that is not finite in
            the model's `dtype`, a conductance that is not in [g_min, g_max] once rounded to it;
            missing positions. The model is left as it was.

        Notes
        -----
        Devices that differ from each other, and so networks that were programmed to or trained on
        them, can lie outside [g_min, g_max]; a model with wider bounds reads them.
        """
        check_is_fitted(self)
        spec = self._fitted_network(None).spec
        new_g = [np.full(g.shape, np.nan, g.dtype) for g in self.coefs_]
        new_b = [np.full(b.shape, np.nan, b.dtype) for b in self.intercepts_]
        with np.errstate(over="ignore"):
            low, high = (new_g[0].dtype.type(bound) for bound in self._circuit.bounds)
        n_positions = sum(a.size for a in (*new_g, *new_b))
        with io.StringIO(_csv_text(path, n_positions), newline="") as file:
            reader = _csv_rows(file, path)
            if tuple(next(reader, (0, ()))[1]) != _HEADER:
                raise ValueError(f"{path}, line 1: expected the header {','.join(_HEADER)}")
            for line, fields in reader:
                at = f"{path}, line {line}"
                try:
                    k, row, j, value = int(fields[0]), fields[1], int(fields[2]), float(fields[3])
                    group, index = (new_b, (j,)) if row == "bias" else (new_g, (int(row), j))
                    if (
                        len(fields) != 4
                        or k < 1
                        or min(index) < 0
                        or not np.isnan(group[k - 1][index])
                    ):
                        raise IndexError
                except (ValueError, IndexError):
                    raise ValueError(
                        f"{at}: expected a new position and a number, got {','.join(fields)[:100]!r}"
                    ) from None
                with np.errstate(over="ignore"):
                    number = group[0].dtype.type(value)
                if not np.isfinite(number):
                    what = "conductance" if group is new_g else "current"
                    raise ValueError(f"{at}: {fields[3]} is no finite {what} in {number.dtype}")
                if group is new_g:
                    if value < 0 or not low <= number <= high:
                        raise ValueError(
                            f"{at}: a conductance of {fields[3]} S is outside [g_min, g_max] = "
                            f"[{self._circuit.g_min!r}, {self._circuit.g_max!r}]"
                        )
                    # a bound may round to beyond itself
                    number = min(max(number, spec.g_min), spec.g_max)
                group[k - 1][index] = number
        missing = sum(int(np.isnan(a).sum()) for a in (*new_g, *new_b))
        if missing:
            raise ValueError(f"{path}: {missing} positions are missing")
        self.coefs_, self.intercepts_ = new_g, new_b
        self._state.forget_best()
        return self

    def program(self, device, random_state=None):
        """A copy of the fitted estimator whose conductances have been written to real devices.

        Parameters
        ----------
        device : DeviceModel or dict of its parameters
        random_state : int, Generator or None
            Of device-to-device variability, stuck devices and write noise.

        Returns
        -------
        estimator
            Of the same class; it predicts with what the devices hold.
        """
        from ..circuits.devices import DeviceModel

        check_is_fitted(self)
        device = DeviceModel.of(device)
        rng = np.random.default_rng(random_state)
        twin = copy.deepcopy(self)
        twin.coefs_ = [device.program(g, rng) for g in self.coefs_]
        twin._state.forget_best()
        return twin

    def plot_curves(self, ax=None):
        """Training loss over the epochs and, with early stopping, the validation score. Imports
        matplotlib.

        Parameters
        ----------
        ax : matplotlib Axes, optional

        Returns
        -------
        matplotlib Axes
        """
        import matplotlib.pyplot as plt

        check_is_fitted(self)
        ax = plt.subplots(figsize=(5, 3.6), layout="constrained")[1] if ax is None else ax
        epochs = np.arange(1, len(self.loss_curve_) + 1)
        lines = ax.semilogy(epochs, self.loss_curve_, color="C0", label="training loss")
        ax.set(
            xlabel="epoch",
            ylabel="training loss (V^2)" if hasattr(self, "classes_") else "training loss",
        )
        if self.validation_scores_:
            right = ax.twinx()
            scored = epochs[-len(self.validation_scores_) :]
            lines += right.plot(
                scored, self.validation_scores_, color="C1", label="validation score"
            )
            right.set_ylabel("validation score")
        ax.legend(handles=lines)
        ax.set_title("-".join(map(str, self._fitted_network(None).spec.sizes)), fontsize="small")
        return ax

    def dissipated_power(self, X):
        """Power that the network draws from its sources at equilibrium, in watt; float64
        (n_samples,).

        Sum over the conductances of g dv^2 (with amplifiers: referred to the output, that is times
        the gain squared).
        """
        check_is_fitted(self)
        X = self._validate_x(X, reset=False)
        network = self._fitted_network(get_backend(self.backend))
        rest = self.equilibrium(X)
        bias_power = np.zeros(X.shape[0])
        for k, (s, b) in enumerate(zip(rest.states, self.intercepts_), start=1):
            bias_power += (s.astype(np.float64) * b).sum(axis=1) * network.spec.referred(k)
        return 2 * (rest.energy + bias_power)
