"""The one table of parity tolerances: how closely a backend must follow the NumPy twin.

Keys are (quantity, dtype name); values are absolute tolerances on states (which live in about [-1,
1]) and relative ones, to the largest entry, on weights after an update.
"""

TOLERANCES = {
    ("state", "float32"): 1e-5,
    ("state", "float64"): 1e-12,
    ("weight", "float32"): 1e-5,
    ("weight", "float64"): 1e-12,
    # whole trajectories of many updates: rounding is amplified by the network's own sensitivity
    ("trajectory", "float32"): 1e-4,
    ("trajectory", "float64"): 1e-10,
}


def tolerance(quantity, dtype):
    """Tolerance for `quantity` ("state", "weight", "trajectory") in `dtype`."""
    import numpy as np

    return TOLERANCES[quantity, np.dtype(dtype).name]
