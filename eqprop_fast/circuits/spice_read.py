"""Reads the documented subset of SPICE (docs/circuits.md) into a Netlist; anything else is an error
with its line.
"""

import os
import re
from dataclasses import dataclass, field, replace

from .elements import CCCS, CCVS, DIODE, IDEAL, RESISTOR, VSOURCE, DiodeModel
from .errors import CircuitError, SpiceError, UnknownModelError
from .netlist import MAX_SIEMENS, Netlist, check_name
from .spice_source import TIME_FUNCTIONS, source_value
from .spice_text import Scope, assignments, fields, logical_lines, value_of

AMPLIFIER_SUBCKT = "eqp_amplifier"
#: What an amplifier is to ngspice, and the only definition of its name that is read.
AMPLIFIER_CARDS = (
    f".subckt {AMPLIFIER_SUBCKT} in out params: gain=1 feedback=1",
    "e1 mid 0 in 0 {gain}",
    "v1 mid out 0",
    "f1 in 0 v1 {feedback}",
    ".ends",
)
#: What stands for an ideal diode in ngspice: about 1 mV forward drop at 1 mA.
IDEAL_CARD = f".model {IDEAL} d (is=1e-15 n=0.001)"
_IDEAL_FIELDS = {"IS": 1e-15, "N": 0.001}
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
_DYNAMIC = {
    "cjo",
    "cj0",
    "cj",
    "cjsw",
    "cjp",
    "vj",
    "pb",
    "m",
    "mj",
    "fc",
    "fcs",
    "tt",
    "kf",
    "af",
    "level",
}
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
# Commands of .control that leave the circuit as it is, and the variables that `set` may change.
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
_VARIABLES = {
    "appendwrite",
    "filetype",
    "height",
    "noaskquit",
    "nobreak",
    "nomoremode",
    "noprintscale",
    "numdgt",
    "units",
    "width",
    "wr_singlescale",
    "wr_vecnames",
}
_SETTINGS = {".param", ".model", ".options", ".option", ".temp"}
_IGNORED_CARDS = {".op", ".print", ".plot", ".save", ".probe", ".width", ".title"}
#: Words that make another element of an E, F, G or H card where they stand for a node, a source or a gain.
BEHAVIOURAL = {
    "poly",
    "table",
    "value",
    "vol",
    "cur",
    "laplace",
    "freq",
    "chebyshev",
    "delay",
    "pwl",
}
_FORMS = {
    "r": "Rname node node ohms",
    "d": "Dname anode cathode model [area=value]",
    "e": "Ename node node control-node control-node gain",
    "g": "Gname node node control-node control-node gain",
    "f": "Fname node node voltage-source gain",
    "h": "Hname node node voltage-source gain",
}
MAX_DEPTH, MAX_EXPANDED, MAX_CHARACTERS = 20, 100_000, 500_000_000


def read_spice(path, *, max_expanded=MAX_EXPANDED):
    """Netlist of a SPICE file.

    Parameters
    ----------
    path : str or os.PathLike
    max_expanded : int
        How many cards all instances of subcircuits together may expand to; checked before any is
        expanded.

    Raises
    ------
    SpiceError
        With file, line and what was expected.
    CircuitError
        For what only the whole circuit shows (an unknown model, for instance).
    OSError
        The file cannot be read.
    """
    # Bytes that are not UTF-8 may stand in comments; in a card they are refused by name.
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        text = file.read(MAX_CHARACTERS + 1)
    return parse_spice(text, file=os.fspath(path), max_expanded=max_expanded)


def parse_spice(text, file="<text>", *, max_expanded=MAX_EXPANDED):
    """Netlist of SPICE text; `file` is the name that error messages give. See `read_spice`."""
    if not isinstance(text, str):
        raise SpiceError(file, 1, f"expected text, got {type(text).__name__}")
    if not text.strip():
        raise SpiceError(file, 1, "expected a title line and cards, got an empty text")
    if len(text) > MAX_CHARACTERS:
        raise SpiceError(file, 1, f"more than {MAX_CHARACTERS} characters")
    try:
        lines = logical_lines(text)
    except ValueError as error:
        line, message = error.args[0]
        raise SpiceError(file, line, message) from None
    title = re.sub(r"^\*[ \t]", "", text.split("\n", 1)[0])
    return _Reader(file, title, lines, max_expanded).read()


