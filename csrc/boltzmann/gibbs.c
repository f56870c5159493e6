/* gibbs.c - sweeps of Gibbs sampling or of mean field over the rows of a job, each row by itself
 * (boltzmann.h). */
#include "boltzmann/boltzmann.h"

/* What a call needs, laid out in the job's scratch. */
typedef struct {
    bm_net net;
    bm_work work;
    int64_t bytes;
} sweep_plan;

/* Sizes and layout; with `base` NULL it only counts. */
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

/* What must hold of a job before anything is written. */
static int check_job(const eqp_boltzmann_job *job) {
    if (!job->weight || !job->bias || !job->state || !job->clamped) return EQP_E_NULL;
    if (job->log_weight && !job->betas) return EQP_E_NULL;
    if (job->betas && !job->base) return EQP_E_NULL;
    for (int k = 0; k <= job->n_weights; k++)
        if (!job->bias[k] || !job->state[k] || (k < job->n_weights && !job->weight[k]))
            return EQP_E_NULL;
    if (job->n_rows < 0 || job->n_sweeps < 0 || job->seed < 0 || job->first_sweep < 0)
        return EQP_E_SIZE;
    return job->upward && job->draw ? EQP_E_OPTION : EQP_OK;
}

/* Writes the bytes that the job needs to job->scratch_size. */
int EQP_NAME(boltzmann_sweep_scratch)(eqp_boltzmann_job *job, int thread, int n_threads) {
    sweep_plan plan;
    (void)thread;
    const int status = make_plan(&plan, job, NULL, 0, n_threads);
    if (status == EQP_OK) job->scratch_size = plan.bytes;
    return status;
}

/* The sweeps; a thread takes a run of rows. */
int EQP_NAME(boltzmann_sweep)(eqp_boltzmann_job *job, int thread, int n_threads) {
    sweep_plan plan;
    int status = make_plan(&plan, job, job->scratch, thread, n_threads);
    if (status == EQP_OK) status = check_job(job);
    if (status != EQP_OK) return status;
    if (!job->scratch || job->scratch_size < plan.bytes) return EQP_E_SCRATCH;
    bm_pack(&plan.net, job->weight, job->bias, thread, n_threads);
    eqp_wait(job->barrier, n_threads);
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
    for (int k = 0; k <= plan.net.L; k++) {
        task.state[k] = job->state[k], task.ld[k] = plan.net.n[k];
        task.mean[k] = job->mean ? job->mean[k] : NULL;
    }
    bm_run(&plan.net, &task, &plan.work, bm_share(job->n_rows, thread, n_threads),
           bm_share(job->n_rows, thread + 1, n_threads));
    return EQP_OK;
}
