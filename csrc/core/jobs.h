/* jobs.h - what each kernel family is told: plain structs, read by C and, as it stands, by cffi
 * (so: no preprocessor lines, no macros). `void *` is real * of the kernel's precision.
 *
 * Letters:
 *   L      weight matrices, and so layers above the input
 *   N[k]   units of layer k (0 = input ... L = output)
 *   R      rows (samples) of the data
 *   M      rows in the job
 *   B      batch size
 *   rho    the activation; s, the state of a unit (docs/equations.md has the same letters)
 */

/* A layered network, its dynamics (equations 1), and what to do with it: layered_relax
 * (layered/layered.c) and layered_train (layered/train.c). */
typedef struct {
    /* --- network --- */
    int32_t n_weights;   /* L */
    const int32_t *size; /* (L+1) */
    void **weight;       /* L x (N[k], N[k+1])   in, train: in/out */
    void **back;         /* L x (N[k+1], N[k])   independent feedback weights; [0] unused;
                            NULL: weight[k]^T */
    void **bias;         /* L x (N[k+1])         in, train: in/out */

    /* --- dynamics --- */
    int32_t dynamics;   /* 0 discrete map, 1 Euler steps of the energy's gradient */
    int32_t schedule;   /* 0 synchronous, 1 asynchronous (odd layers, then even),
                           2 layer after layer (relaxing only) */
    int32_t activation; /* hidden layers: ACT_* of csrc/core/activation.h (equations 1.1) */
    int32_t out_activation;
    int32_t prime_hidden;     /* Euler: multiply the hidden field by rho'(s) */
    int32_t prime_output;     /* Euler: multiply the output field by rho'(s) */
    int32_t linear_output;    /* Euler: the output acts on others (and learns) as s, not rho(s) */
    int32_t input_activation; /* the input acts as this function of x */
    int32_t clamp;            /* Euler: clip s to [0, 1] after each step */
    int32_t nudge_inside;     /* discrete: rho(a + nudge) instead of rho(a) + nudge */
    int32_t cost;             /* 0 squared error, 1 softmax cross-entropy */
    double cost_factor;       /* nudge = cost_factor * beta * (y - prediction) */
    double dt;                /* Euler step; discrete: damping, 1 = the plain map */
    const double *gain; /* relax: (L) the field of layer k counts so many times; NULL: once */

    /* --- data: dense x, or CSR when indptr is given --- */
    const void *x;          /* (R, N[0]) */
    const int64_t *indptr;  /* (R+1) or NULL */
    const int32_t *indices; /* (nnz) */
    const void *data;       /* (nnz) */
    const void *y;          /* (R, N[L]) targets; relax: needed only when beta != 0 */
    const void *row_weight; /* (R) or NULL: weight of each sample's update */
    const int64_t *order;   /* (M) row of the data each job row reads, or NULL: 0..M-1 */
    int64_t n_rows;         /* M */

    /* --- relaxation --- */
    double beta;
    int32_t n_free_steps, n_nudged_steps; /* relax uses n_free_steps for its one phase */
    double over_relaxation; /* train: the free phase's steps are this much longer (asynchronous
                               discrete nets), 1: not (equations 1.6) */
    double tol_free;        /* a sample stops when its largest change in a step is <= tol; */
    double tol_nudged;      /* < 0: never (equations 3) */
    void **state;           /* relax: L x (M, N[k]) states of layers 1..L, in/out.
                               train: L x (R, N[k]) persistent particles; NULL: start from zero */
    int32_t *steps;         /* relax: (M) steps used, out */
    void *residual;         /* relax: (M) largest change in the last step, out */

    /* --- training --- */
    int32_t rule;            /* RULE_* of csrc/layered/rules.h */
    int32_t batch_size;      /* B */
    int32_t centered;        /* 0: s(beta) against s(0); 1: s(beta) against s(-beta) */
    const int8_t *sign;      /* (number of batches) sign of beta for each batch, or NULL */
    const double *rate;      /* (L) learning rate of weight[k] */
    const double *bias_rate; /* (L) */
    int32_t optimizer;       /* 0 SGD, 1 SGD with momentum, 2 Nesterov, 3 Adam */
    double momentum, weight_decay, beta1, beta2, epsilon;
    int64_t adam_step; /* updates done before this job */
    void **velocity;   /* momentum or first moment: arrays shaped as weight[0..L), bias[0..L)
                          and, when back is given, L more for it (NULL where it does not
                          learn) */
    void **second;     /* the same: Adam's second moment */
    double *loss;      /* (2): sum of cost, number of right argmax, of the free phase;
                          added to */
    int64_t *counts;   /* (4): free sample-steps, nudged sample-steps, samples, batches done;
                          added to */

    /* --- machinery --- */
    void *scratch; /* caller-owned, 64-byte aligned, of the size that the _scratch kernel
                      wrote to scratch_size */
    int64_t scratch_size;
    eqp_barrier *barrier; /* zeroed by the caller */
    int32_t status;       /* out: the first error any thread met */
} eqp_layered_job;

