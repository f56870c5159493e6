/* barrier.h - where the threads of one job meet.
 *
 * A thread spins for about 0.1 ms, offers its core some times, then sleeps. Threads that come at
 * about the same time never leave their cores; on a busy machine waiting costs nothing. (One that
 * only spins keeps its core from the very thread it waits for.)
 *
 * The barrier counts generations: the last to arrive starts the next one, the others wait until it
 * has. On Linux sleepers wait on the generation itself (futex); elsewhere they nap. */
#ifndef EQP_BARRIER_H
#define EQP_BARRIER_H

#include "core/eqprop.h"

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <sched.h>
#include <time.h>
#define EQP_YIELD() sched_yield()
#define EQP_NAP(us) nanosleep(&(struct timespec){0, 1000L * (us)}, NULL)
#elif defined(_WIN32)
void __stdcall Sleep(unsigned long); /* of kernel32 */
#define EQP_YIELD() Sleep(0)
#define EQP_NAP(us) Sleep(1)
#else
#define EQP_YIELD() ((void)0)
#define EQP_NAP(us) ((void)(us))
#endif
#if defined(__x86_64__) || defined(__i386__)
#define EQP_PAUSE() __builtin_ia32_pause()
#else
#define EQP_PAUSE() ((void)0)
#endif
/* Pauses before a thread first offers its core; offers before it sleeps. */
#define EQP_SPINS  4000
#define EQP_YIELDS 64

/* Sleeps while the generation is `seen`; may return early. Elsewhere than on Linux: ever longer
 * naps. */
static inline void eqp_doze(eqp_barrier *barrier, int32_t seen, long nap) {
#if defined(__linux__) && defined(SYS_futex)
    (void)nap;
    __atomic_add_fetch(&barrier->asleep, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &barrier->generation, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    __atomic_sub_fetch(&barrier->asleep, 1, __ATOMIC_SEQ_CST);
#else
    (void)barrier, (void)seen;
    EQP_NAP(nap);
#endif
}

/* Returns when n_threads threads have called it. What any of them wrote before is seen by all
 * behind. */
static inline void eqp_wait(eqp_barrier *barrier, int n_threads) {
    if (n_threads < 2) return;
    const int32_t generation = __atomic_load_n(&barrier->generation, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&barrier->arrived, 1, __ATOMIC_ACQ_REL) == n_threads) {
        __atomic_store_n(&barrier->arrived, 0, __ATOMIC_RELAXED);
        /* before it looks for sleepers: one that dozes off now sees the new generation */
        __atomic_store_n(&barrier->generation, generation + 1, __ATOMIC_SEQ_CST);
#if defined(__linux__) && defined(SYS_futex)
        if (__atomic_load_n(&barrier->asleep, __ATOMIC_SEQ_CST))
            syscall(SYS_futex, &barrier->generation, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
#endif
        return;
    }
    /* microseconds, doubled up to a thousand */
    long nap = 50;
    for (int turns = 0; __atomic_load_n(&barrier->generation, __ATOMIC_ACQUIRE) == generation;
         turns++) {
        if (turns < EQP_SPINS)
            EQP_PAUSE();
        else if (turns < EQP_SPINS + EQP_YIELDS)
            EQP_YIELD();
        else
            eqp_doze(barrier, generation, nap), turns--, nap = nap < 800 ? 2 * nap : 1000;
    }
}
#endif
