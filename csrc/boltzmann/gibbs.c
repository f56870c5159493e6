/* gibbs.c - sweeps of Gibbs sampling or of mean field over the rows of a job, each row by itself,
 * with or without annealed importance sampling's weights (equations 14; twin: boltzmann_sweep of
 * kernels/reference/boltzmann.py). Letters: boltzmann.h, eqp_boltzmann_job of core/jobs.h.
 *
 *     bm_pack      weights and biases to the scratch    every thread its rows of each W_k
 *     -- barrier: the whole machine is packed --
 *     bm_run       all sweeps                           every thread a run of the M rows
 *
 * Behind the barrier threads share only what none writes, so none waits again. */
#include "boltzmann/boltzmann.h"

/* What a call needs, laid out in the job's scratch. */
typedef struct {
    bm_net net;
    bm_work work;
    int64_t bytes;
} sweep_plan;

/* Sizes of the machine, and its place and that of the thread's memory in `base`; with NULL it only
 * counts the bytes. Fails where sizes are out of range. */
static int make_plan(sweep_plan *plan, const eqp_boltzmann_job *job, char *base, int thread,
                     int n_threads) {
    const int status = bm_sizes(&plan->net, job->n_weights, job->size, job->categorical_top);
    if (status != EQP_OK) return status;
    bm_arena arena = {base, 0};
    bm_plan_net(&plan->net, &arena);
    plan->work = bm_plan_work(&plan->net, &arena, thread, n_threads);
    plan->bytes = arena.used;
    return EQP_OK;
}

/* What must hold of a job before anything is written: all threads find the same, so that either
 * all or none come to the barrier. Entries of `base` are not looked at. */
static int check_job(const eqp_boltzmann_job *job) {
    if (!job->weight || !job->bias || !job->state || !job->clamped) return EQP_E_NULL;
    if (job->log_weight && !job->betas) return EQP_E_NULL;
    if (job->betas && !job->base) return EQP_E_NULL;
    for (int k = 0; k <= job->n_weights; k++)
        if (!job->bias[k] || !job->state[k] || (k < job->n_weights && !job->weight[k]))
            return EQP_E_NULL;
    if (job->n_rows < 0 || job->n_sweeps < 0 || job->seed < 0 || job->first_sweep < 0)
        return EQP_E_SIZE;
    /* the pass upwards has no stream of draws */
    return job->upward && job->draw ? EQP_E_OPTION : EQP_OK;
}

/* Writes the scratch bytes that boltzmann_sweep needs to job->scratch_size. */
int EQP_NAME(boltzmann_sweep_scratch)(eqp_boltzmann_job *job, int thread, int n_threads) {
    sweep_plan plan;
    (void)thread;
    const int status = make_plan(&plan, job, NULL, 0, n_threads);
    if (status == EQP_OK) job->scratch_size = plan.bytes;
    return status;
}

/* T sweeps over states (M x N[k] each), in place, as equations 14 have them; a thread takes a run
 * of rows. Writes means, steps, residuals and log weights where the job asks for them. */
int EQP_NAME(boltzmann_sweep)(eqp_boltzmann_job *job, int thread, int n_threads) {
    sweep_plan plan;
    int status = make_plan(&plan, job, job->scratch, thread, n_threads);
    if (status == EQP_OK) status = check_job(job);
    if (status != EQP_OK) return status;
    if (!job->scratch || job->scratch_size < plan.bytes) return EQP_E_SCRATCH;
    bm_pack(&plan.net, job->weight, job->bias, thread, n_threads);
    /* every thread reads all of the packed machine */
    eqp_wait(job->barrier, n_threads);
    /* even_first becomes a layer's number: 0 or 1 */
    bm_task task = {.clamped = job->clamped,
                    .mask = job->mask,
                    .n_sweeps = job->n_sweeps,
                    .draw = job->draw,
                    .even_first = job->even_first != 0,
                    .upward = job->upward,
                    .tol = job->tol,
                    .seed = job->seed,
                    .first_sweep = job->first_sweep,
                    .betas = job->betas,
                    .base = job->base,
                    .log_weight = job->log_weight,
                    .steps = job->steps,
                    .residual = job->residual};
    /* the caller's rows are not padded */
    for (int k = 0; k <= plan.net.L; k++) {
        task.state[k] = job->state[k], task.ld[k] = plan.net.n[k];
        task.mean[k] = job->mean ? job->mean[k] : NULL;
    }
    bm_run(&plan.net, &task, &plan.work, bm_share(job->n_rows, thread, n_threads),
           bm_share(job->n_rows, thread + 1, n_threads));
    return EQP_OK;
}