/* A network of any shape (equations 1.7) and what to do with it: graph_relax (graph/graph.c),
 * graph_train (graph/train.c). Fields without a comment are those of eqp_layered_job. K layers, the
 * input among them; C connections. */
typedef struct {
    /* --- network --- */
    int32_t n_layers, n_connections; /* K, C */
    const int32_t *shape;            /* (K, 3) channels, height, width; of a flat layer n, 1, 1 */
    const int32_t *activation;       /* (K) ACT_*; of the input: how x acts */
    const int32_t *pass; /* (K) pass of a step in which the layer moves, -1: it does not */
    int32_t n_passes;
    const int32_t *connection; /* (C, 8) below, above, kernel (0: dense), stride, padding, pool
                                  (0 none, 1 max, 2 average), window, 1: back has weights */
    void **weight;             /* C x (N below, N above) or (O, C, k, k)   in, train: in/out */
    void **back;               /* C x (N above, N below) or (O, C, k, k), NULL where there are none;
                                  or NULL */
    void **bias;               /* (K-1) x (channels)   in, train: in/out */

    /* --- dynamics --- */
    int32_t dynamics, prime_hidden, prime_output, linear_output, clamp, nudge_inside;
    int32_t readout; /* 1: the output is no state but reads W s + b */
    int32_t cost;
    double cost_factor, dt;
    const double *gain; /* relax: (K-1) */

    /* --- data --- */
    const void *x;          /* (R, N[0]) */
    const void *y;          /* (R, N[K-1]) */
    const void *row_weight; /* (R) or NULL */
    const int64_t *order;   /* (M) or NULL */
    int64_t n_rows;         /* M */

    /* --- relaxation --- */
    double beta;
    int32_t n_free_steps, n_nudged_steps;
    double over_relaxation, tol_free, tol_nudged;
    void **state;   /* (K-1) x (M, N[k]); train: (R, N[k]) persistent particles or NULL */
    int32_t *steps; /* relax: (M) out */
    void *residual; /* relax: (M) out */

    /* --- training --- */
    int32_t rule; /* those that graph/train.c serves */
    int32_t batch_size, centered;
    const int8_t *sign;
    const double *rate;      /* (C) */
    const double *bias_rate; /* (K-1) */
    int32_t optimizer;
    double momentum, weight_decay, beta1, beta2, epsilon;
    int64_t adam_step;
    void **velocity, **second; /* arrays as weight[0..C), bias[0..K-1) and, where it learns, back */
    double *loss;              /* (2) */
    int64_t *counts;           /* (4) */

    /* --- machinery --- */
    void *scratch;
    int64_t scratch_size;
    eqp_barrier *barrier;
    int32_t status;
} eqp_graph_job;

/* A layered resistive network (crossbars and ideal diodes; equations 11), and what to do with it
 * (crossbar/crossbar.c). D = N[0] inputs. */
