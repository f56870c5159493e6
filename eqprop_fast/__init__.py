"""Networks that learn by equilibrium propagation, as scikit-learn estimators over fast CPU kernels."""

import importlib

__version__ = "0.1.0"

# public name -> module; loaded on first use, so that `import eqprop_fast` stays light
_EXPORTS = {
    "BackendUnavailableError": "kernels",
    "DivergenceError": "kernels",
    "EqPropClassifier": "estimators",
    "EqPropRegressor": "estimators",
    "available_backends": "kernels",
    "get_backend": "kernels",
    "list_presets": "estimators",
    "show_backends": "_backends",
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
