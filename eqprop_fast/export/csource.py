"""NAME.h and NAME.c of one network."""

from __future__ import annotations

import errno
import os
import re
import textwrap
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np

from .. import __version__
from ..kernels.graph_spec import flat_size
from ..training.files import check_writable, write_atomically, write_text
from .curves import CURVES, LARGEST_FLOAT
from .layouts import layout_files
from .model import PROBAS, as_model, check_learn
from .template import c_float, c_string, fill, rename, resolve, runtime_text, table

DTYPES = ("float32", "int16", "int8")
_KEYWORDS = set(
    "auto break case char const continue default do double else enum extern float for goto if "
    "inline int long register restrict return short signed sizeof static struct switch "
    "typedef union unsigned void volatile while alignas alignof and asm bool catch char16_t "
    "char32_t class compl constexpr const_cast decltype delete dynamic_cast explicit export "
    "false friend mutable namespace new noexcept not nullptr operator or private protected "
    "public reinterpret_cast static_assert static_cast template this thread_local throw true "
    "try typeid typename using virtual wchar_t xor main "
    "and_eq bitand bitor char8_t co_await co_return co_yield concept consteval constinit "
    "not_eq or_eq reflexpr requires synchronized typeof typeof_unqual xor_eq".split()
)
_HEADERS = set(
    "assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdalign "
    "stdarg stdatomic stdbool stddef stdint stdio stdlib stdnoreturn string tgmath threads time "
    "uchar wchar wctype".split()
)


def to_c(
    model,
    folder,
    dtype="float32",
    learn=False,
    name="eqnet",
    learning_rate=None,
    layout="plain",
    **integers,
):
    """Write a fitted network as self-contained C: ``name.h`` and ``name.c``.

    Parameters
    ----------
    model : fitted layered or resistive estimator, or NetModel
    folder : path
        Made if it is not there; its parent must be. Files of an earlier export of this name are
        replaced; a manifest of another library is not.
    dtype : {"float32", "int16", "int8"}
        Of the weights. Integers have int16 states and 32-bit sums: `eqprop_fast.export.integers`.
        Resistive networks: "float32" only.
    learn : bool
        With `name_learn`, `name_save`, `name_load`, `name_reset`; the weights are then in RAM.
    name : str
        A C identifier, prefix of the files, and of all symbols. Macros have it in capitals (a name
        with capitals: as it is; of capitals only: in small letters).
    learning_rate : float, sequence of float (one per layer) or None
        Of the device; see `as_model`.
    layout : {"plain", "arduino", "platformio", "zephyr", "esp-idf"}
        Two files, or a folder that this tool takes as a library.
    **integers
        Options of `eqprop_fast.export.integers.quantize`.

    Returns
    -------
    list of Path
        What was written; header and source first.

    Raises
    ------
    ValueError, TypeError, OSError
        Nothing is written then.
    """
    header, source = c_texts(model, dtype, learn, name, learning_rate, **integers)
    files = layout_files(layout, name, header, source)
    files = {Path(folder) / path: text for path, text in files.items()}
    _write_all(Path(folder), files)
    return list(files)


def _write_all(folder, files):
    """All files or none: after an error the folder is as it was."""
    before, made = {}, []
    try:
        for path in (folder, *(p.parent for p in files)):
            if not path.is_dir():
                path.mkdir()  # raises if it is a file, or if its parent is missing
                made.append(path)
        for path, text in files.items():
            check_writable(path)
            _check_replaced(path, text)
        for path, text in files.items():
            before[path] = path.read_bytes() if path.exists() else None
            write_text(path, text)
    except BaseException:
        for path, old in before.items():
            if old is not None:
                write_atomically(path, lambda file, old=old: file.write(old))
            else:
                path.unlink(missing_ok=True)
        for path in reversed(made):
            path.rmdir()
        raise


def _check_replaced(path, text):
    """Refuse to replace what is no earlier export of this network."""
    if not path.exists():
        return
    if path.name not in os.listdir(path.parent):  # capitals are the same to this file system
        raise FileExistsError(
            errno.EEXIST, "name: differs in capitals only from another export's", str(path)
        )
    if path.suffix in (".c", ".h"):
        return
    old, new = path.read_text(encoding="utf-8", errors="replace"), text
    version = re.compile(r"\d+\.\d+[^\s\"]*")
    if version.sub("", old) != version.sub("", new):
        raise FileExistsError(
            errno.EEXIST, "layout: there is another library's or project's file", str(path)
        )


