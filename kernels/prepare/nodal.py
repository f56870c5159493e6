"""Jobs of nodal analysis (csrc/core/jobs.h: eqp_nodal_job, eqp_nodal_head_job,
eqp_nodal_update_job).
"""

from ..jobs import Job

LU_FIELDS = ("row_of", "col_of", "a_ptr", "a_row", "a_src", "l_ptr", "l_row", "u_ptr", "u_row")
FACTOR, FORWARD, BACKWARD = range(3)  # tasks of the sparse head


def newton_job(system, rhs, offset, x, junction, report, *, max_iter, vtol, rtol, single_after):
    """The job of `kernels.reference.nodal.nodal_newton`; `report` is what it returns."""
    job = Job("eqp_nodal_job", x.dtype)
    job.numbers(
        n=system.n,
        n_diodes=len(system.anode),
        n_samples=len(x),
        vtol=vtol,
        rtol=rtol,
        max_iter=max_iter,
        single_after=single_after,
    )
    if system.indptr is not None:
        job.reads(indptr=system.indptr, indices=system.indices)
        job.reads(**{name: getattr(system.lu, name) for name in LU_FIELDS})
    job.reads(
        base=system.base,
        anode=system.anode,
        cathode=system.cathode,
        branch=system.branch,
        stamp=system.stamp,
        parameters=system.parameters,
        rhs=rhs,
        offset=offset,
    )
    job.writes(
        x=x,
        junction=junction,
        iterations=report.iterations,
        sample_status=report.status,
        step=report.step,
        worst=report.worst,
    )
    return job


def head_job(task, plan, value, pivot, b=None):
    """The job of one task of `kernels.reference.nodal_head`."""
    job = Job("eqp_nodal_head_job", value.dtype)
    job.numbers(task=task, n_head=plan.n_head, n=plan.n)
    job.reads(ptr=plan.ptr, row=plan.row)
    if task == FACTOR:
        job.reads(target=plan.target)
        job.writes(value=value, pivot=pivot)
    else:
        job.reads(value=value, pivot=pivot)
    if b is not None:
        job.numbers(n_rows=b.shape[1])
        job.writes(b=b)
    return job


def update_job(conductances, difference, total, gradient, learning_rate, momentum):
    """The job of `kernels.reference.nodal_update.nodal_update`."""
    c, job = conductances, Job("eqp_nodal_update_job", difference.dtype)
    job.numbers(
        n_pairs=len(c.pairs),
        n_samples=difference.shape[1],
        learning_rate=learning_rate,
        momentum=momentum,
    )
    job.reads(
        difference=difference, total=total, pairs=c.pairs, scale=c.scale, low=c.low, high=c.high
    )
    job.writes(velocity=c.velocity, conductance=c.conductance, gradient=gradient)
    return job