typedef struct {
    /* --- network: layer 0 are the D inputs, twice as voltage sources (+A x, -A x) --- */
    int32_t n_weights;   /* L */
    const int32_t *size; /* (L+1) */
    void **weight;       /* L x (rows, N[k+1]) conductances; rows = 2 N[0] for k = 0, else N[k].
                            train: in/out */
    void **bias;         /* L x (N[k+1]) bias currents. train: in/out */
    void **lower;        /* L x (N[k+1]) lowest voltage the diodes allow */
    void **upper;        /* L x (N[k+1]) highest */
    int32_t pairs;       /* outputs: prediction c = v[c] - v[N[L]/2 + c] */
    int32_t schedule;    /* 0 synchronous, 1 asynchronous, 2 forward, 3 backward */
    double input_gain;   /* A */

    /* --- data: dense x, or CSR when indptr is given --- */
    const void *x;          /* (R, N[0]) */
    const int64_t *indptr;  /* (R+1) or NULL */
    const int32_t *indices; /* (nnz) */
    const void *data;       /* (nnz) */
    const void *y;          /* (R, outputs) targets; relax: needed only when beta != 0 */
    const void *row_weight; /* (R) or NULL: weight of each sample in its batch's mean, and
                               of its cost */
    const int64_t *order;   /* (M) row of the data each job row reads, or NULL: 0..M-1 */
    int64_t n_rows;         /* M */

    /* --- relaxation --- */
    double beta;
    int32_t n_free_steps, n_nudged_steps; /* relax uses n_free_steps for its one phase */
    double tol_free;   /* a sample stops when its largest change in a step is <= tol; */
    double tol_nudged; /* < 0: never */
    void **state;      /* relax: L x (M, N[k]) in/out.
                          train: L x (B, N[k]) in/out: where the last batch ended */
    int32_t *steps;    /* relax: (M) steps used, out */
    void *residual;    /* relax: (M) largest change in the last step, out */

    /* --- training --- */
    int32_t batch_size;      /* B */
    int32_t nudging;         /* 0 centered, 1 positive, 2 negative */
    int32_t carry;           /* 1: a free phase starts where the last batch ended, 0: at zero */
    const double *rate;      /* (L) learning rate of weight[k] */
    const double *bias_rate; /* (L) */
    double g_min, g_max;
    int32_t optimizer; /* 0 SGD, 1 momentum, 2 Nesterov */
    double momentum;
    void **velocity; /* optimizer != 0: 2 L arrays shaped as weight[0..L) and bias[0..L),
                        in/out */
    double *loss;    /* (2): sum of cost, number of right argmax, of the free phase;
                        added to */

    /* --- machinery --- */
    void *scratch;        /* caller-owned, 64-byte aligned */
    int64_t scratch_size; /* its bytes; crossbar_<relax|train>_scratch writes what the job
                             needs here */
    eqp_barrier *barrier; /* zeroed by the caller */
    int32_t status;       /* out: the first error any thread met */
} eqp_crossbar_job;

/* Operating points of a circuit with diodes (equations 12): one shared linear part, VL samples at a
 * time (nodal/nodal.c). M samples, N unknowns, D diodes, NNZ entries of the sparse matrix. */
typedef struct {
    int32_t n;                            /* N */
    int32_t n_diodes;                     /* D */
    int64_t n_samples;                    /* M */
    const void *base;                     /* dense: (N, N); sparse: (NNZ) in CSR order */
    const int32_t *indptr;                /* (N+1) CSR, or NULL: dense */
    const int32_t *indices;               /* (NNZ) */
    const int32_t *row_of, *col_of;       /* (N) equation and unknown at each pivot */
    const int32_t *a_ptr, *a_row, *a_src; /* columns in pivot order: rows by pivot, places in
                                             `base` */
    const int32_t *l_ptr, *l_row;         /* strict lower factor by columns */
    const int32_t *u_ptr, *u_row;         /* strict upper factor by columns, rows ascending */
    const int32_t *anode, *cathode;       /* (D) unknowns, -1: known voltage */
    const int32_t *branch;  /* (D) unknown that is an ideal diode's current, -1: exponential */
    const int32_t *stamp;   /* (D, 9) places in `base`, -1: none */
    const void *parameters; /* (D, 7) IS, vte, RS, vcrit, gmin, BV, breakdown vte */
    const void *rhs;        /* (M, N) */
    const void *offset;     /* (M, D) known part of each diode's voltage */
    void *x;                /* (M, N) in/out */
    void *junction; /* (M, D) in/out: junction voltages; of ideal diodes 1 (conducts) or 0 */
    double vtol, rtol;
    int32_t max_iter, single_after;
    int32_t *iterations;    /* (M) out */
    int32_t *sample_status; /* (M) out: 0 converged, 1 not, 2 singular */
    double *step;           /* (M) out: largest last step */
    int32_t *worst;         /* (M) out: unknown that moved most */
    void *scratch;          /* 64-byte aligned, caller-owned */
    int64_t scratch_size;   /* bytes; nodal_newton_scratch writes what is needed here */
    eqp_barrier *barrier;   /* not used: samples are independent */
} eqp_nodal_job;

/* The sparse head of a symmetric elimination (nodal/head.h): the first n_head of N pivots, the rest
 * a dense tail. */
typedef struct {
    int32_t task; /* 0 factor, 1 forward substitution, 2 backward */
    int32_t n_head, n;
    const int64_t *ptr;    /* (n_head+1) columns of the strict lower factor */
    const int32_t *row;    /* (nnz) rows by pivot, ascending */
    const int64_t *target; /* factor: for each column, each k and each i >= k of its rows, where the
                              product goes */
    void *value;           /* factor: (nnz + tail) in: entries of A; out: L, then the tail's Schur
                              complement */
    void *pivot;           /* (n_head) in: diagonal of A; out: D */
    void *b;               /* (N, n_rows) right-hand sides by pivot, in/out */
    int32_t n_rows;
} eqp_nodal_head_job;

