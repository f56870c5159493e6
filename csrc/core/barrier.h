/* barrier.h - where the threads of one job meet. A thread spins for about 0.1 ms, offers its core some times, then sleeps: on
 * a busy machine waiting costs nothing.
 */
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
#define EQP_SPINS 4000
#define EQP_YIELDS 64

/* Sleeps while the generation is `seen`; may return early. Elsewhere than on Linux: ever longer naps. */
static inline void eqp_doze(eqp_barrier *b, int32_t seen, long nap) {
#if defined(__linux__) && defined(SYS_futex)
    (void)nap;
    __atomic_add_fetch(&b->asleep, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &b->generation, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    __atomic_sub_fetch(&b->asleep, 1, __ATOMIC_SEQ_CST);
#else
    (void)b, (void)seen;
    EQP_NAP(nap);
#endif
}

static inline void eqp_wait(eqp_barrier *b, int n_threads) {
    if (n_threads < 2) return;
    const int32_t generation = __atomic_load_n(&b->generation, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&b->arrived, 1, __ATOMIC_ACQ_REL) == n_threads) {
        __atomic_store_n(&b->arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&b->generation, generation + 1, __ATOMIC_SEQ_CST); /* before it looks for sleepers */
#if defined(__linux__) && defined(SYS_futex)
        if (__atomic_load_n(&b->asleep, __ATOMIC_SEQ_CST))
            syscall(SYS_futex, &b->generation, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
#endif
        return;
    }
    long nap = 50;
    for (int turns = 0; __atomic_load_n(&b->generation, __ATOMIC_ACQUIRE) == generation; turns++) {
        if (turns < EQP_SPINS) EQP_PAUSE();
        else if (turns < EQP_SPINS + EQP_YIELDS) EQP_YIELD();
        else eqp_doze(b, generation, nap), turns--, nap = nap < 800 ? 2 * nap : 1000;
    }
}
#endif