def c_texts(model, dtype="float32", learn=False, name="eqnet", learning_rate=None, **integers):
    """The texts of ``name.h`` and ``name.c``; parameters as of `to_c`."""
    dtype, learn = dtype_name(dtype), bool(learn)
    check_name(name)
    model = as_model(model, learning_rate)
    if learn:
        check_learn(model)
    if dtype == "float32":
        if integers:
            raise TypeError(f"{sorted(integers)}: only for integers, not for dtype='float32'")
        options = {}
    else:
        model = model.folded(learn)
        options = {"dtype": dtype, **integers}
    return _parts_class(model, dtype)(model, learn=learn, **options).texts(name)


def dtype_name(dtype, known=DTYPES):
    """One of `known`, for a word or for what NumPy takes as a dtype.

    Raises
    ------
    ValueError
    """
    name = dtype
    if isinstance(dtype, (type, np.dtype)):
        with suppress(TypeError):
            name = np.dtype(dtype).name
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"dtype must be one of {known}, got {dtype!r}")
    return name


def _parts_class(model, dtype):
    from .integers import IntegerParts  # here, because these need the parts below
    from .resistive import ResistiveParts

    if dtype != "float32":
        return IntegerParts
    return ResistiveParts if model.is_resistive else FloatParts


def check_name(name):
    """Refuse what is no C identifier.

    Raises
    ------
    ValueError
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,40}", name):
        raise ValueError(
            f"name must be a C identifier of at most 41 characters, a letter first, got {name!r}"
        )
    if name.lower() in _KEYWORDS:
        raise ValueError(f"name={name!r} is a word of C or C++")
    if name.lower() in _HEADERS:
        raise ValueError(f"name={name!r}: {name}.h would stand in for C's own header")
    if "__" in name or name.endswith("_"):
        raise ValueError(f"name={name!r}: C++ reserves names with two underscores in a row")


def map_numbers(model, k):
    """Layer k's cells to columns, channels to width below, kernel to padding, window and whether it
    pools the largest; of a flat layer over all units too.
    """
    layers = model.spec.layers if model.is_graph else None
    _, rows, columns = layers[k + 1].sides if layers else (1, 1, 1)
    cells, link = [rows * columns, rows, columns], model.links[k]
    if link is None:
        return [*cells, *(0,) * 6, 1, 0]
    kernel = link.kernel, link.stride, link.padding
    return [*cells, *layers[k].shape, *kernel, link.window, int(link.pool == "max")]


class Parts:
    """What differs from network to network, as text; subclasses fill in what a dtype needs."""

    is_integer = False

    def __init__(self, model, learn):
        self.model, self.learn, self.sizes = model, learn, model.layer_sizes
        self.names = model.activations
        self.passes = {"synchronous": 1, "asynchronous": 2}.get(
            model.spec.schedule, len(model.weights)
        )
        self.steps = model.steps(learn)
        self.damped = self.steps != (1, 1)
        self.moving = len(model.weights) - model.reads_out  # layers that have a state
        self.alike = self._alike()

    def _alike(self):
        """How many neighbouring inputs have one centre and scale: those of a channel."""
        model, shape = self.model, self.model.spec.layers[0].shape if self.model.is_graph else (1,)
        pixels, pairs = flat_size(shape[1:]), (model.input_center, model.input_scale)
        alike = all((v.reshape(-1, pixels) == v[::pixels, None]).all() for v in pairs)
        return pixels if model.is_scaled and alike else 1

    # ---- what is switched on ----

    def flags(self):
        return {
            f"NET_{key}": value
            for key, value in {
                "INT": self.is_integer,
                "INT8": False,
                "LEARN": self.learn,
                "DAMPED": self.damped,
                "BUFFERED": self.passes == 1 and self.moving > 1,
                "READOUT": self.model.reads_out,
                "RESISTIVE": False,
                "PAIRS": False,
                "SCALED": self.model.is_scaled,
                **self._map_flags(),
                **self._answer_flags(),
                **self._learn_flags(),
                **self._curve_flags(),
            }.items()
        }

    def _map_flags(self):
        """What kinds of maps there are."""
        model, links = self.model, self.model.links
        acts = model.is_scaled or model.input_activation != "identity"
        pools = {link.pool for link in links if link is not None}
        return {
            "MAPS": model.has_maps or any(links),
            "FIRST_MAP": links[0] is not None,
            "SHOWN": links[0] is not None and acts,
            "LARGEST": "max" in pools,
            "MEAN": "average" in pools,
        }

    def _answer_flags(self):
        """What the outputs mean."""
        model = self.model
        proba = {how: model.proba == how for how in PROBAS}
        binary = proba["binary"] or proba["binary_logistic"]
        return {
            "CLASSIFIER": model.kind != "regressor",
            "EXCLUSIVE": model.kind == "exclusive",
            "MULTILABEL": model.kind == "multilabel",
            "REGRESSOR": model.kind == "regressor",
            "OUTPUTS_1": model.n_outputs == 1,
            "CLASSES_1": len(model.classes) == 1,
            "NAMES": self._named_classes(),
            "P_ONE": proba["one"],
            "P_SHARE": proba["share"],
            "P_SOFTMAX": proba["softmax"],
            "P_BINARY": binary,
            "P_EACH": binary or proba["clip"] or proba["logistic"],
        }

    def _learn_flags(self):
        spec, plan, learn = self.model.spec, self.model.learn, self.learn
        reads = self.model.reads_out
        return {
            "CENTERED": learn and plan.nudging == "centered",
            "RANDOM_SIGN": learn and plan.nudging == "random_sign",
            "PUSHES": learn and (plan.nudging == "centered" or plan.beta < 0),
            "CROSS_ENTROPY": learn and getattr(spec, "cost", "") == "cross_entropy",
            "NUDGE_INSIDE": learn and not reads and getattr(spec, "nudge_inside", False),
            "PUSHED": learn and not reads,  # outputs feel a force themselves
        }

    def _curve_flags(self):
        names = {*self.names, self.model.input_activation}
        curve = any(CURVES[name].curved for name in names)
        logistic = curve or self.model.proba in ("logistic", "binary_logistic")
        return {
            "HAS_CURVE": curve,
            "HAS_LOGISTIC": logistic,
            "HAS_EXP": logistic or self.model.proba == "softmax",
            "HAS_INPUT_ACTIVATION": self.model.input_activation != "identity",
        }

    # ---- numbers ----

    def constants(self):
        """Macros of the header: name -> (value, comment)."""
        model = self.model
        rows = {
            "INPUTS": (self.sizes[0], self._input_shape()),
            "OUTPUTS": (model.n_outputs, ""),
            "LAYERS": (len(model.weights), "without the input"),
            "UNITS": (model.n_units, "of all layers but the input"),
            "WEIGHTS": (model.n_weights, ""),
            "BIASES": (model.n_biases, "one a unit, of maps one a channel"),
            "DRIVEN": (self.sizes[1], "units of the first layer"),
        }
        if model.kind != "regressor":
            rows["CLASSES"] = (len(model.classes), "")
        rows["FREE_STEPS"] = (model.n_free_steps, "sweeps at most")
        rows["ARENA_SIZE"] = ("sizeof(net_memory)", "")
        if self.learn:
            size = "(16u + (uint32_t)sizeof(net_learned))"
            rows["SLOT_BYTES"] = (size, "flash of one of the two slots")
        return rows

    def _input_shape(self):
        shape = self.model.spec.layers[0].shape if self.model.is_graph else ()
        if len(shape) < 3:
            return ""
        return f"channels, rows, columns: {' x '.join(map(str, shape))}, the last one fastest"

    def private(self):
        """Macros of the source: name -> value."""
        model = self.model
        backward = model.spec.schedule == "backward"
        if self.passes == 1 and self.flags()["NET_LARGEST"]:
            backward = True  # maps write places of maxima before those below read them
        order = "(NET_MOVING - 1 - (k))" if backward else "(k)"
        rows = {"MOVING": self.moving, "MOVED": sum(self.sizes[1 : self.moving + 1])}
        rows |= {"PASSES": self.passes, "ORDER(k)": order, **self._phase_macros()}
        rows["HEARS(net, layer)"] = self._hears()
        if model.is_scaled:
            rows["SOURCE_LIMIT"] = c_float(min(model.source_limit, LARGEST_FLOAT))
            rows["ALIKE(i)"] = "(i)" if self.alike == 1 else f"((i) / {self.alike})"
        rows["SCORE(net, j)"] = "((net)->score[j])" if self.is_integer else "NET_OUT(net, j)"
        if model.kind != "regressor":
            rows["ONE"], rows["HALF"] = self.one(), self.half()
            rows["CHANCE(out)"] = self.chance()
            rows["SHARPNESS"] = c_float(model.sharpness)
        if self.learn:
            rows["SIGN"] = 1 if model.learn.beta > 0 else -1
            rows["SEED"] = "UINT32_C(0x2545F491)"
            single = model.n_outputs == 1 and len(model.classes) in (1, 2)
            rows["FIRST_LABEL"] = int(single)  # one class has the target 0 (LabelBinarizer)
            rows.update(self.learning())
        return rows

    def _hears(self):
        """Whether a layer gets something from the one above it."""
        if not self.model.reads_out:
            return "((layer) != NET_LAST)"
        below = "((layer) + 1 < NET_LAST)"
        if not self.learn:
            return below
        return f"({below} || ((layer) + 1 == NET_LAST && (net)->nudge != 0))"

    def _phase_macros(self):
        """What differs between free and nudged phase."""
        model, plan = self.model, self.model.learn
        free = [model.n_free_steps, self.tolerance(model.tol_free, self.steps[0])]
        nudged = [plan.n_steps, self.tolerance(plan.tol, self.steps[1])] if self.learn else free
        names = ["STEPS(net)", "TOL(net)"]
        if self.damped:
            names.append("STEP(net)")
            free, nudged = ([*v, self.step(s)] for v, s in zip((free, nudged), self.steps))
        return {
            name: f"((net)->nudge == 0 ? {a} : {b})" if self.learn and a != b else f"({a})"
            for name, a, b in zip(names, free, nudged)
        }

    def layer_rows(self):
        """Initialisers of net_layers; `self.layer_numbers` adds what a kind and dtype need."""
        rows, weights, units, biases = [], 0, 0, 0
        maps, sizes = self.flags()["NET_MAPS"], self._layer_units()
        for k, w in enumerate(self.model.weights):
            numbers = [*sizes[k], weights, units]
            if maps:
                numbers += [biases, *map_numbers(self.model, k)]
            numbers += self.layer_numbers(k)
            comment = f" /* {self.names[k]} */" if self.names else ""
            rows.append("{" + ", ".join(map(str, numbers)) + "}" + comment)
            weights, units = weights + w.size, units + sizes[k][1]
            biases += self.model.biases[k].size
        return rows

    def _layer_units(self):
        """Units below and of each layer; of resistive networks its nodes."""
        if self.model.is_graph:
            return list(zip(self.sizes[:-1], self.sizes[1:]))
        return [w.shape for w in self.model.weights]

    # ---- text ----

    def texts(self, name):
        constants = "\n".join(
            f"#define NET_{key} {value}" + (f" /* {comment} */" if comment else "")
            for key, (value, comment) in self.constants().items()
        )
        values = {
            "FILE": "@FILE@",  # this and the classes are not to be renamed: they come last
            "CLASSES": "@CLASSES@",
            "VERSION": __version__,
            "SUMMARY": self.summary(),
            "ABOUT": self.about(),
            "USAGE": self.usage(),
            "CONSTANTS": constants,
            "TABLES": self.tables(),
            "LEARNING": ", learning, flash" if self.learn else "",
            "STATES": "",
            "NUDGED": "",
            "BIASES": "" if self.flags()["NET_MAPS"] else " and biases",
            "BLACK": "" if self.flags()["NET_FIRST_MAP"] else "; a pixel that is 0 costs nothing",
            **self.words(),
        }
        last, flags = {"FILE": name, "CLASSES": table(self._classes())}, self.flags()
        return tuple(
            fill(rename(fill(resolve(runtime_text(file), flags), values), name), last)
            for file in ("runtime.h", "runtime.c")
        )

    def tables(self):
        """Parameters as macros and static constants."""
        arrays, rows = self.arrays(), self.layer_rows()
        macros = [f"#define NET_{key} {value}" for key, value in self.private().items()]
        if self.learn:
            seen = repr([arrays, rows, self.constants()]).encode()
            macros.append(f"#define NET_FINGERPRINT UINT32_C(0x{zlib.crc32(seen):08X})")
        tables = ["\n".join(macros)]
        if self.model.input_activation != "identity":
            zeros = [0] * (16 if self.flags()["NET_MAPS"] else 4)
            numbers = ", ".join(map(str, [*zeros, *self.curve_numbers(-1)]))
            name = self.model.input_activation
            tables.append(f"static const net_layer net_input_layer = {{{numbers}}}; /* {name} */")
        tables.append("static const net_layer net_layers[NET_LAYERS] = {\n" + table(rows) + "\n};")
        tables += [f"static const {c_type} {a}[] = {{\n{table(v)}\n}};" for a, c_type, v in arrays]
        if self.model.kind != "regressor":
            kind = "char *const" if self._named_classes() else "int32_t"
            tables.append(f"const {kind} net_classes[NET_CLASSES] = {{\n@CLASSES@\n}};")
        return "\n\n".join(tables)

    def _named_classes(self):
        return not all(
            isinstance(c, (int, bool)) and abs(int(c)) < 2**31 for c in self.model.classes
        )

    def _classes(self):
        write = c_string if self._named_classes() else lambda c: str(int(c))
        return [write(c) for c in self.model.classes]

    def summary(self):
        kind = {"exclusive": "classifier", "multilabel": "multilabel classifier"}
        layers = "-".join(map(str, self.sizes))
        if self.flags()["NET_MAPS"]:
            layers = "convolutional " + "-".join("x".join(map(str, s)) for s in self._shapes())
        return (
            f"{layers} {kind.get(self.model.kind, 'regressor')} that relaxes to an equilibrium, "
            + self.what()
        )

    def _shapes(self):
        return [layer.shape for layer in self.model.spec.layers]

    def about(self):
        lines = [self.kind_of_network()]
        if self.learn:
            plan = self.model.learn
            lines += [
                f"It learns by equilibrium propagation: beta {plan.beta:g}, {plan.nudging} nudging, "
                f"{plan.n_steps} nudged sweeps."
            ]
        return "\n".join(f" * {line}" for text in lines for line in textwrap.wrap(text, 96))

    def kind_of_network(self):
        return f"Activations: {', '.join(self.names)}; {self.model.spec.schedule} sweeps."

    def usage(self):
        if self.model.kind != "exclusive":
            return " *     net_predict(net, x, y);"
        lines = [" *     net_predict(net, x, &label);"]
        if self.learn:
            lines.append(" *     net_learn(net, x, label);")
        return "\n".join(lines)


class FloatParts(Parts):
    """NAME.h and NAME.c in float32."""

    def what(self):
        return "in float32"

    def words(self):
        kind = "softmax of the outputs" if self.model.proba == "softmax" else "from the outputs"
        return {
            "RESIDUAL": ", per unit of time",
            "SCALED": " in the units of the training targets",
            "PROBABILITY": f", {kind}",
        }

    def tolerance(self, tol, step):
        return c_float(np.float32(tol) if tol >= 0 else -1)

    def one(self):
        return "1.0f"

    def half(self):
        return "0.5f"

    def chance(self):
        if self.model.proba in ("logistic", "binary_logistic"):
            return "net_logistic(((out) - 0.5f) * NET_SHARPNESS)"
        return "net_clip(out, 0.0f, 1.0f)"

    def step(self, dt):
        return c_float(dt)

    def learning(self):
        plan = self.model.learn
        span = abs(plan.beta) * (2 if plan.nudging == "centered" else 1)
        force = np.float32(self.model.spec.cost_factor * abs(plan.beta))
        return {"FORCE": c_float(force), "PER_SPAN": c_float(1 / span), "MAX_RATE": "100.0f"}

    def layer_numbers(self, k):
        return self.curve_numbers(k)

    def curve_numbers(self, k):
        curve = CURVES[self.model.input_activation if k < 0 else self.names[k]]
        ends = [np.clip(v, -LARGEST_FLOAT, LARGEST_FLOAT) for v in (curve.low, curve.high)]
        return [*map(c_float, [curve.slope, *ends, curve.offset]), int(curve.curved)]

    def arrays(self):
        model = self.model
        arrays = [
            ("net_biases", "net_sum", [c_float(v) for b in model.biases for v in b]),
            ("net_weights", "net_weight", [c_float(v) for w in model.weights for v in w.ravel()]),
        ]
        if model.is_scaled:
            for name, values in (("center", model.input_center), ("per", 1 / model.input_scale)):
                values = values[:: self.alike]
                arrays.append((f"net_input_{name}", "float", [c_float(v) for v in values]))
        if self.learn:
            arrays.insert(0, ("net_rates", "net_rate", [c_float(r) for r in model.learn.rates]))
        if model.kind == "regressor":
            arrays.insert(0, ("net_mean", "float", [c_float(v) for v in model.mean]))
            arrays.insert(1, ("net_scale", "float", [c_float(v) for v in model.scale]))
        return arrays
