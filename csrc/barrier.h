/* barrier.h - a spin barrier for the few threads of one job; yields when it must wait long. */
#ifndef EQP_BARRIER_H
#define EQP_BARRIER_H

#include "eqprop.h"

#if defined(__unix__) || defined(__APPLE__)
#include <sched.h>
#define EQP_YIELD() sched_yield()
#else
#define EQP_YIELD() ((void)0)
#endif
#if defined(__x86_64__) || defined(__i386__)
#define EQP_PAUSE() __builtin_ia32_pause()
#else
#define EQP_PAUSE() ((void)0)
#endif

static inline void eqp_wait(eqp_barrier *b, int n_threads) {
    if (n_threads < 2) return;
    const int32_t generation = __atomic_load_n(&b->generation, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&b->arrived, 1, __ATOMIC_ACQ_REL) == n_threads) {
        __atomic_store_n(&b->arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&b->generation, generation + 1, __ATOMIC_RELEASE);
        return;
    }
    for (int spins = 0; __atomic_load_n(&b->generation, __ATOMIC_ACQUIRE) == generation; spins++) {
        if (spins < 4000) EQP_PAUSE();
        else EQP_YIELD(); /* more threads than cores, or a busy machine */
    }
}
#endif
