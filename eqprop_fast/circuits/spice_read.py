"""Reads the documented subset of SPICE (docs/circuits.md) into a Netlist; anything else is an error with its
line.
"""

import os

from .elements import CCCS, CCVS, DIODE, IDEAL, RESISTOR, VSOURCE, DiodeModel
from .errors import CircuitError, SpiceError, UnknownModelError
from .netlist import Netlist
from .spice_text import Scope, assignments, fields, logical_lines, value_of

AMPLIFIER_SUBCKT = "eqp_amplifier"
_MODEL_FIELDS = {
    "is": "IS",
    "js": "IS",
    "n": "N",
    "rs": "RS",
    "eg": "EG",
    "xti": "XTI",
    "tnom": "TNOM",
    "tref": "TNOM",
    "bv": "BV",
    "ibv": "IBV",
}
_DYNAMIC = {"cjo", "cj0", "cj", "cjsw", "cjp", "vj", "pb", "m", "mj", "fc", "fcs", "tt", "kf", "af", "level"}
_HARMLESS_OPTIONS = {
    "reltol",
    "abstol",
    "vntol",
    "numdgt",
    "itl1",
    "itl2",
    "itl4",
    "itl6",
    "pivrel",
    "pivtol",
    "acct",
    "noacct",
    "nopage",
    "nomod",
    "list",
    "node",
    "opts",
    "srcsteps",
    "gminsteps",
    "warn",
}
_COMMANDS = {
    "op",
    "run",
    "print",
    "write",
    "wrdata",
    "set",
    "unset",
    "echo",
    "quit",
    "exit",
    "let",
    "display",
    "show",
    "save",
    "listing",
}
_IGNORED_CARDS = {".op", ".print", ".plot", ".save", ".probe", ".width", ".title"}
MAX_DEPTH, MAX_ELEMENTS = 20, 5_000_000


def read_spice(path):
    """Netlist of a SPICE file.

    Parameters
    ----------
    path : str or os.PathLike

    Raises
    ------
    SpiceError
        With file, line and what was expected.
    CircuitError
        For what only the whole circuit shows (an unknown model, for instance).
    """
    with open(path, encoding="utf-8", errors="replace") as file:
        return parse_spice(file.read(), file=os.fspath(path))


def parse_spice(text, file="<text>"):
    """Netlist of SPICE text; `file` is the name that error messages give. See `read_spice`."""
    if not isinstance(text, str):
        raise SpiceError(file, 1, f"expected text, got {type(text).__name__}")
    first = text.splitlines()[0].strip() if text.strip() else ""
    if not text.strip():
        raise SpiceError(file, 1, "expected a title line and cards, got an empty text")
    try:
        lines = logical_lines(text)
    except ValueError as error:
        line, message = error.args[0]
        raise SpiceError(file, line, message) from None
    return _Reader(file, first.lstrip("* ").strip() or "circuit", lines).read()


