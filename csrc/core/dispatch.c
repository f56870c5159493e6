/* dispatch.c - picks, at run time, the instruction set whose kernels serve: the last in `variants`
 * that the processor runs, or the one that eqp_select_isa names. Compiled once, for the baseline:
 * nothing here may use a vector. */
#include "core/eqprop.h"

#include <string.h>

#include "core/table.h"

/* Each built set has a table of its kernels, one a precision (table.c). */
#define EQP_EXTERN_TABLES(isa) extern const eqp_table eqp_table_f32_##isa, eqp_table_f64_##isa;
#ifdef EQP_HAVE_SCALAR
EQP_EXTERN_TABLES(scalar)
#endif
#ifdef EQP_HAVE_NEON
EQP_EXTERN_TABLES(neon)
#endif
#ifdef EQP_HAVE_SSE2
EQP_EXTERN_TABLES(sse2)
#endif
#ifdef EQP_HAVE_AVX2
EQP_EXTERN_TABLES(avx2)
#endif
#ifdef EQP_HAVE_AVX512
EQP_EXTERN_TABLES(avx512)
#endif

/* Whether the processor runs a set; the baseline always. */
static int always(void) { return 1; }
#ifdef EQP_HAVE_AVX2
static int has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif
#ifdef EQP_HAVE_AVX512
static int has_avx512(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}
#endif

/* One instruction set that was built: its kernels in both precisions. */
typedef struct {
    const char *name;
    const eqp_table *f32, *f64;
    int (*usable)(void);
} variant;

/* A row of `variants`: name, kernels in both precisions, whether they run here. */
#define VARIANT(isa, usable) \
    { #isa, &eqp_table_f32_##isa, &eqp_table_f64_##isa, usable }
/* Worst first: the last that is usable serves. */
static const variant variants[] = {
#ifdef EQP_HAVE_SCALAR
    VARIANT(scalar, always),
#endif
#ifdef EQP_HAVE_NEON
    VARIANT(neon, always),
#endif
#ifdef EQP_HAVE_SSE2
    VARIANT(sse2, always),
#endif
#ifdef EQP_HAVE_AVX2
    VARIANT(avx2, has_avx2),
#endif
#ifdef EQP_HAVE_AVX512
    VARIANT(avx512, has_avx512),
#endif
};
#define N_VARIANTS ((int)(sizeof variants / sizeof variants[0]))

/* Set before the first job's threads start (kernels/native), so that they only read it. */
static const variant *current = NULL;

/* How many sets were built; the best is the last. */
int eqp_isa_count(void) { return N_VARIANTS; }

/* The name of set i, or "". */
const char *eqp_isa_name(int i) { return i >= 0 && i < N_VARIANTS ? variants[i].name : ""; }

/* Whether set i runs here. */
int eqp_isa_usable(int i) { return i >= 0 && i < N_VARIANTS && variants[i].usable(); }

/* Selects by name, or with NULL the best that runs; EQP_E_OPTION if there is none. */
int eqp_select_isa(const char *name) {
    /* best first */
    for (int i = N_VARIANTS - 1; i >= 0; i--) {
        /* a name must fit exactly, and then the processor must have it */
        if (name && strcmp(name, variants[i].name) != 0) continue;
        if (!variants[i].usable()) continue;
        current = &variants[i];
        return EQP_OK;
    }
    return EQP_E_OPTION;
}

/* The selected set, or the best if none has been selected. */
static const variant *chosen(void) {
    if (!current) eqp_select_isa(NULL);
    return current;
}

/* The name of the set in use. */
const char *eqp_isa(void) { return chosen()->name; }

/* The text of a status code, from the table that numbers them (eqprop.h). */
const char *eqp_status_text(int status) {
    static const char *const texts[] = {
#define EQP_STATUS_TEXT(code, text) text,
        EQP_STATUS_TABLE(EQP_STATUS_TEXT)
#undef EQP_STATUS_TEXT
    };
    return status >= 0 && status < EQP_N_STATUS ? texts[status] : "unknown status";
}

/* What must hold of every call, before a kernel may look into its job. */
static int check_call(const void *job, int thread, int n_threads) {
    if (!job) return EQP_E_NULL;
    return n_threads < 1 || thread < 0 || thread >= n_threads ? EQP_E_SIZE : EQP_OK;
}

/* The public functions: check, then the chosen set's kernel. */
#define FORWARD(name, job)                                                  \
    int eqp_##name##_f32(job *j, int thread, int n_threads) {               \
        const int status = check_call(j, thread, n_threads);                \
        return status ? status : chosen()->f32->name(j, thread, n_threads); \
    }                                                                       \
    int eqp_##name##_f64(job *j, int thread, int n_threads) {               \
        const int status = check_call(j, thread, n_threads);                \
        return status ? status : chosen()->f64->name(j, thread, n_threads); \
    }
EQP_KERNEL_TABLE(FORWARD)
