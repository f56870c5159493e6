"""`layered_train`: plain EP batch by batch, and every other rule by rules.py; the NumPy twin.

Notation and shapes are those of layered.py.
"""

from ..spec import TrainStats, check_plan, free_spec
from .layered import (
    back_or_transpose,
    begin_batches,
    end_free_phase,
    layered_contrast,
    layered_drive,
    nudged_phases,
    relax_from_drive,
)
from .rules import train_with_rule
from .update import apply_update


def layered_train(
    spec,
    weights,
    back,
    biases,
    x,
    y,
    order,
    plan,
    row_weight=None,
    particles=None,
    optimizer_state=None,
    n_threads=1,
):
    """Train on the rows `order` of (x, y), batch by batch; weights, back, biases, particles change
    in place.

    Returns
    -------
    TrainStats

    Raises
    ------
    DivergenceError
        Weights are those after the last finite batch.
    """
    check_plan(spec, plan, back is not None, particles is not None)
    if plan.rule != "ep":
        return train_with_rule(
            spec, weights, back, biases, x, y, order, plan, row_weight, particles, optimizer_state
        )
    stats = TrainStats(plan.loss_so_far)
    dtype = weights[0].dtype
    for batch in begin_batches(spec, x, y, order, plan, row_weight, particles, dtype):
        drive = layered_drive(spec, weights, biases, batch.x)
        args = (spec, weights, back_or_transpose(weights, back), biases, drive)
        free = batch.states
        fast = free_spec(spec, plan.over_relaxation)
        steps, _ = relax_from_drive(fast, *args[1:], free, None, 0.0, plan.n_free_steps, plan.tol_free)
        end_free_phase(spec, batch, free, steps, particles, stats)

        if batch.total <= 0:  # nothing to learn from
            continue
        start, end, span = nudged_phases(*args, free, batch, plan, stats)
        dw, db = layered_contrast(spec, batch.x, start, end, batch.row_weight)
        scale = dtype.type(1 / (span * batch.total))
        dw, db = [d * scale for d in dw], [d * scale for d in db]
        apply_update(weights, biases, dw, db, plan, optimizer_state, batch.number)
    return stats