class _Reader:
    def __init__(self, file, title, lines):
        self.file, self.lines = file, lines
        self.net = Netlist(title)
        self.params, self.subckts, self.models = {}, {}, {}
        self.diode_lines, self.control_lines, self.count = [], {CCCS: [], CCVS: []}, 0
        self.marks = {"input": [], "output": [], "alias": {}}

    def read(self):
        top = self._split_subckts()
        # Parameters and models hold for the whole file wherever they stand, as in ngspice; of a parameter's
        # definitions the last one counts.
        definitions = {}
        for line, card, _ in top:
            if card.startswith(".param"):
                self._guard(line, self._definitions, card, line, definitions)
        self.params = Scope(definitions, {}, self._fail)
        for line, card, _ in top:
            if card.startswith((".model", ".option", ".temp")):
                self._guard(line, self._setting, card)
        for line, card, annotation in top:
            if not card:
                self._guard(line, self._mark, annotation)
            elif not card.startswith("."):
                self._guard(line, self._element, card, annotation, line, "", {}, self.params, 0)
        self._finish()
        return self.net

    def _guard(self, line, function, *arguments):
        try:
            return function(*arguments)
        except SpiceError:
            raise
        except (CircuitError, ValueError, ArithmeticError) as error:
            raise SpiceError(self.file, line, str(error)) from error

    def _split_subckts(self):
        top, current, control, ended = [], None, None, None
        for line, card, annotation in self.lines:
            word = card.split(None, 1)[0] if card else ""
            if ended is not None:
                break
            if control is not None:
                if word == ".endc":
                    control = None
                elif word and word not in _COMMANDS:
                    raise SpiceError(
                        self.file, line, f"command {word!r} may change the circuit and is not supported"
                    )
                continue
            if word == ".subckt":
                if current:
                    raise SpiceError(self.file, line, "expected .ends before another .subckt")
                current = self._guard(line, self._subckt_head, card)
                current["line"] = line
            elif word == ".ends":
                if not current:
                    raise SpiceError(self.file, line, "expected .subckt before .ends")
                current = None
            elif word == ".control":
                control = line
            elif word == ".end":
                ended = line
            elif current is not None:
                if word.startswith(".") and word != ".model" and word != ".param":
                    raise SpiceError(self.file, line, f"{word} is not supported inside .subckt")
                current["cards"].append((line, card, annotation))
            elif word.startswith(".") and word not in _IGNORED_CARDS:
                if word not in (".param", ".model", ".options", ".option", ".temp"):
                    raise SpiceError(
                        self.file,
                        line,
                        f"card {word!r} is outside the subset: expected .op .model .param .subckt "
                        ".ends .options .temp .control or .end",
                    )
                top.append((line, card, annotation))
            elif word not in _IGNORED_CARDS:
                top.append((line, card, annotation))
        if current:
            raise SpiceError(self.file, current["line"], "expected .ends before the end of the file")
        if control is not None:
            raise SpiceError(self.file, control, "expected .endc before the end of the file")
        return top

    def _subckt_head(self, card):
        words = [w for w in fields(card)[1:] if w not in ("params:", "params", ":")]
        plain, pairs = assignments(words)
        if len(plain) < 2:
            raise ValueError("expected .subckt name node ...")
        if plain[0] in self.subckts:
            raise ValueError(f"subcircuit {plain[0]!r} is defined twice")
        if len(set(plain[1:])) < len(plain) - 1:
            raise ValueError(f"subcircuit {plain[0]!r} names a node twice")
        made = self.subckts[plain[0]] = {"ports": plain[1:], "defaults": pairs, "cards": [], "line": None}
        return made

    def _setting(self, card):
        words = fields(card)
        head = words[0]
        if head == ".model":
            self._model(words, self.params, self.models)
            return
        if head == ".temp":
            if len(words) != 2:
                raise ValueError("expected .temp value")
            self.net.temperature = self._temperature(words[1])
            return
        flags, pairs = assignments(words[1:])
        for name in flags:
            if name not in _HARMLESS_OPTIONS:
                raise ValueError(f"option {name!r} is not supported")
        for name, text in pairs.items():
            if name == "gmin":
                gmin = value_of(text, self.params)
                if not 0 <= gmin <= 1:
                    raise ValueError(f"option gmin must be between 0 and 1, got {gmin}")
                self.net.gmin = gmin
            elif name in ("temp", "tnom"):
                setattr(self.net, "temperature" if name == "temp" else "tnom", self._temperature(text))
            elif name not in _HARMLESS_OPTIONS:
                raise ValueError(f"option {name!r} is not supported")

    def _temperature(self, text):
        value = value_of(text, self.params)
        if not -272 <= value <= 2000:
            raise ValueError(f"expected a temperature in degree Celsius, got {value}")
        return value

    @staticmethod
    def _definitions(card, line, into):
        """Put the definitions of a .param card into a dictionary of name -> (text, line)."""
        flags, pairs = assignments(fields(card)[1:])
        if flags:
            raise ValueError(f"expected .param name=value, got {flags[0]!r}")
        into.update({name: (text, line) for name, text in pairs.items()})

    def _fail(self, line, message):
        raise SpiceError(self.file, line, message)

    def _model(self, words, names, models):
        plain, pairs = assignments(words[1:])
        if len(plain) < 2:
            raise ValueError("expected .model name D (parameter=value ...)")
        name, kind = plain[0], plain[1]
        if kind != "d" or len(plain) > 2:
            raise ValueError(
                f"expected .model {name} D (parameter=value ...), got type {' '.join(plain[1:])!r}"
            )
        if name in models:
            raise ValueError(f"model {name!r} is defined twice")
        given = {}
        for key, text in pairs.items():
            if key in _MODEL_FIELDS:
                given[_MODEL_FIELDS[key]] = value_of(text, names)
            elif key not in _DYNAMIC:
                raise ValueError(
                    f"diode model parameter {key!r} is outside the subset: expected one of "
                    + " ".join(sorted(_MODEL_FIELDS))
                )
            elif key == "level" and value_of(text, names) != 1:
                raise ValueError("expected level=1")
        models[name] = IDEAL if name == IDEAL else DiodeModel(name, **given)

    def _element(self, card, annotation, line, prefix, ports, names, depth, models=None):
        """Add one card; inside a subcircuit `prefix` is its instance path and `ports` maps its nodes."""
        self.count += 1
        if self.count > MAX_ELEMENTS:
            raise ValueError(f"more than {MAX_ELEMENTS} elements")
        words = fields(card)
        plain, pairs = assignments([w for w in words if w not in ("params:",)])
        if not plain:
            raise ValueError(f"expected an element, got {card[:40]!r}")
        name, kind = plain[0], plain[0][0]
        full = f"{kind}.{prefix}{name}" if prefix else name

        def node(text):
            if text in ("0", "gnd"):
                return "0"
            return ports.get(text) or f"{prefix}{text}"

        def value(text):
            return value_of(text, names)

        def need(count, form):
            if len(plain) != count or pairs:
                raise ValueError(f"expected {form}, got {card[:60]!r}")

        net = self.net
        if kind == "r":
            if len(plain) == 3 and set(pairs) <= {"r", "resistance"} and len(pairs) == 1:
                plain.append(pairs.popitem()[1])
            need(4, "Rname node node ohms")
            self._resistor(full, node(plain[1]), node(plain[2]), value(plain[3]), annotation)
        elif kind == "d":
            area = value(pairs.pop("area")) if "area" in pairs else 1.0
            if len(plain) == 5 and plain[4] != "off":
                area = value(plain.pop())
            if plain[-1] == "off":
                plain.pop()
            need(4, "Dname anode cathode model [area=value]")
            model = (models or {}).get(plain[3]) or self.models.get(plain[3]) or plain[3]
            if plain[3] == IDEAL:
                model = IDEAL
            if isinstance(model, DiodeModel) and models and plain[3] in models:
                model = DiodeModel(
                    f"{prefix}{model.name}",
                    **{k: getattr(model, k) for k in ("IS", "N", "RS", "EG", "XTI", "TNOM", "BV", "IBV")},
                )
            self.diode_lines.append(line)
            net.diode(full, node(plain[1]), node(plain[2]), model, area=area)
        elif kind in "vi":
            rest = plain[3:]
            if set(pairs) == {"dc"}:
                rest = ["dc", pairs.pop("dc")]
            if "ac" in rest:
                rest = rest[: rest.index("ac")]  # small-signal only
            rest = rest[1:] if rest[:1] == ["dc"] else rest
            if len(plain) < 3 or len(rest) > 1 or pairs:
                raise ValueError(f"expected {kind.upper()}name node node [dc] value, got {card[:60]!r}")
            add = net.voltage_source if kind == "v" else net.current_source
            add(full, node(plain[1]), node(plain[2]), value(rest[0]) if rest else 0.0)
        elif kind in "eg":
            need(6, f"{kind.upper()}name node node control-node control-node gain")
            add = net.vcvs if kind == "e" else net.vccs
            add(full, *(node(p) for p in plain[1:5]), value(plain[5]))
        elif kind in "fh":
            need(5, f"{kind.upper()}name node node voltage-source gain")
            source = f"v.{prefix}{plain[3]}" if prefix else plain[3]
            self.control_lines[CCCS if kind == "f" else CCVS].append(line)
            (net.cccs if kind == "f" else net.ccvs)(
                full, node(plain[1]), node(plain[2]), source, value(plain[4])
            )
        elif kind == "x":
            self._instance(full, plain, pairs, node, names, prefix, depth, line)
        else:
            raise ValueError(f"expected an element R D V I E F G H or X, got {name!r}")

    def _resistor(self, name, a, b, ohms, annotation):
        if not annotation:
            self.net.resistor(name, a, b, ohms)
            return
        flags, pairs = assignments(fields(annotation.lower()))
        if not set(pairs) <= {"g_min", "g_max"} or not set(flags) <= {"trainable", "fixed"}:
            raise ValueError(f"expected ; @ g_min=value g_max=value [trainable], got {annotation[:60]!r}")
        low = float(pairs.get("g_min", "0"))
        high = float(pairs.get("g_max", "inf"))
        if not ohms > 0:
            raise ValueError(f"resistor {name!r}: resistance must be positive, got {ohms}")
        g = 1.0 / ohms
        near = min(max(g, low), high) if low <= high else g
        g = near if abs(near - g) <= 1e-12 * g else g  # 1/(1/g) may be one bit outside its bounds
        self.net.conductance(name, a, b, g, g_min=low, g_max=high, trainable="trainable" in flags)

    def _instance(self, name, plain, pairs, node, names, prefix, depth, line):
        if depth >= MAX_DEPTH:
            raise ValueError(f"subcircuits nested deeper than {MAX_DEPTH} (does one contain itself?)")
        if len(plain) < 3:
            raise ValueError("expected Xname node ... subcircuit")
        kind, given = plain[-1], [node(p) for p in plain[1:-1]]
        if kind not in self.subckts:
            raise ValueError(f"unknown subcircuit {kind!r}")
        subckt = self.subckts[kind]
        if len(given) != len(subckt["ports"]):
            raise ValueError(
                f"expected {len(subckt['ports'])} nodes of subcircuit {kind!r}, got {len(given)}"
            )
        unknown = set(pairs) - set(subckt["defaults"])
        if unknown:
            raise ValueError(f"subcircuit {kind!r} has no parameter {sorted(unknown)[0]!r}")
        # As in ngspice: the call's values take the places of the defaults (and of .param cards inside), and
        # everything is evaluated together, inside.
        definitions = {k: (t, subckt["line"]) for k, t in subckt["defaults"].items()}
        for at, card, _ in subckt["cards"]:
            if card.startswith(".param"):
                self._guard(at, self._definitions, card, at, definitions)
        definitions.update({k: (t, line) for k, t in pairs.items()})
        inner = Scope(definitions, names, self._fail)
        if kind == AMPLIFIER_SUBCKT:
            if set(subckt["defaults"]) != {"gain", "feedback"} or len(given) != 2:
                raise ValueError(f"expected .subckt {AMPLIFIER_SUBCKT} in out params: gain=... feedback=...")
            self.net.amplifier(name, *given, inner["gain"], feedback=inner["feedback"])
            return
        path = f"{name[2:] if prefix else name}."
        ports, models = dict(zip(subckt["ports"], given, strict=True)), {}
        for at, card, _ in subckt["cards"]:
            if card.startswith(".model"):
                self._guard(at, lambda c: self._model(fields(c), inner, models), card)
        for at, card, annotation in subckt["cards"]:
            if card and not card.startswith("."):
                self._guard(at, self._element, card, annotation, at, path, ports, inner, depth + 1, models)

    def _mark(self, text):
        words = text.split()
        if not words:
            return
        if words[0] == "input" and len(words) > 1:
            self.marks["input"] += words[1:]
        elif words[0] == "output" and len(words) in (2, 3):
            self.marks["output"].append([w.lower() for w in words[1:]])
        elif words[0] == "alias" and len(words) == 3:
            self.marks["alias"][words[1].lower()] = words[2]
        else:
            raise ValueError(
                "expected *@ input source ..., *@ output plus [minus] or *@ alias node name, "
                f"got {text[:60]!r}"
            )

    def _finish(self):
        net = self.net
        if not any(net.names):
            raise SpiceError(self.file, 1, "expected at least one element after the title line")
        for k, model in enumerate(net.diode_models):
            if model != IDEAL and model not in net.models:
                raise UnknownModelError(
                    f"{self.file}:{self.diode_lines[k]}: diode {net.names[DIODE][k]!r}: "
                    f"no model is called {model!r}"
                )
        for kind, lines in self.control_lines.items():
            for line, name, source in zip(lines, net.names[kind], net.controls[kind], strict=True):
                if source not in net._where or net.find(source)[0] != VSOURCE:
                    raise SpiceError(
                        self.file, line, f"{name!r} is controlled by {source!r}, which is no voltage source"
                    )
        try:
            if self.marks["input"]:
                net.mark_inputs(self.marks["input"])
            if self.marks["output"]:
                net.mark_outputs([w[0] if len(w) == 1 else tuple(w) for w in self.marks["output"]])
            for node, name in self.marks["alias"].items():
                net.rename_node(node, name)
        except CircuitError as error:
            raise SpiceError(self.file, 1, f"in a *@ line: {error}") from error
        assert len(net.g_min) == len(net.names[RESISTOR])
