/* eqprop.h - the public C interface of eqprop_fast.
 *
 * Plain C99. Kernels take a job (arrays, sizes, caller-owned scratch), a thread number and the
 * number of threads; they never allocate, never print, and return an eqp_status. Every kernel
 * exists once per precision (suffix _f32, _f64) and once per instruction set; dispatch.c picks the
 * set at run time.
 *
 * Arrays are row-major. `real` in a comment is float in the _f32 kernel and double in the _f64
 * kernel.
 */
#ifndef EQPROP_H
#define EQPROP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One table for codes and texts, so that they cannot fall out of step. */
#define EQP_STATUS_TABLE(X)                             \
    X(EQP_OK, "success")                                \
    X(EQP_E_NULL, "a required array is missing")        \
    X(EQP_E_SIZE, "a size or count is out of range")    \
    X(EQP_E_OPTION, "an option has an unknown value")   \
    X(EQP_E_SCRATCH, "the scratch buffer is too small") \
    X(EQP_E_DIVERGED, "the state became non-finite")    \
    X(EQP_E_SINGULAR, "the circuit matrix is singular") \
    X(EQP_E_NOT_CONVERGED, "the iteration did not converge")

typedef enum {
#define EQP_STATUS_CODE(code, text) code,
    EQP_STATUS_TABLE(EQP_STATUS_CODE)
#undef EQP_STATUS_CODE
        EQP_N_STATUS
} eqp_status;

/* The text of a status code; never NULL. */
const char *eqp_status_text(int status);

/* Instruction sets. eqp_select_isa takes a name ("sse2", "avx2", "avx512", "neon", "scalar") or
 * NULL for the best one this processor runs; EQP_E_OPTION if it was not built or the processor
 * lacks it. */
const char *eqp_isa(void);
int eqp_select_isa(const char *name);
int eqp_isa_count(void);
const char *eqp_isa_name(int i); /* names of the sets that were built, best last */
int eqp_isa_usable(int i);       /* 1 if this processor can run set i */

/* A barrier the threads of one job share. Zero it before the job starts. */
typedef struct {
    int32_t arrived, generation, asleep;
} eqp_barrier;

#define EQP_MAX_WEIGHTS     16
#define EQP_MAX_LAYERS      64
#define EQP_MAX_CONNECTIONS 128

#include "core/jobs.h"

/* Every kernel family lists its kernels here: name, job type. Each is
 *     int eqp_<name>_f32(job *, int thread, int n_threads)   and the same with _f64.
 */
#define EQP_KERNEL_TABLE(X)                             \
    X(layered_relax_scratch, eqp_layered_job)           \
    X(layered_relax, eqp_layered_job)                   \
    X(layered_train_scratch, eqp_layered_job)           \
    X(layered_train, eqp_layered_job)                   \
    X(graph_relax_scratch, eqp_graph_job)               \
    X(graph_relax, eqp_graph_job)                       \
    X(graph_train_scratch, eqp_graph_job)               \
    X(graph_train, eqp_graph_job)                       \
    X(crossbar_relax_scratch, eqp_crossbar_job)         \
    X(crossbar_relax, eqp_crossbar_job)                 \
    X(crossbar_train_scratch, eqp_crossbar_job)         \
    X(crossbar_train, eqp_crossbar_job)                 \
    X(nodal_newton_scratch, eqp_nodal_job)              \
    X(nodal_newton, eqp_nodal_job)                      \
    X(nodal_head, eqp_nodal_head_job)                   \
    X(nodal_update_scratch, eqp_nodal_update_job)       \
    X(nodal_update, eqp_nodal_update_job)               \
    X(boltzmann_sweep_scratch, eqp_boltzmann_job)       \
    X(boltzmann_sweep, eqp_boltzmann_job)               \
    X(boltzmann_train_scratch, eqp_boltzmann_train_job) \
    X(boltzmann_train, eqp_boltzmann_train_job)

#define EQP_DECLARE(name, job)                              \
    int eqp_##name##_f32(job *, int thread, int n_threads); \
    int eqp_##name##_f64(job *, int thread, int n_threads);
EQP_KERNEL_TABLE(EQP_DECLARE)
#undef EQP_DECLARE

#ifdef __cplusplus
}
#endif
#endif
