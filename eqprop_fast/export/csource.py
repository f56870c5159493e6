"""NAME.h and NAME.c of one network."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import numpy as np

from .. import __version__
from ..kernels.spec import ACTIVATIONS
from ..training.files import check_writable, write_text
from .layouts import layout_files
from .model import as_model, check_learn
from .template import c_float, c_string, fill, rename, resolve, runtime_text, table

DTYPES = ("float32", "int16", "int8")
_LOGISTIC = ("shifted_sigmoid", "tanh", "sigmoid")
_CLIPPED = ("hard_sigmoid", "half_hard_sigmoid", "centered_hard_sigmoid", "wide_hard_sigmoid")
_KEYWORDS = set(
    "auto break case char const continue default do double else enum extern float for goto if "
    "inline int long register restrict return short signed sizeof static struct switch "
    "typedef union unsigned void volatile while alignas alignof and asm bool catch char16_t "
    "char32_t class compl constexpr const_cast decltype delete dynamic_cast explicit export "
    "false friend mutable namespace new noexcept not nullptr operator or private protected "
    "public reinterpret_cast static_assert static_cast template this thread_local throw true "
    "try typeid typename using virtual wchar_t xor main".split()
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
    model : fitted EqPropClassifier or EqPropRegressor, or NetModel
    folder : path
        Made if it is not there; its parent must be.
    dtype : {"float32", "int16", "int8"}
        Of the weights. Integers have int16 states and 32-bit sums: `eqprop_fast.export.integers`.
    learn : bool
        With `name_learn`, `name_save`, `name_load`, `name_reset`; the weights are then in RAM.
    name : str
        A C identifier, prefix of the files, and of all symbols.
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
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    for path in files:
        (folder / path).parent.mkdir(exist_ok=True)
        check_writable(folder / path)
    for path, text in files.items():
        write_text(folder / path, text)
    return [folder / path for path in files]


def c_texts(model, dtype="float32", learn=False, name="eqnet", learning_rate=None, **integers):
    """The texts of ``name.h`` and ``name.c``; parameters as of `to_c`."""
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {DTYPES}, got {dtype!r}")
    check_name(name)
    model = as_model(model, learning_rate)
    if learn:
        check_learn(model)
    if dtype == "float32":
        if integers:
            raise TypeError(f"{sorted(integers)}: only for integers, not for dtype='float32'")
        parts = _Float(model, learn)
    else:
        from .integers import IntegerParts  # here, because it needs the parts below

        parts = IntegerParts(model, dtype, learn, **integers)
    return parts.texts(name)


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


class Parts:
    """What differs from network to network, as text; `_Float` and `IntegerParts` fill it in."""

    is_integer = False
    weight_type = "float"

    def __init__(self, model, learn):
        self.model, self.learn, self.sizes = model, learn, model.spec.sizes
        spec, n = model.spec, len(model.weights)
        self.names = [spec.out_activation if k == n else spec.activation for k in range(1, n + 1)]
        self.passes = {"synchronous": 1, "asynchronous": 2, "forward": n}[spec.schedule]
        self.steps = (spec.dt, model.learn.step if learn else spec.dt)
        self.damped = self.steps != (1, 1)

    def flags(self):
        model, spec, learn = self.model, self.model.spec, self.learn
        plan = model.learn
        used = {
            *self.names,
            *([] if spec.input_activation == "identity" else [spec.input_activation]),
        }
        exclusive = model.kind == "exclusive"
        cross_entropy = learn and spec.cost == "cross_entropy"
        flags = {
            "INT": self.is_integer,
            "LEARN": learn,
            "INT8": False,
            "DAMPED": self.damped,
            "BUFFERED": spec.schedule == "synchronous" and len(model.weights) > 1,
            "CLASSIFIER": model.kind != "regressor",
            "EXCLUSIVE": exclusive,
            "MULTILABEL": model.kind == "multilabel",
            "REGRESSOR": model.kind == "regressor",
            "OUTPUTS_1": self.sizes[-1] == 1,
            "CLASSES_1": len(model.classes) == 1,
            "CROSS_ENTROPY": cross_entropy,
            "NUDGE_INSIDE": learn and spec.nudge_inside,
            "CENTERED": learn and plan.nudging == "centered",
            "RANDOM_SIGN": learn and plan.nudging == "random_sign",
            "HAS_INPUT_ACTIVATION": spec.input_activation != "identity",
            "HAS_LOGISTIC": bool(used & set(_LOGISTIC)),
            "HAS_CLIP": bool(used & set(_CLIPPED)) or model.proba in ("binary", "clip"),
            **{
                f"P_{how.upper()}": model.proba == how
                for how in ("softmax", "clip", "one", "binary", "share")
            },
            **{f"HAS_{name.upper()}": name in used for name in ACTIVATIONS},
        }
        flags["HAS_EXP2"] = flags["HAS_LOGISTIC"] or cross_entropy or model.proba == "softmax"
        return {f"NET_{key}": value for key, value in flags.items()}

    def constants(self):
        """Macros of the header: name -> (value, comment)."""
        model, sizes = self.model, self.sizes
        rows = {
            "INPUTS": (sizes[0], ""),
            "OUTPUTS": (sizes[-1], ""),
            "LAYERS": (len(sizes) - 1, "without the input"),
            "UNITS": (sum(sizes[1:]), "of all layers but the input"),
            "WEIGHTS": (model.n_weights, ""),
            "DRIVEN": (sizes[1], "units of the first layer"),
        }
        if model.kind != "regressor":
            rows["CLASSES"] = (len(model.classes), "")
        rows["FREE_STEPS"] = (model.n_free_steps, "sweeps at most")
        rows["ARENA_SIZE"] = ("sizeof(net_memory)", "")
        if self.learn:
            rows["SLOT_BYTES"] = (
                "(16u + (uint32_t)sizeof(net_learned))",
                "flash of one of the two slots",
            )
        return rows

    def private(self):
        """Macros of the source."""
        model, learn = self.model, self.learn
        rows = {"PASSES": self.passes, "FREE_TOL": self.tolerance(model.tol_free, self.steps[0])}
        if model.kind != "regressor" or learn:
            rows["HALF"] = self.half()
        if learn:
            plan = model.learn
            rows["NUDGED_STEPS"], rows["NUDGED_TOL"] = (
                plan.n_steps,
                self.tolerance(plan.tol, self.steps[1]),
            )
            rows["FORCE"] = self.force(model.spec.cost_factor * abs(plan.beta))
            rows["SIGN"] = 1 if plan.beta > 0 else -1
            rows["SEED"] = "UINT32_C(0x2545F491)"
            rows["FIRST_LABEL"] = 1 if self.sizes[-1] == 1 and len(model.classes) == 2 else 0
            if self.sizes[-1] == 1 and len(model.classes) == 1:
                rows["FIRST_LABEL"] = 1  # a single class has the target 0 (LabelBinarizer)
            rows.update(self.learning())
        if self.damped:
            both = f"((nudge) != 0 ? {self.step(self.steps[1])} : {self.step(self.steps[0])})"
            rows["STEP(nudge)"] = both if learn else self.step(self.steps[0])
        if self.model.spec.input_activation != "identity":
            rows["INPUT_ACTIVATION"] = f"NET_{self.model.spec.input_activation.upper()}"
        return rows

    def layer_rows(self):
        """Initialisers of net_layers; `self.layer_numbers` adds what a dtype needs."""
        rows, weights, units = [], 0, 0
        for k, (n_in, n_out) in enumerate(zip(self.sizes[:-1], self.sizes[1:])):
            numbers = [
                n_in,
                n_out,
                weights,
                units,
                f"NET_{self.names[k].upper()}",
                *self.layer_numbers(k),
            ]
            rows.append("{" + ", ".join(map(str, numbers)) + "}")
            weights, units = weights + n_in * n_out, units + n_out
        return rows

    def layer_numbers(self, k):
        return []

    def texts(self, name):
        flags = self.flags()
        model = self.model
        class_type, class_values = self._classes()
        arrays = self.arrays()
        used = {*self.names, model.spec.input_activation} - {"identity"} | set(self.names)
        tables = [
            "enum { "
            + ", ".join(f"NET_{a.upper()} = {ACTIVATIONS[a]}" for a in sorted(used))
            + " };",
            "\n".join(f"#define NET_{key} {value}" for key, value in self.private().items()),
        ]
        if self.learn:
            seen = repr([arrays, self.layer_rows(), self.constants()]).encode()
            tables[1] += f"\n#define NET_FINGERPRINT UINT32_C(0x{zlib.crc32(seen):08X})"
        tables.append(
            "static const net_layer net_layers[NET_LAYERS] = {\n"
            + table(self.layer_rows())
            + "\n};"
        )
        tables += [f"static const {c_type} {a}[] = {{\n{table(v)}\n}};" for a, c_type, v in arrays]
        if model.kind != "regressor":
            tables.append(f"const {class_type}net_classes[NET_CLASSES] = {{\n@CLASSES@\n}};")
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
            "WEIGHT": self.weight_type,
            "CLASSTYPE": class_type,
            "TABLES": "\n\n".join(tables),
            "LEARNING": ", learning, flash" if self.learn else "",
            **self.words(),
        }
        last = {"FILE": name, "CLASSES": table(class_values)}
        return tuple(
            fill(rename(fill(resolve(runtime_text(file), flags), values), name), last)
            for file in ("runtime.h", "runtime.c")
        )

    def _classes(self):
        classes = self.model.classes
        if all(isinstance(c, (int, bool)) and abs(int(c)) < 2**31 for c in classes):
            return "int32_t ", [str(int(c)) for c in classes]
        return "char *const ", [c_string(c) for c in classes]

    def summary(self):
        kind = {"exclusive": "classifier", "multilabel": "multilabel classifier"}
        layers = "-".join(map(str, self.sizes))
        return (
            f"{layers} {kind.get(self.model.kind, 'regressor')} that relaxes to an equilibrium, "
            + self.what()
        )

    def about(self):
        spec = self.model.spec
        text = f" * Activations: {', '.join(self.names)}; {spec.schedule} sweeps."
        if self.learn:
            plan = self.model.learn
            text += (
                f"\n * It learns by equilibrium propagation: beta {plan.beta:g}, "
                f"{plan.nudging} nudging, {plan.n_steps} nudged sweeps."
            )
        return text

    def usage(self):
        if self.model.kind != "exclusive":
            return " *     net_predict(net, x, y);"
        lines = [" *     net_predict(net, x, &label);"]
        if self.learn:
            lines.append(" *     net_learn(net, x, label);")
        return "\n".join(lines)


class _Float(Parts):
    def what(self):
        return "in float32"

    def words(self):
        kind = "softmax of the outputs" if self.model.proba == "softmax" else "from the outputs"
        return {
            "RESIDUAL": ", per unit of time",
            "SCALED": " in the units of the training targets",
            "PROBABILITY": f", {kind}",
            "PROBATYPE": "float",
        }

    def tolerance(self, tol, step):
        return c_float(np.float32(tol) if tol >= 0 else -1)

    def half(self):
        return "0.5f"

    def force(self, beta):
        return c_float(np.float32(beta))

    def step(self, dt):
        return c_float(np.float32(dt))

    def learning(self):
        plan = self.model.learn
        span = abs(plan.beta) * (2 if plan.nudging == "centered" else 1)
        return {"PER_SPAN": c_float(np.float32(1 / span)), "MAX_RATE": "100.0f"}

    def arrays(self):
        model = self.model
        arrays = [
            ("net_biases", "net_sum", [c_float(v) for b in model.biases for v in b]),
            ("net_weights", "net_weight", [c_float(v) for w in model.weights for v in w.ravel()]),
        ]
        if self.learn:
            arrays.insert(
                0, ("net_rates", "net_rate", [c_float(np.float32(r)) for r in model.learn.rates])
            )
        if model.kind == "regressor":
            arrays.insert(0, ("net_mean", "float", [c_float(np.float32(v)) for v in model.mean]))
            arrays.insert(1, ("net_scale", "float", [c_float(np.float32(v)) for v in model.scale]))
        return arrays