@dataclass
class _Subckt:
    name: str
    line: int
    ports: list
    defaults: dict
    cards: list = field(default_factory=list)

    def instances(self):
        """(line, name of the subcircuit) of each X card."""
        return [(c.number, c.fields[0][-1]) for c in self.cards if c.word[:1] == "x"]


@dataclass
class _Place:
    """Where elements are added: at the top, or in an instance of a subcircuit."""

    names: Scope
    prefix: str = ""
    ports: dict = field(default_factory=dict)
    models: dict = field(default_factory=dict)
    depth: int = 0

    def node(self, text):
        if text in ("0", "gnd"):
            return "0"
        return self.ports.get(text) or f"{self.prefix}{text}"

    def element(self, text):
        return f"{text[0]}.{self.prefix}{text}" if self.prefix else text

    def value(self, text):
        return value_of(text, self.names)


class _Reader:
    def __init__(self, file, title, lines, max_expanded):
        self.file, self.lines, self.max_expanded = file, lines, max_expanded
        self.net = Netlist(title)
        self.params, self.subckts, self.models, self.temperature = {}, {}, {}, None
        self.diode_lines, self.control_lines = [], {CCCS: [], CCVS: []}
        self.marks = {"input": [], "output": [], "alias": {}}

    def read(self):
        top = self._split()
        # Parameters and models hold for the whole file wherever they stand, as in ngspice; of a
        # parameter's definitions the last one counts.
        definitions = {}
        for card in top:
            if card.word == ".param":
                self._guard(card.number, self._definitions, card, definitions)
        self.params = Scope(definitions, {}, self._fail)
        for card in top:
            if card.word in (".model", ".options", ".option", ".temp"):
                self._guard(card.number, self._setting, card)
        if self.temperature is not None:  # .temp counts more than options, in whatever order
            self.net.temperature = self.temperature
        self._bound_expansion(top)
        place = _Place(self.params, models=self.models)
        for card in top:
            if not card.text:
                self._guard(card.number, self._mark, card.note)
            elif card.word[0] != ".":
                self._guard(card.number, self._element, card, place)
        self._finish()
        return self.net

    def _fail(self, line, message):
        raise SpiceError(self.file, line, message)

    def _guard(self, line, function, *arguments):
        try:
            return function(*arguments)
        except SpiceError:
            raise
        except (CircuitError, ValueError, ArithmeticError) as error:
            raise SpiceError(self.file, line, str(error)) from error

    # --- which card belongs where ---

    def _split(self):
        """The cards at the top; those of subcircuits go to `self.subckts`."""
        top, current, control, ended = [], None, None, None
        for card in self.lines:
            word = card.word
            if ended is not None:
                self._guard(card.number, self._after_end, card, ended)
            elif control is not None:
                self._guard(card.number, self._command, card)
                if word == ".endc":
                    control = None
            elif word == ".subckt":
                if current:
                    self._fail(card.number, "expected .ends before another .subckt")
                current = self._guard(card.number, self._subckt_head, card)
            elif word == ".ends":
                self._guard(card.number, self._subckt_end, card, current)
                current = None
            elif word in (".control", ".end"):
                if len(card.text.split()) > 1:
                    self._fail(card.number, f"expected {word} alone, got {card.text[:60]!r}")
                if word == ".end":
                    ended = card.number
                else:
                    control = card.number
            else:
                self._guard(card.number, self._place_of, card, current, top)
        if current:
            self._fail(current.line, "expected .ends before the end of the file")
        if control is not None:
            self._fail(control, "expected .endc before the end of the file")
        return top

    def _place_of(self, card, current, top):
        word = card.word
        if card.note and card.text and word[0] != "r":
            raise ValueError("'; @' says something of resistors only")
        if word in _IGNORED_CARDS and not current:
            return
        if current:
            if word[:1] == "." and word not in (".model", ".param"):
                raise ValueError(f"{word} is not supported inside .subckt")
            if not word:
                raise ValueError("'*@' is not supported inside .subckt")
        elif word[:1] == "." and word not in _SETTINGS:
            raise ValueError(
                f"card {word!r} is outside the subset: expected .op .model .param .subckt "
                ".ends .options .temp .control or .end"
            )
        if word:
            first = word[0]
            if first not in "rdviefghx.":
                raise ValueError(f"expected an element R D V I E F G H or X, got {word[:40]!r}")
            calls = BEHAVIOURAL if first in "efgh" else TIME_FUNCTIONS if first in "vi" else ()
            if word == ".model":
                calls = card.text.partition("(")[0].split()[-1:]  # the type
            words = fields(card.text, calls)
            if first == "x":
                words = _without_params(words)
            elif word in (".temp", ".options", ".option") and "(" in re.sub(
                r"{.*?}|'.*?'", "", card.text
            ):
                raise ValueError(f"unexpected '(' in {card.text[:60]!r}")
            elif first == ".":
                words = [w for w in words if w not in ("(", ")")]
            card.fields = (words, {}) if first in "vi" else assignments(words)
            if first == "x" and len(card.fields[0]) < 3:
                raise ValueError("expected Xname node ... subcircuit")
        (current.cards if current else top).append(card)

    @staticmethod
    def _after_end(card, ended):
        if not card.text or card.word[0] in "rdviefghx.":
            raise ValueError(
                f"{card.text[:40] or '*@'!r} follows .end in line {ended}, "
                "where ngspice reads on and other programs stop"
            )

    @staticmethod
    def _command(card):
        if card.word == ".endc" and card.text == ".endc":
            return
        if not card.text:
            raise ValueError("'*@' is not supported inside .control")
        if card.word not in _COMMANDS:
            raise ValueError(
                f"command {card.text[:40]!r} may change the circuit and is not supported"
            )
        if card.word in ("set", "unset"):
            for name in re.sub(r"\s*=\s*", "=", card.text).split()[1:]:
                if name.split("=")[0] not in _VARIABLES:
                    raise ValueError(
                        f"command {card.text[:40]!r} may change the circuit and is not supported: "
                        f"{name[:40]!r} is none of {' '.join(sorted(_VARIABLES))}"
                    )

    def _subckt_head(self, card):
        plain, pairs = assignments(_without_params(fields(card.text)[1:]))
        if len(plain) < 2:
            raise ValueError("expected .subckt name node ...")
        name, *ports = plain
        for word in plain:
            check_name("subcircuit or node", word)
        if name in self.subckts:
            raise ValueError(f"subcircuit {name!r} is defined twice")
        if len(set(ports)) < len(ports):
            raise ValueError(f"subcircuit {name!r} names a node twice")
        if not {"0", "gnd"}.isdisjoint(ports):
            raise ValueError(f"subcircuit {name!r}: ground cannot be one of its nodes")
        if "m" in pairs:
            raise ValueError(f"subcircuit {name!r}: 'm', ngspice's multiplier, is not supported")
        made = self.subckts[name] = _Subckt(name, card.number, ports, pairs)
        return made

    def _subckt_end(self, card, current):
        if not current:
            raise ValueError("expected .subckt before .ends")
        if card.text.split()[1:] not in ([], [current.name]):
            raise ValueError(f"expected .ends {current.name}, got {card.text[:60]!r}")
        if current.name == AMPLIFIER_SUBCKT:
            theirs = [" ".join(fields(c.text)) for c in current.cards]
            if (
                theirs != [" ".join(fields(c)) for c in AMPLIFIER_CARDS[1:-1]]
                or current.ports != ["in", "out"]
                or set(current.defaults) != {"gain", "feedback"}
            ):
                raise ValueError(
                    f"expected {AMPLIFIER_SUBCKT} as to_spice writes it: {AMPLIFIER_CARDS}"
                )

    def _bound_expansion(self, top):
        """Refuse recursion, depth and size of the instances before expanding any."""
        sizes = {AMPLIFIER_SUBCKT: (0, 0)}  # name: cards, depth

        def size(name, path):
            if name in path:
                circle = " -> ".join([*path[path.index(name) :], name])
                raise ValueError(
                    f"subcircuits nested deeper than {MAX_DEPTH}: {name!r} contains itself, {circle}"
                )
            if len(path) >= MAX_DEPTH:
                raise ValueError(f"subcircuits nested deeper than {MAX_DEPTH}")
            if name not in sizes and name in self.subckts:
                subckt = self.subckts[name]
                inside = [
                    self._guard(line, size, kind, (*path, name))
                    for line, kind in subckt.instances()
                ]
                sizes[name] = (
                    len(subckt.cards) + sum(cards for cards, _ in inside) + len(subckt.defaults),
                    1 + max((depth for _, depth in inside), default=0),
                )
            found = sizes.get(name, (0, 0))
            if len(path) + found[1] > MAX_DEPTH:
                raise ValueError(f"subcircuits nested deeper than {MAX_DEPTH}")
            return found

        total = 0
        for card in top:
            if card.word[:1] == "x":
                total += self._guard(card.number, size, card.fields[0][-1], ())[0]
                if total > self.max_expanded:
                    self._fail(
                        card.number,
                        f"the instances of subcircuits expand to more than {self.max_expanded} cards "
                        "(max_expanded=)",
                    )

    # --- parameters, models, options ---

    def _setting(self, card):
        plain, pairs = card.fields
        if card.word == ".model":
            self._model(card, self.params, self.models)
        elif card.word == ".temp":
            if len(plain) != 2 or pairs or "," in card.text.replace(plain[1], ""):
                raise ValueError("expected .temp value")
            if plain[1][0] not in "{'":
                # ngspice takes no suffix here, and lets such a card go with a warning
                float(plain[1])
            self.temperature = self._temperature(plain[1])
        else:
            self._options(plain[1:], pairs)

    def _options(self, flags, pairs):
        for name in flags:
            if name not in _HARMLESS_OPTIONS:
                raise ValueError(f"option {name!r} is not supported")
        for name, text in pairs.items():
            if name == "gmin":
                gmin = self._option(text)
                if not 0 <= gmin <= 1:
                    raise ValueError(f"option gmin must be between 0 and 1, got {gmin}")
                self.net.gmin = gmin
            elif name in ("temp", "tnom"):
                setattr(
                    self.net, "temperature" if name == "temp" else "tnom", self._temperature(text)
                )
            elif name not in _HARMLESS_OPTIONS:
                raise ValueError(f"option {name!r} is not supported")
            else:
                self._option(text)

    def _option(self, text):
        """Value of an option: ngspice knows no parameter there but in braces or quotes."""
        return value_of(text, self.params if text[0] in "{'" else {})

    def _temperature(self, text):
        value = self._option(text)
        if not -272 <= value <= 2000:
            raise ValueError(f"expected a temperature in degree Celsius, got {value}")
        return value

    @staticmethod
    def _definitions(card, into):
        """Put the definitions of a .param card into a dictionary of name -> (text, line)."""
        flags, pairs = card.fields
        if len(flags) > 1 or not pairs:
            raise ValueError(f"expected .param name=value, got {card.text[:60]!r}")
        into.update({name: (text, card.number) for name, text in pairs.items()})

    def _model(self, card, names, models):
        (_, *plain), pairs = card.fields
        if len(plain) < 2:
            raise ValueError("expected .model name D (parameter=value ...)")
        name, kind = plain[0], plain[1]
        if kind != "d" or len(plain) > 2:
            raise ValueError(
                f"expected .model {name} D (parameter=value ...), got type {' '.join(plain[1:])!r}"
            )
        check_name("model", name)
        if name in models:
            raise ValueError(f"model {name!r} is defined twice")
        given = {}
        for key, text in pairs.items():
            value = value_of(text, names)
            if key in _MODEL_FIELDS:
                if _MODEL_FIELDS[key] in given:
                    raise ValueError(f"diode model parameter {key!r} is given twice, by two names")
                given[_MODEL_FIELDS[key]] = value
            elif key not in _DYNAMIC:
                raise ValueError(
                    f"diode model parameter {key!r} is outside the subset: expected one of "
                    + " ".join(sorted(_MODEL_FIELDS))
                )
            elif key == "level" and value != 1:
                raise ValueError("expected level=1")
        if name == IDEAL and given not in ({}, _IDEAL_FIELDS):
            raise ValueError(
                f"the model name {IDEAL!r} stands for the ideal diode, which has no parameters: "
                "give this model another name"
            )
        models[name] = IDEAL if name == IDEAL else DiodeModel(name, **given)

    # --- elements ---

    def _element(self, card, place):
        """Add one card's element, or elements."""
        plain, pairs = card.fields
        if not plain:
            raise ValueError(f"expected an element, got {card.text[:40]!r}")
        getattr(self, f"_{card.word[0]}")(card, place, list(plain), dict(pairs))

    @staticmethod
    def _need(card, plain, pairs, count):
        if len(plain) != count or pairs:
            raise ValueError(f"expected {_FORMS[card.word[0]]}, got {card.text[:60]!r}")

    def _r(self, card, place, plain, pairs):
        if len(plain) == 3 and set(pairs) <= {"r", "resistance"} and len(pairs) == 1:
            plain.append(pairs.popitem()[1])
        self._need(card, plain, pairs, 4)
        name, a, b = place.element(plain[0]), place.node(plain[1]), place.node(plain[2])
        ohms = place.value(plain[3])
        if card.note:
            self.net.conductance(name, a, b, **_annotation(card.note, ohms, name))
        else:
            self.net.resistor(name, a, b, ohms)

    def _d(self, card, place, plain, pairs):
        area = place.value(pairs.pop("area")) if "area" in pairs else None
        if len(plain) > 4 and plain[-1] == "off":  # a hint for the first iteration
            plain.pop()
        if len(plain) == 5 and area is None:
            area = place.value(plain.pop())
        self._need(card, plain, pairs, 4)
        name = plain[3]
        model = place.models.get(name) or self.models.get(name) or name
        if name == IDEAL:
            model = IDEAL
        elif place.prefix and name in place.models:
            model = replace(model, name=f"{place.prefix}{name}")
        self.diode_lines.append(card.number)
        ends = place.node(plain[1]), place.node(plain[2])
        self.net.diode(place.element(plain[0]), *ends, model, area=1.0 if area is None else area)

    def _v(self, card, place, plain, pairs):
        if len(plain) < 3:
            raise ValueError(
                f"expected {card.word[0].upper()}name node node [dc] value, got {card.text[:60]!r}"
            )
        add = self.net.voltage_source if card.word[0] == "v" else self.net.current_source
        value = source_value(plain[3:], place.value)
        add(place.element(plain[0]), place.node(plain[1]), place.node(plain[2]), value)

    _i = _v

    def _e(self, card, place, plain, pairs):
        self._refuse_behavioural(plain)
        self._need(card, plain, pairs, 6)
        add = self.net.vcvs if card.word[0] == "e" else self.net.vccs
        add(place.element(plain[0]), *(place.node(p) for p in plain[1:5]), place.value(plain[5]))

    _g = _e

    def _f(self, card, place, plain, pairs):
        self._refuse_behavioural(plain)
        self._need(card, plain, pairs, 5)
        kind, add = (CCCS, self.net.cccs) if card.word[0] == "f" else (CCVS, self.net.ccvs)
        source = f"v.{place.prefix}{plain[3]}" if place.prefix else plain[3]
        self.control_lines[kind].append(card.number)
        ends = place.node(plain[1]), place.node(plain[2])
        add(place.element(plain[0]), *ends, source, place.value(plain[4]))

    _h = _f

    @staticmethod
    def _refuse_behavioural(plain):
        found = BEHAVIOURAL.intersection(plain[1:])
        if found:
            raise ValueError(f"{found.pop()!r} is not supported: expected {_FORMS[plain[0][0]]}")

    def _x(self, card, place, plain, pairs):
        kind, given = plain[-1], [place.node(p) for p in plain[1:-1]]
        if kind not in self.subckts:
            raise ValueError(f"unknown subcircuit {kind!r}")
        subckt = self.subckts[kind]
        if len(given) != len(subckt.ports):
            raise ValueError(
                f"expected {len(subckt.ports)} nodes of subcircuit {kind!r}, got {len(given)}"
            )
        unknown = set(pairs) - set(subckt.defaults)
        if unknown:
            raise ValueError(f"subcircuit {kind!r} has no parameter {sorted(unknown)[0]!r}")
        # As in ngspice: the call's values take the places of the defaults (and of .param cards
        # inside), and everything is evaluated together, inside.
        definitions = {k: (t, subckt.line) for k, t in subckt.defaults.items()}
        for inner in subckt.cards:
            if inner.word == ".param":
                self._guard(inner.number, self._definitions, inner, definitions)
        definitions.update({k: (t, card.number) for k, t in pairs.items()})
        names = Scope(definitions, place.names, self._fail)
        name = place.element(plain[0])
        if kind == AMPLIFIER_SUBCKT:
            self.net.amplifier(name, *given, names["gain"], feedback=names["feedback"])
            return
        path = f"{name[2:] if place.prefix else name}."
        inside = _Place(
            names, path, dict(zip(subckt.ports, given, strict=True)), {}, place.depth + 1
        )
        for inner in subckt.cards:
            if inner.word == ".model":
                self._guard(inner.number, self._model, inner, names, inside.models)
        for inner in subckt.cards:
            if inner.word[0] != ".":
                self._guard(inner.number, self._element, inner, inside)

    # --- what stands in comments ---

    def _mark(self, text):
        words = text.split()
        if not words:
            return
        if words[0] == "input" and len(words) > 1:
            self.marks["input"] += words[1:]
        elif words[0] == "output" and len(words) in (2, 3):
            self.marks["output"].append([w.lower() for w in words[1:]])
        elif words[0] == "alias" and len(words) == 3:
            if words[1].lower() in self.marks["alias"]:
                raise ValueError(f"node {words[1]!r} has two aliases")
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
                        self.file,
                        line,
                        f"{name!r} is controlled by {source!r}, which is no voltage source",
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


