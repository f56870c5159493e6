/* rules.h - learning rules, and the buffers of a mini-batch that train.c and the files of its
 * rules share. Letters: layered.h.
 *
 * A batch goes through
 *     build_batch      inputs, targets, weights of its samples (input.c)
 *     relaxation       the free phase and the rule's second phase(s)
 *     contrast         what each layer shows at the two ends, one against the other
 *     input_pass       step of weight[0], drive of the next batch (input.c)
 *     update_inner     step of the other matrices
 *
 *     lo, hi     the thread's samples of the batch, [lo, hi)
 *     e          which end of the contrast a second phase makes: 0 at beta, 1 at -beta
 *     qa, qb     what layers show at the two ends (equations 4)
 */
#ifndef EQP_RULES_H
#define EQP_RULES_H

#include "layered/layered.h"
#include "core/update.h"

/* The codes of eqp_layered_job.rule; kernels/spec.py has the same. In order: equations 4, 5, 6.1,
 * 6.2, 8, 7, 7, 9.1, 9.2, 9.3. */
enum {
    RULE_EP,
    RULE_CONTINUAL,
    RULE_VECTOR_FIELD,
    RULE_CONTINUAL_VECTOR_FIELD,
    RULE_CLAMPED_SWEEP,
    RULE_CONTRASTIVE,
    RULE_COUPLED,
    RULE_BPTT,
    RULE_RECURRENT_BACKPROP,
    RULE_IMPLICIT,
    N_RULES
};

/* Rules that learn from raw state changes, with independent feedback. */
EQP_INLINE int is_vector_field(int rule) {
    return rule == RULE_VECTOR_FIELD || rule == RULE_CONTINUAL_VECTOR_FIELD;
}

/* Rules whose weights move at every nudged step. */
EQP_INLINE int is_continual(int rule) {
    return rule == RULE_CONTINUAL || rule == RULE_CONTINUAL_VECTOR_FIELD;
}

/* Rules whose nudged phase couples the samples of a batch, or must be watched step by step
 * (continual.c, continual_narrow.c). */
EQP_INLINE int is_stepwise(int rule) { return is_continual(rule) || is_vector_field(rule); }

/* Exact gradients of the free phase: no second phase but a reverse pass (gradients.c). */
EQP_INLINE int is_gradient(int rule) { return rule >= RULE_BPTT && rule <= RULE_IMPLICIT; }

/* The recorded free steps and the reverse pass through them. Moments are the states before, between
 * and after the recorded steps; each array holds moments x rows x np[k], rows being those of the
 * batch at hand. */
typedef struct {
    int n_steps;         /* recorded */
    real *state[LAYERS]; /* n_steps + 1 */
    real *shown[LAYERS]; /* n_steps + 1; discrete: the same arrays */
    real *gain[LAYERS];  /* n_steps: d new/d field */
    real *keep[LAYERS];  /* n_steps: d new/d old; discrete: none */
    real *lean[LAYERS];  /* n_steps + 1: d shown/d state; discrete: none */
    real *flow[LAYERS];  /* n_steps: minus the cost's derivative by the field */
    real *bar[LAYERS];   /* B x np[k]: the same by the state */
    real *sum[LAYERS];   /* B x np[k]: its sum over reverse steps */
    real *up[LAYERS];    /* panels of back[k]', which reverse a step's way up */
    real *down[LAYERS];  /* panels of weight[k]' */
    double *peak;        /* 2 x n_threads: the largest |bar| that each has seen */
    /* implicit differentiation (implicit.h), one for each thread: */
    real *system;        /* rows of the linear system, with its right-hand side */
    int64_t system_size; /* reals of one */
    real *scaled;        /* 2 x MR_MAX rows of weights to eliminated layers */
    real *solution;
} gradient_buffers;

/* A mini-batch: its inputs, its states at the ends of the phases, what the rule makes of them. */
typedef struct {
    int B;
    int groups;    /* of 32 samples */
    int dense;     /* inputs are dense: no lists, no masks */
    int by_sample; /* threads share samples, else columns */
    int xt_ld;     /* B, padded */
    int64_t n_batches;
    real *drive; /* B x np[1] */

    /* --- data (input.c): two sets, by parity of the batch, for the next one is prepared while this
     * one is still used. All but xd are the thread's own. */
    real *y[2];          /* B x np[L] */
    real *weight[2];     /* B: of each sample */
    int32_t *index[2];   /* B x (N[0] + LANES): nonzero inputs, then INT32_MAX */
    real *value[2];      /* the same: their values */
    int64_t *nnz[2];     /* B */
    uint32_t *mask[2];   /* groups x N[0]: which of 32 samples have input i */
    const real **row[2]; /* B: each sample's inputs, N[0], valid where the mask says so: the data's
                            rows or copies */
    real *copies[2];     /* B x np[0] */
    real *xt[2];         /* continual rules: N[0] x xt_ld, inputs transposed, zeros where there is
                            none */
    real *xd[2];         /* B x np[0]: inputs when dense */
    real *chunk_delta;   /* B x chunk: one chunk's columns of delta; the thread's own */
    real *chunk_drive;   /* FUSED_ROWS x chunk: of the next drive; the thread's own */

    /* --- ends of the phases, and the contrast (train.c): B x np[k] --- */
    real *free[LAYERS], *end[2][LAYERS]; /* equilibria */
    real *acting[2][LAYERS];             /* rho of them, in continuous dynamics */
    real *qa[LAYERS], *qb[LAYERS];       /* what they show, at the two ends of the contrast */
    real *gone[LAYERS];                  /* qb - qa */
    real *seen[LAYERS];                  /* weight * qa */
    real *delta[LAYERS];                 /* weight * (qb - qa) */

    /* --- rules whose samples meet during the nudged phase (continual.c) --- */
    team shared;                           /* all samples of the batch */
    real *old[LAYERS], *old_shown[LAYERS]; /* B x np[k]: before the step */
    real *start_shown[LAYERS];             /* B x np[k]: at the free state */
    real *input_sum;                       /* B; the thread's own */
    real *gram_x, *gram[LAYERS][4];        /* B x B: through which changed weights act */
    int n_recorded;                        /* steps kept by the vector field rules */
    real *pre[LAYERS], *change[LAYERS];    /* n_recorded x B x np[k] */

    /* --- narrow nets under the continual rules (continual_narrow.c) --- */
    real *fields;                               /* 2 x 2 x B x PAD: by step, half */
    real *moved, *before, *drive_now, *end_now; /* B x np[1] */
    real *base;                                 /* np[1] x NARROW_MAX */
    void *outputs;                              /* B slots (narrow.h); the thread's own */
    real *factors;                              /* 2 x B x PAD; the thread's own */

    gradient_buffers gradient; /* exact gradients (gradients.c) */

    /* --- who has done what --- */
    double *cost;          /* B */
    int32_t *right;        /* B: the largest output is the largest target */
    int32_t *steps[3];     /* B: of the free phase, at beta, at -beta */
    int32_t *queue[2];     /* n_threads x LANES, by parity of the batch: sample_queue (layered.h) */
    int32_t *mine, n_mine; /* B: the samples this thread has relaxed */
    int32_t *diverged;     /* n_threads: bit 0 something not finite, bit 1 a singular system */
} batch_buffers;

