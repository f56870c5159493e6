"""Equilibrium propagation's step of the conductances of any circuit (the readable twin)."""

import numpy as np

# conductances whose drops are held at a time: samples times conductances would not fit
PIECE = 4096


def nodal_update(
    conductances, difference, total, gradient, learning_rate, momentum=0.0, n_threads=1
):
    """One step of every conductance against its gradient, in place and kept within bounds.

    The rule is local (2006.01981, eq. for dL/dg): the difference between the phases of the squared
    voltage across the conductance, summed over samples. With d the difference and t the sum of the
    phases' voltages,

        gradient = scale sum (d_a - d_b) (t_a - t_b),     no cancellation of squares,
        velocity = momentum velocity - learning_rate gradient,
        g = min(max(g + velocity, low), high).

    Parameters
    ----------
    conductances : Conductances
        Of which conductance and velocity are in/out.
    difference, total : float64 or float32 (n_nodes, M)
        Node voltages of the first phase minus and plus those of the second; the samples of a node
        lie side by side.
    gradient : (P,), out
    learning_rate, momentum : float
    n_threads : int
        Ignored here. The conductances are shared among threads, which does not change a bit.

    Returns
    -------
    bool
        False, and velocity and conductance as they were, if some gradient, velocity or conductance
        before its bounds would not be finite.
    """
    c, real = conductances, difference.dtype.type
    with np.errstate(all="ignore"):
        for k in range(0, len(c.pairs), PIECE):
            a, b = c.pairs[k : k + PIECE].T
            drop, through = difference[a] - difference[b], total[a] - total[b]
            gradient[k : k + PIECE] = c.scale[k : k + PIECE] * (drop * through).sum(axis=1)
        stepped = real(momentum) * c.velocity - real(learning_rate) * gradient
        wanted = c.conductance + stepped
        if not np.isfinite(wanted).all():  # so are the gradient and the velocity, if that is
            return False
        c.velocity[:] = stepped
        np.minimum(np.maximum(wanted, c.low), c.high, out=c.conductance)
    return True
