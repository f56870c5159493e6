"""Equilibrium propagation's step of the conductances of any circuit (the readable twin)."""

import numpy as np

PIECE = 4096  # conductances whose drops are held at a time: samples times conductances would not fit


def check_update(difference, total, pairs, scale, velocity, conductance, low, high, gradient):
    """ValueError unless all arrays are C-contiguous, of one dtype, and of fitting shapes."""
    dtype, n = difference.dtype, len(pairs)
    if dtype not in (np.float64, np.float32):
        raise ValueError(f"difference must be float64 or float32, got {dtype}")
    if difference.ndim != 2:
        raise ValueError(f"difference must be of shape (n_nodes, n_samples), got {difference.shape}")
    arrays = {"difference": difference, "total": total, "scale": scale, "velocity": velocity}
    arrays |= {"conductance": conductance, "low": low, "high": high, "gradient": gradient}
    for name, array in arrays.items():
        shape = difference.shape if name in ("difference", "total") else (n,)
        if array.shape != shape or array.dtype != dtype or not array.flags.c_contiguous:
            raise ValueError(
                f"{name} must be a C-contiguous {dtype} array of shape {shape}, got {array.shape}"
            )
    if pairs.shape != (n, 2) or pairs.dtype != np.int32 or not pairs.flags.c_contiguous:
        raise ValueError(f"pairs must be a C-contiguous int32 array of shape (n, 2), got {pairs.shape}")
    if not (low <= high).all():  # NaN is no bound
        raise ValueError("low and high must be numbers, low at most high")
    if n and not (0 <= pairs.min() and pairs.max() < len(difference)):
        raise ValueError(f"pairs must be node numbers below {len(difference)}")


def nodal_update(
    difference,
    total,
    pairs,
    scale,
    velocity,
    conductance,
    low,
    high,
    gradient,
    *,
    learning_rate,
    momentum=0.0,
    n_threads=1,
):
    """One step of every conductance against its gradient, in place and kept within bounds.

    The rule is local (2006.01981, eq. for dL/dg): the difference between the phases of the squared voltage
    across the conductance, summed over samples. With d the difference and t the sum of the phases' voltages,

        gradient = scale sum (d_a - d_b) (t_a - t_b),     no cancellation of squares,
        velocity = momentum velocity - learning_rate gradient,
        g = min(max(g + velocity, low), high).

    Parameters
    ----------
    difference, total : float64 or float32 (n_nodes, M)
        Node voltages of the first phase minus and plus those of the second; the samples of a node lie side by
        side.
    pairs : int32 (P, 2)
        Nodes of each conductance.
    scale : (P,)
    velocity, conductance : (P,), in/out
    low, high : (P,)
    gradient : (P,), out
    learning_rate, momentum : float
    n_threads : int
        Ignored here. The conductances are shared among threads, which does not change a bit.

    Returns
    -------
    bool
        False, and velocity and conductance as they were, if some gradient, velocity or conductance before
        its bounds would not be finite.
    """
    check_update(difference, total, pairs, scale, velocity, conductance, low, high, gradient)
    with np.errstate(all="ignore"):
        for k in range(0, len(pairs), PIECE):
            a, b = pairs[k : k + PIECE].T
            drop, through = difference[a] - difference[b], total[a] - total[b]
            gradient[k : k + PIECE] = scale[k : k + PIECE] * (drop * through).sum(axis=1)
        stepped = difference.dtype.type(momentum) * velocity - difference.dtype.type(learning_rate) * gradient
        wanted = conductance + stepped
        if not np.isfinite(wanted).all():  # so are the gradient and the velocity, if that is
            return False
        velocity[:] = stepped
        np.minimum(np.maximum(wanted, low), high, out=conductance)
    return True
