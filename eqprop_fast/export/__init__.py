"""Trained networks for small devices: plain C that infers and learns (docs/embedded.md)."""

from .._lazy import lazy

# public name -> module; loaded on first use, so that reading and asking a model file needs NumPy and
# SciPy only
_EXPORTS = {
    **dict.fromkeys(("c_texts", "to_c"), "csource"),
    **dict.fromkeys(("EqpFileError", "load_eqp", "save_eqp"), "eqpfile"),
    **dict.fromkeys(("LearnPlan", "NetModel", "as_model", "untrained"), "model"),
    "simulate": "simulation",
}

__getattr__, __dir__, __all__ = lazy(__name__, _EXPORTS)
