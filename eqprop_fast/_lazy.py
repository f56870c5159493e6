"""Public names of a package that are loaded on first use, so that importing it stays light."""

import importlib
import sys


def lazy(package, exports):
    """``(__getattr__, __dir__, __all__)`` of `package`.

    Parameters
    ----------
    package : str
        Its ``__name__``.
    exports : dict of str
        Public name: the module, below the package, that has it.
    """
    names = vars(sys.modules[package])

    def getattribute(name):
        if name not in exports:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{exports[name]}"), name)
        names[name] = value
        return value

    return getattribute, lambda: sorted([*names, *exports]), sorted(exports)
