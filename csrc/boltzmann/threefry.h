/* threefry.h - random numbers by counter, the same on every backend and for any number of threads
 * (twin: kernels/reference/threefry.py): Threefry-4x32 with 20 rounds (Salmon et al., SC 2011).
 *
 * EQP_DRAW_LANES counters side by side, in the compiler's own vectors: it cuts them to the width of
 * the instruction set. */
#ifndef EQP_THREEFRY_H
#define EQP_THREEFRY_H

#include "core/simd.h"

#define EQP_DRAW_LANES 16
#define EQP_DRAW_GROUP (4 * EQP_DRAW_LANES) /* units that one call serves */
#define EQP_DRAW_ROUNDS 20

typedef uint32_t draw_words __attribute__((vector_size(4 * EQP_DRAW_LANES)));

/* What all draws of one layer in one sweep have in common. */
typedef struct {
    uint32_t key[5];
    uint32_t layer, sweep;
} draw_stream;

/* Draws of a layer in sweep number `sweep`, by a seed that is not negative. */
EQP_INLINE draw_stream draws_of(int64_t seed, int layer, int64_t sweep) {
    draw_stream stream = {{(uint32_t)seed, (uint32_t)(seed >> 32), (uint32_t)(sweep >> 32), 0, 0},
                          (uint32_t)layer,
                          (uint32_t)sweep};
    stream.key[4] = 0x1BD11BDAu ^ stream.key[0] ^ stream.key[1] ^ stream.key[2];
    return stream;
}

#define EQP_ROTATED(x, n) ((x) << (n) | (x) >> (32 - (n)))

/* out: numbers in (0, 1), odd multiples of 2^-24, for the units from `group` * EQP_DRAW_GROUP on,
 * EQP_DRAW_GROUP of them. */
static inline void draw_group(const draw_stream *stream, int64_t group, int64_t row, real *out) {
    static const int rotation[8][2] = {{10, 26}, {11, 21}, {13, 27}, {23, 5},
                                       {6, 20},  {17, 11}, {25, 10}, {18, 20}};
    const uint32_t *key = stream->key;
    draw_words lane;
    for (int i = 0; i < EQP_DRAW_LANES; i++) lane[i] = (uint32_t)i;
    const draw_words none = {0};
    draw_words x0 = lane + ((uint32_t)(group * EQP_DRAW_LANES) + key[0]);
    draw_words x1 = none + ((uint32_t)row + key[1]);
    draw_words x2 = none + (stream->layer + key[2]), x3 = none + (stream->sweep + key[3]);
#pragma GCC unroll 5
    for (int r = 0; r < EQP_DRAW_ROUNDS; r += 4) {
#pragma GCC unroll 2
        for (int q = r; q < r + 4; q += 2) {
            x0 += x1, x1 = EQP_ROTATED(x1, rotation[q % 8][0]) ^ x0;
            x2 += x3, x3 = EQP_ROTATED(x3, rotation[q % 8][1]) ^ x2;
            x0 += x3, x3 = EQP_ROTATED(x3, rotation[q % 8 + 1][0]) ^ x0;
            x2 += x1, x1 = EQP_ROTATED(x1, rotation[q % 8 + 1][1]) ^ x2;
        }
        const int s = r / 4 + 1;
        x0 += key[s % 5], x1 += key[(s + 1) % 5], x2 += key[(s + 2) % 5];
        x3 += key[(s + 3) % 5] + (uint32_t)s;
    }
    const draw_words words[4] = {x0, x1, x2, x3};
    for (int w = 0; w < 4; w++)
        for (int i = 0; i < EQP_DRAW_LANES; i++)
            out[w * EQP_DRAW_LANES + i] =
                (real)(int32_t)((words[w][i] >> 9) * 2 + 1) * (real)5.9604644775390625e-8; /* 2^-24 */
}

#endif
