"""The netlist: nodes, elements, and which of them are inputs, outputs and trainable."""

import csv
import io
import numbers
import os
import re

import numpy as np

from . import checks
from .checks import number
from .elements import (
    AMPLIFIER,
    CCCS,
    CCVS,
    DIODE,
    IDEAL,
    ISOURCE,
    KIND_NAMES,
    RESISTOR,
    VCCS,
    VCVS,
    VSOURCE,
    DiodeModel,
)
from .errors import ElementError, UnknownModelError, UnknownNodeError

_GROUND = ("0", "gnd", "GND")
CACHES = ("_solver", "_scales", "_trainable", "_bounds", "_with_loads")  # made again when missing
MAX_SIEMENS = 1e30
_RESERVED = re.compile(r"[\s(),={};*$'\"]")


class Netlist:
    """A circuit of two-terminal elements, controlled sources and bidirectional amplifiers.

    Parameters
    ----------
    title : str
    temperature : float
        Of all devices, degree Celsius.
    gmin : float
        Conductance across every exponential diode, siemens (as SPICE adds it).
    tnom : float
        Temperature at which model parameters hold unless the model says otherwise, degree Celsius.

    Notes
    -----
    Nodes are named by strings (or integers) and come into being when an element names them; "0" and
    "gnd" are ground. Currents are counted from the first node of an element through it to the
    second, so a current source of positive value pulls current out of its first node, as in SPICE.
    Elements keep the order they are added in.
    """

    def __getstate__(self):
        """Without caches: they hold factors that cannot be pickled, and belong to this object
        alone.
        """
        return {name: value for name, value in self.__dict__.items() if name not in CACHES}

    def __init__(self, title="circuit", *, temperature=27.0, gmin=1e-12, tnom=27.0):
        self.title = clean_title(title)
        self.temperature = number("temperature", temperature, low=-272.0, high=2000.0)
        self.tnom = number("tnom", tnom, low=-272.0, high=2000.0)
        self.gmin = number("gmin", gmin, low=0.0, high=1.0)
        self.node_names = ["0"]
        self._node = {"0": 0}
        self._where = {}  # lower-case element name -> (kind, index in its table)
        self.names = [[] for _ in KIND_NAMES]
        self.nodes = [[] for _ in KIND_NAMES]  # tuples of node numbers
        self.values = [[] for _ in KIND_NAMES]  # conductance, area, volt, ampere or gain
        self.controls = {CCCS: [], CCVS: []}  # name of the controlling voltage source
        self.feedback = []  # of the amplifiers
        self.diode_models = []  # name of each diode's model
        self.models = {}
        self.g_min, self.g_max, self.trainable = [], [], []  # one per resistor
        self.inputs = []  # names of sources
        self.outputs = []  # (plus, minus) node numbers
        self.version = 0  # grows with every change of topology or marks
        self.value_version = 0  # grows with every change of conductances

    # --- nodes and elements ---

    def node(self, name):
        """Number of the node called `name`, made if new."""
        place = self._node.get(name)
        if place is not None:
            return place
        key = _node_key(name)
        place = self._node.get(key)
        if place is None:
            place = self._node[key] = len(self.node_names)
            self.node_names.append(key)
        return place

    def find_node(self, name):
        """Number of an existing node; UnknownNodeError if there is none."""
        try:
            return self._node[_node_key(name)]
        except KeyError:
            raise UnknownNodeError(f"no element touches a node called {name!r}") from None

    def rename_node(self, old, new):
        """Give a node another name, which no other node may have."""
        place, key = self.find_node(old), _node_key(new)
        if place == 0 or self._node.get(key, place) != place:
            raise ElementError(f"cannot rename node {old!r} to {new!r}")
        del self._node[self.node_names[place]]
        self._node[key], self.node_names[place] = place, key

    def resistor(self, name, a, b, ohms):
        """A fixed resistor of `ohms`, between 1e-30 and 1e30, from node `a` to node `b`."""
        ohms = number(f"resistor {name!r}: resistance", ohms)
        if not ohms > 0:
            raise ElementError(f"resistor {name!r}: resistance must be positive, got {ohms}")
        if not 1e-30 < ohms < 1e30:
            raise ElementError(
                f"resistor {name!r}: resistance must be between 1e-30 and 1e30 ohm, got {ohms}"
            )
        self._conductance(name, a, b, 1.0 / ohms, 0.0, np.inf, False)

    def conductance(self, name, a, b, siemens, *, g_min=0.0, g_max=np.inf, trainable=True):
        """A programmable conductance (memristor) of `siemens` > 0, held in [g_min, g_max] siemens;
        `trainable`: one of those that learning changes.

        `set_conductances` may make it 0 later, an open circuit, if g_min is 0.
        """
        siemens = number(f"conductance {name!r}", siemens)
        low = number(f"conductance {name!r}: g_min", g_min)
        high = number(f"conductance {name!r}: g_max", g_max, finite=False)
        trainable = checks.flag(f"conductance {name!r}: trainable", trainable)
        if not 0 <= low <= siemens <= high or siemens <= 0 or siemens > MAX_SIEMENS:
            raise ElementError(
                f"conductance {name!r}: need 0 <= g_min <= g <= g_max and g > 0, "
                f"got {siemens} in [{low}, {high}]"
            )
        self._conductance(name, a, b, siemens, low, high, trainable)

    def crossbar(self, prefix, rows, columns, siemens, *, g_min=0.0, g_max=np.inf, trainable=True):
        """A programmable conductance from every row node to every column node, named
        `prefix`_row_column.

        Parameters
        ----------
        rows, columns : sequences of node names
        siemens : array-like of shape (len(rows), len(columns))
            Conductances; 0, an open circuit, only if g_min is 0.
        g_min, g_max, trainable
            Of all of them, as of `conductance`.
        """
        check_name("crossbar", str(prefix))
        what = f"crossbar {prefix!r}"
        rows, columns, g = _names(rows), _names(columns), checks.array(f"{what}: siemens", siemens)
        low, high = number(f"{what}: g_min", g_min), number(f"{what}: g_max", g_max, finite=False)
        trainable = checks.flag(f"{what}: trainable", trainable)
        if g.shape != (len(rows), len(columns)):
            raise ElementError(
                f"crossbar {prefix!r}: siemens must have shape {(len(rows), len(columns))}, got {g.shape}"
            )
        if not ((g >= low).all() and (g <= min(high, MAX_SIEMENS)).all() and 0 <= low <= high):
            raise ElementError(
                f"crossbar {prefix!r}: conductances must be within [g_min, g_max], not negative, "
                f"and at most {MAX_SIEMENS:g} siemens"
            )
        rows, columns = [self.node(r) for r in rows], [self.node(c) for c in columns]
        names = [f"{prefix}_{i}_{j}" for i in range(len(rows)) for j in range(len(columns))]
        start, count = len(self.names[RESISTOR]), len(names)
        where = {name.lower(): (RESISTOR, start + k) for k, name in enumerate(names)}
        if len(where) < count or not self._where.keys().isdisjoint(where):
            raise ElementError(
                f"crossbar {prefix!r}: an element of one of its names exists already"
            )
        self._where.update(where)
        self.names[RESISTOR] += names
        self.nodes[RESISTOR] += [(r, c) for r in rows for c in columns]
        self.values[RESISTOR] += g.ravel().tolist()
        self.g_min += [low] * count
        self.g_max += [high] * count
        self.trainable += [trainable] * count
        self.version += 1

    def _conductance(self, name, a, b, g, g_min, g_max, trainable):
        self._add(RESISTOR, name, (a, b), g)
        self.g_min.append(g_min)
        self.g_max.append(g_max)
        self.trainable.append(trainable)

    def diode(self, name, anode, cathode, model=IDEAL, *, area=1.0):
        """A diode: "ideal" (v <= 0, i >= 0, v i = 0), a DiodeModel, or the name of one added by
        `model`; `area` times that of the model.
        """
        area = number(f"diode {name!r}: area", area)
        if not 1e-12 < area < 1e12:
            raise ElementError(f"diode {name!r}: area must be positive, got {area}")
        if isinstance(model, DiodeModel):
            self.model(model)
            model = model.name
        self._add(DIODE, name, (anode, cathode), area)
        self.diode_models.append(str(model).lower())

    def model(self, model):
        """Make a DiodeModel known by its name; the same name with other parameters is an error."""
        known = self.models.setdefault(model.name.lower(), model)
        if known != model:
            raise ElementError(
                f"diode model {model.name!r} is already defined with other parameters"
            )

    def voltage_source(self, name, plus, minus, volts=0.0):
        """An independent source: ``v(plus) - v(minus) = volts``."""
        self._add(VSOURCE, name, (plus, minus), number(f"voltage source {name!r}", volts))

    def current_source(self, name, a, b, amperes=0.0):
        """An independent source that carries `amperes` from `a` through itself to `b`."""
        self._add(ISOURCE, name, (a, b), number(f"current source {name!r}", amperes))

    def vcvs(self, name, plus, minus, c_plus, c_minus, gain):
        """E: ``v(plus) - v(minus) = gain * (v(c_plus) - v(c_minus))``."""
        self._add(VCVS, name, (plus, minus, c_plus, c_minus), number(f"VCVS {name!r}: gain", gain))

    def vccs(self, name, a, b, c_plus, c_minus, siemens):
        """G: current ``siemens * (v(c_plus) - v(c_minus))`` from `a` to `b`."""
        self._add(
            VCCS, name, (a, b, c_plus, c_minus), number(f"VCCS {name!r}: transconductance", siemens)
        )

    def cccs(self, name, a, b, source, gain):
        """F: gain times the current of the voltage source called `source`, from `a` to `b`."""
        self._add(CCCS, name, (a, b), number(f"CCCS {name!r}: gain", gain))
        self.controls[CCCS].append(str(source).lower())

    def ccvs(self, name, plus, minus, source, ohms):
        """H: v(plus) - v(minus) = ohms times the current of the voltage source called `source`."""
        self._add(CCVS, name, (plus, minus), number(f"CCVS {name!r}: transresistance", ohms))
        self.controls[CCVS].append(str(source).lower())

    def amplifier(self, name, node_in, node_out, gain, *, feedback=None):
        """The bidirectional amplifier of 2006.01981 as one element.

        v(out) = gain v(in), and `feedback` (default 1/gain) times the current that it delivers into
        `out` is drawn from `in`; with the default the circuit keeps an energy, E_before + E_after /
        gain^2.
        """
        gain = number(f"amplifier {name!r}: gain", gain)
        if gain == 0 or abs(gain) > 1e12:
            raise ElementError(
                f"amplifier {name!r}: gain must be non-zero, at most 1e12, got {gain}"
            )
        feedback = (
            1.0 / gain if feedback is None else number(f"amplifier {name!r}: feedback", feedback)
        )
        self._add(AMPLIFIER, name, (node_in, node_out), gain)
        self.feedback.append(feedback)

    def _add(self, kind, name, nodes, value):
        name = str(name)
        check_name(KIND_NAMES[kind], name)
        if name.lower() in self._where:
            raise ElementError(f"an element called {name!r} exists already")
        numbers_ = tuple(self.node(n) for n in nodes)
        self._where[name.lower()] = (kind, len(self.names[kind]))
        self.names[kind].append(name)
        self.nodes[kind].append(numbers_)
        self.values[kind].append(value)
        self.version += 1

    # --- marks ---

    def mark_inputs(self, names):
        """The sources, in order, that the columns of `inputs` set."""
        names = _names(names)
        for name in names:
            if self.find(name)[0] not in (VSOURCE, ISOURCE):
                raise ElementError(f"input {name!r} is not an independent source")
        if len({str(n).lower() for n in names}) < len(names):
            raise ElementError("an input is marked twice")
        self.inputs = [str(n) for n in names]
        self.version += 1

    def mark_outputs(self, nodes):
        """The outputs, in order: a node name, or a pair (plus, minus) whose voltage difference is
        the output.
        """
        pairs = []
        for item in _names(nodes):
            ends = (item, "0") if isinstance(item, (str, numbers.Integral)) else _names(item)
            if len(ends) != 2:
                raise ElementError(f"an output is a node or a pair of nodes, got {item!r}")
            pairs.append((self.find_node(ends[0]), self.find_node(ends[1])))
        self.outputs = pairs
        self.version += 1

    def find(self, name):
        """(kind, index) of the element called `name` (case does not matter); UnknownNodeError if
        there is none.
        """
        try:
            return self._where[str(name).lower()]
        except KeyError:
            raise UnknownNodeError(f"no element is called {name!r}") from None

    # --- conductances as one vector ---

    @property
    def n_nodes(self):
        """Number of nodes, ground included."""
        return len(self.node_names)

    @property
    def conductances(self):
        """Copy of all conductances, resistors and programmable ones, siemens, in the order added."""
        return np.array(self.values[RESISTOR], dtype=np.float64)

    @property
    def trainable_indices(self):
        """Positions of the trainable ones in `conductances`."""
        kept = self.__dict__.get("_trainable")
        if kept is None or kept[0] != self.version:
            kept = self._trainable = (
                self.version,
                np.flatnonzero(np.array(self.trainable, dtype=bool)),
            )
        return kept[1]

    @property
    def bounds(self):
        """(g_min, g_max) of all conductances, siemens."""
        kept = self.__dict__.get("_bounds")
        if kept is None or kept[0] != self.version:
            kept = self._bounds = (self.version, (np.array(self.g_min), np.array(self.g_max)))
        return kept[1]

    def set_conductances(self, siemens, indices=None):
        """Write conductances (all, or those at `indices`), which must be within [g_min, g_max].

        0 is an open circuit, as a device that is stuck off.
        """
        count, g = len(self.values[RESISTOR]), checks.array("siemens", siemens)
        indices = np.arange(count) if indices is None else np.asarray(indices)
        if g.shape != indices.shape:
            raise ElementError(
                f"expected {indices.size} conductances, got an array of shape {g.shape}"
            )
        if indices.size == 0:
            indices = indices.astype(np.int64)
        if indices.dtype.kind not in "iu" or ((indices < 0) | (indices >= count)).any():
            raise ElementError(
                f"indices must be whole numbers from 0 to {count - 1}, got {indices[:5]}"
            )
        low, high = (bound[indices] for bound in self.bounds)
        bad = ~((g >= low) & (g <= np.minimum(high, MAX_SIEMENS)))
        if bad.any():
            k = np.flatnonzero(bad)[0]
            raise ElementError(
                f"conductance {self.names[RESISTOR][indices[k]]!r} set outside its bounds: {g[k]:g} is not "
                f"in [{low[k]:g}, {min(high[k], MAX_SIEMENS):g}]"
            )
        values = self.conductances
        values[indices] = g
        self.values[RESISTOR] = values.tolist()
        self.value_version += 1

    def save_conductances(self, path):
        """Write all conductances as CSV with columns name, from, to, siemens, g_min, g_max,
        trainable.
        """
        with open(os.fspath(path), "w", newline="", encoding="utf-8") as file:
            out = csv.writer(file)
            out.writerow(["name", "from", "to", "siemens", "g_min", "g_max", "trainable"])
            rows = zip(
                self.names[RESISTOR],
                self.nodes[RESISTOR],
                self.values[RESISTOR],
                self.g_min,
                self.g_max,
                self.trainable,
                strict=True,
            )
            for name, (a, b), g, low, high, trainable in rows:
                out.writerow(
                    [
                        name,
                        self.node_names[a],
                        self.node_names[b],
                        repr(g),
                        repr(low),
                        repr(high),
                        int(trainable),
                    ]
                )

    def load_conductances(self, path):
        """Set conductances from a CSV with columns name and siemens; ElementError names the first
        bad line (a name given twice is one).
        """
        found = {}
        try:
            with open(os.fspath(path), newline="", encoding="utf-8") as file:
                text = file.read()
        except UnicodeDecodeError:
            raise ElementError(
                f"{path}: expected CSV text, got something that is not UTF-8"
            ) from None
        rows = csv.DictReader(io.StringIO(text, newline=""))
        try:
            if not {"name", "siemens"} <= set(rows.fieldnames or ()):
                raise ElementError(f"{path}:1: expected columns name and siemens")
            for row in rows:
                where = self._where.get(str(row["name"]).lower(), (None, 0))
                try:
                    g = float(row["siemens"])
                except (TypeError, ValueError):
                    raise ElementError(
                        f"{path}:{rows.line_num}: expected a number, got {row['siemens']!r}"
                    ) from None
                if where[0] != RESISTOR:
                    raise ElementError(
                        f"{path}:{rows.line_num}: no conductance is called {row['name']!r}"
                    )
                if where[1] in found:
                    raise ElementError(f"{path}:{rows.line_num}: {row['name']!r} is given twice")
                found[where[1]] = g
        except csv.Error as error:
            raise ElementError(
                f"{path}:{rows.line_num}: not a CSV file with columns name and siemens ({error})"
            ) from None
        self.set_conductances(np.array(list(found.values())), np.array(list(found), dtype=np.int64))

    def diode_parameters(self):
        """Kernel parameter rows of the diodes (n_diodes, N_PARAMS) and which of them are ideal."""
        rows, ideal = (
            np.zeros((len(self.diode_models), 7)),
            np.zeros(len(self.diode_models), dtype=bool),
        )
        cache = {}
        for k, (name, area) in enumerate(zip(self.diode_models, self.values[DIODE], strict=True)):
            if name == IDEAL:
                ideal[k] = True
                continue
            if (name, area) not in cache:
                if name not in self.models:
                    raise UnknownModelError(
                        f"diode {self.names[DIODE][k]!r}: no model is called {name!r}"
                    )
                model = self.models[name]
                cache[name, area] = model.parameters(area, self.temperature, self.tnom, self.gmin)
            rows[k] = cache[name, area]
        return rows, ideal

    def __repr__(self):
        counts = ", ".join(f"{len(n)} {KIND_NAMES[k]}s" for k, n in enumerate(self.names) if n)
        return f"Netlist({self.title!r}: {self.n_nodes} nodes, {counts})"


def clean_title(title):
    """The title as one line: runs of spaces, line ends and control characters are one space each."""
    printable = "".join(c if c.isprintable() else " " for c in str(title))
    return " ".join(printable.split()) or "circuit"


def check_name(what, name):
    """ElementError if `name` cannot stand in SPICE text, or in a comment there."""
    if not name or _RESERVED.search(name) or not name.isprintable():
        raise ElementError(
            f"{what} name {name!r} is empty or has a character that SPICE reserves or that cannot be printed"
        )


def check_netlist(given):
    """ElementError unless `given` is a Netlist."""
    if not isinstance(given, Netlist):
        raise ElementError(f"netlist must be a Netlist, got {type(given).__name__}")


def _names(given):
    """A list of names, made of one name or a sequence of them."""
    if isinstance(given, (str, numbers.Integral)):
        return [given]
    try:
        return list(given)
    except TypeError:
        raise ElementError(f"expected a name or a sequence of names, got {given!r}") from None


def _node_key(name):
    key = str(name)
    if key in _GROUND:
        return "0"
    check_name("node", key)
    return key