/* One second phase: what it starts from is free, where it ends is end[e]. */
typedef struct {
    int q, e;     /* parity of the batch; which end */
    int rows;     /* samples of the batch */
    int lo, hi;   /* this thread's */
    double beta;  /* with its sign */
    double total; /* sum of the sample weights */
    double scale; /* 1 / (span total): from a summed contrast to minus the gradient */
} phase;

/* Samples of batch `number`: B, fewer in the last one. */
EQP_INLINE int batch_rows(const batch_buffers *batch, const eqp_layered_job *job, int64_t number) {
    const int64_t left = job->n_rows - number * batch->B;
    return (int)(left < batch->B ? left : batch->B);
}

/* Steps columns first.. (n of them) of bias[k] with the sums of their contrasts. */
EQP_INLINE void update_bias(const network *net, int k, int64_t first, int n, const real *sum,
                            const stepper *weight_step) {
    for (int v = 0; v < n; v += VL) {
        real *bias = net->bias[k] + first + v;
        vstore(bias,
               vsteps(weight_step, vload(bias), vload(sum + v),
                      net->velocity[net->L + k] + first + v, net->second[net->L + k] + first + v));
    }
}

/* Functions that the rules share. */
#define input_plan(...)            EQP_NAME(input_plan)(__VA_ARGS__)
#define build_batch(...)           EQP_NAME(build_batch)(__VA_ARGS__)
#define input_pass(...)            EQP_NAME(input_pass)(__VA_ARGS__)
#define continual_is_narrow(...)   EQP_NAME(continual_is_narrow)(__VA_ARGS__)
#define continual_narrow_plan(...) EQP_NAME(continual_narrow_plan)(__VA_ARGS__)
#define nudged_narrow(...)         EQP_NAME(nudged_narrow)(__VA_ARGS__)
#define nudged_stepwise(...)       EQP_NAME(nudged_stepwise)(__VA_ARGS__)
#define gradient_plan(...)         EQP_NAME(gradient_plan)(__VA_ARGS__)
#define gradient_pack(...)         EQP_NAME(gradient_pack)(__VA_ARGS__)
#define reverse_phase(...)         EQP_NAME(reverse_phase)(__VA_ARGS__)
#define gradient_products(...)     EQP_NAME(gradient_products)(__VA_ARGS__)
#define update_inner(...)          EQP_NAME(update_inner)(__VA_ARGS__)
#define update_back(...)           EQP_NAME(update_back)(__VA_ARGS__)
#define make_stepper(...)          EQP_NAME(make_stepper)(__VA_ARGS__)

/* input.c */
void input_plan(const network *net, batch_buffers *batch, int thread, arena *arena);
void build_batch(const network *net, batch_buffers *batch, int64_t number, int thread);
void input_pass(const network *net, batch_buffers *batch, int64_t number, int64_t next,
                const stepper *weight_step, const stepper *bias_step, int thread);
/* continual_narrow.c, continual.c */
int continual_is_narrow(const network *net);
void continual_narrow_plan(const network *net, batch_buffers *batch, int thread, arena *arena);
void nudged_narrow(network *net, batch_buffers *batch, const phase *phase, int thread);
void nudged_stepwise(network *net, batch_buffers *batch, const phase *phase, int thread);
/* gradients.c */
void gradient_plan(const network *net, batch_buffers *batch, int n_threads, arena *arena);
void gradient_pack(const network *net, batch_buffers *batch, int thread);
void reverse_phase(const network *net, batch_buffers *batch, const phase *phase, int thread);
int gradient_products(const network *net, const batch_buffers *batch, int k, int rows, int64_t i0,
                      int64_t c0, int transposed, operand *terms);
/* train.c */
void update_inner(const network *net, batch_buffers *batch, int k, int rows,
                  const stepper *weight_step, const stepper *bias_step, int thread);
void update_back(const network *net, batch_buffers *batch, int k, int rows,
                 const stepper *weight_step, int thread);
stepper make_stepper(const eqp_layered_job *job, double rate, double decay, double scale,
                     int64_t batches_done);

#endif