/* Equilibrium propagation's step of the conductances of any circuit (nodal/update.h; equations 12):
 * M samples, P conductances. */
typedef struct {
    int64_t n_pairs;        /* P */
    int64_t n_samples;      /* M */
    const void *difference; /* (nodes, M) voltages of the first phase minus those of the second */
    const void *total;      /* (nodes, M) their sum */
    const int32_t *pairs;   /* (P, 2) nodes of each conductance */
    const void *scale;      /* (P) gradient per unit of the sum over samples */
    void *velocity;         /* (P) in/out */
    void *conductance;      /* (P) in/out */
    const void *low, *high; /* (P) bounds */
    void *gradient;         /* (P) out */
    double learning_rate, momentum;
    int32_t not_finite; /* zero before the job; 1: some gradient was no number, and nothing was
                           changed */
    void *scratch;      /* not used */
    int64_t scratch_size;
    eqp_barrier *barrier;
} eqp_nodal_update_job;

/* A Boltzmann machine: a chain of layers of binary units (equations 14), and what a call of sweeps
 * does with it (boltzmann/gibbs.c). N[k] units of layer k = 0 ... L; here layer 0, the visible one,
 * has states and a bias as the others have. */
typedef struct {
    /* --- machine --- */
    int32_t n_weights;       /* L */
    const int32_t *size;     /* (L+1) */
    void **weight;           /* L x (N[k], N[k+1]) */
    void **bias;             /* (L+1) x (N[k]) */
    int32_t categorical_top; /* exactly one unit of layer L is on */

    /* --- sweeps --- */
    void **state;          /* (L+1) x (M, N[k]) in/out */
    void **mean;           /* (L+1) x (M, N[k]) out: the probabilities drawn from last; or NULL */
    const int8_t *clamped; /* (L+1) 1: the layer's states stay */
    const int8_t *mask;    /* (M, N[0]) 1: the visible unit's state stays; or NULL */
    int64_t n_rows;        /* M */
    int32_t n_sweeps;      /* T */
    int32_t draw;          /* 1: states are drawn, 0: they are the probabilities */
    int32_t even_first;    /* 1: a sweep begins with layers 0, 2, ..., 0: with 1, 3, ... */
    int32_t upward;        /* 1: begin with a pass upwards (draw 0) */
    double tol;            /* draw 0: a row stops when no unit changed by more; < 0: never */
    int64_t seed, first_sweep;
    int32_t *steps; /* (M) out */
    void *residual; /* (M) out: largest change in the row's last sweep */

    /* --- annealed importance sampling --- */
    const double *betas; /* (T+1) inverse temperatures: of the states, of each sweep; or NULL: 1 */
    void **base;         /* with betas: (L+1) x (N[k]) biases at temperature 0 */
    double *log_weight;  /* with betas: (M) in/out; or NULL */

    /* --- machinery --- */
    void *scratch; /* as in eqp_layered_job */
    int64_t scratch_size;
    eqp_barrier *barrier;
} eqp_boltzmann_job;

/* Learning of a Boltzmann machine, mini-batch after mini-batch (boltzmann/learn.c); letters as
 * above. */
typedef struct {
    /* --- machine --- */
    int32_t n_weights;
    const int32_t *size;
    void **weight; /* in/out, as all of these */
    void **bias;
    int32_t categorical_top;
    void **velocity; /* 2 L + 1 arrays, shaped as weights, then biases; NULL: no momentum */
    void **offset;   /* (L+1) x (N[k]) states count from here in the gradient; NULL: from 0 */
    void **particle; /* (L+1) x (C, N[k]) persistent chains */

    /* --- data --- */
    const void *x;        /* (R, N[0]) in [0, 1] */
    const void *y;        /* (R, N[L]) or NULL: layer L is free */
    const int64_t *order; /* (M) rows, as they are taken */
    int64_t n_rows;       /* M */

    /* --- plan --- */
    int32_t batch_size, n_chains; /* B, C */
    int32_t n_mean_field;         /* sweeps of the first phase, at most */
    int32_t n_sweeps;             /* sweeps of the second phase */
    int32_t draw;                 /* second phase: 1 Gibbs sweeps of the chains, 0 mean field from
                                     what the data infer without labels */
    double tol, rate, momentum, weight_decay, offset_rate;
    int64_t seed, first_sweep;
    int64_t *counts; /* (2) out: batches, mean-field sweeps of all rows */

    /* --- machinery --- */
    void *scratch;
    int64_t scratch_size;
    eqp_barrier *barrier;
} eqp_boltzmann_train_job;
