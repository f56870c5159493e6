"""Trained networks for small devices: plain C that infers and learns (docs/embedded.md)."""

import importlib

# public name -> module; loaded on first use, so that reading and asking a model file needs NumPy and
# SciPy only
_EXPORTS = {
    **dict.fromkeys(("c_texts", "to_c"), "csource"),
    **dict.fromkeys(("EqpFileError", "load_eqp", "save_eqp"), "eqpfile"),
    **dict.fromkeys(("LearnPlan", "NetModel", "as_model", "untrained"), "model"),
    "simulate": "simulation",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name):
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted([*globals(), *_EXPORTS])