def _without_params(words):
    """The fields without a `params:` in front of the name=value pairs."""
    if "params:" not in words:
        return words
    at = words.index("params:")
    if words[at + 2 : at + 3] not in ([], ["="]):
        raise ValueError("expected name=value after params:")
    return words[:at] + words[at + 1 :]


def _annotation(note, ohms, name):
    """Arguments of `Netlist.conductance` of a resistor and its `; @ ...`."""
    flags, pairs = assignments(fields(note.lower()))
    if not set(pairs) <= {"g_min", "g_max"} or flags not in ([], ["trainable"], ["fixed"]):
        raise ValueError(f"expected ; @ g_min=value g_max=value [trainable], got {note[:60]!r}")
    low = float(pairs.get("g_min", "0"))
    high = float(pairs.get("g_max", "inf"))
    if not ohms > 0 or 1.0 / ohms == float("inf"):
        raise ValueError(f"resistor {name!r}: resistance must be positive, got {ohms}")
    g = 1.0 / ohms
    near = min(max(g, low), high, MAX_SIEMENS) if low <= high else g
    g = near if abs(near - g) <= 1e-12 * g else g  # 1/(1/g) may be one bit outside its bounds
    return {"siemens": g, "g_min": low, "g_max": high, "trainable": "trainable" in flags}
