/* threefry.h - random numbers by counter, the same on every backend and for any number of threads
 * (equations 14; twin: kernels/reference/threefry.py): Threefry-4x32 with 20 rounds (Salmon et al.,
 * SC 2011).
 *
 *     counter    x0: 16 group + lane;  x1: row;  x2: layer;  x3: sweep, its low half
 *     key        seed, low and high half; the high half of the sweep; 0
 *     group      EQP_DRAW_GROUP units of a layer; word w of lane i serves its unit 16 w + i
 *
 * A draw is a function of seed, sweep, row, layer and unit, and of nothing that was drawn before:
 * so neither threads nor blocks of rows change it. Only the low 32 bits of a row's number count.
 *
 * EQP_DRAW_LANES counters side by side, in the compiler's own vectors: it cuts them to the width of
 * the instruction set. */
#ifndef EQP_THREEFRY_H
#define EQP_THREEFRY_H

#include "core/simd.h"

/* 16 whatever VL is: which unit gets which word does not depend on the instruction set. */
#define EQP_DRAW_LANES  16
#define EQP_DRAW_GROUP  (4 * EQP_DRAW_LANES) /* units that one call serves */
#define EQP_DRAW_ROUNDS 20                   /* the authors' default */

/* One word of all lanes. */
typedef uint32_t draw_words __attribute__((vector_size(4 * EQP_DRAW_LANES)));

/* What all draws of one layer in one sweep have in common. */
typedef struct {
    uint32_t key[5]; /* its four words, then their parity */
    uint32_t layer, sweep;
} draw_stream;

/* The stream of a layer in sweep number `sweep`, by a seed that is not negative (equations 14). */
EQP_INLINE draw_stream draws_of(int64_t seed, int layer, int64_t sweep) {
    draw_stream stream = {{(uint32_t)seed, (uint32_t)(seed >> 32), (uint32_t)(sweep >> 32), 0, 0},
                          (uint32_t)layer,
                          (uint32_t)sweep};
    /* the parity constant of Threefry's 32-bit words: no key makes all five words 0 */
    stream.key[4] = 0x1BD11BDAu ^ stream.key[0] ^ stream.key[1] ^ stream.key[2];
    return stream;
}

/* The bits of each word moved n places to the left, round the end. */
#define EQP_ROTATED(x, n) ((x) << (n) | (x) >> (32 - (n)))

/* out (EQP_DRAW_GROUP): numbers in (0, 1), odd multiples of 2^-24, for the units of `row` from
 * `group` * EQP_DRAW_GROUP on (equations 14). Never 0 or 1: a unit of probability 0 stays off, one
 * of probability 1 goes on. All are written, of a layer that ends before them, too. */
static inline void draw_group(const draw_stream *stream, int64_t group, int64_t row, real *out) {
    /* of the 4x32 variant, for eight rounds; then from the start */
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
            /* an even round pairs words 0, 1 and 2, 3; an odd one 0, 3 and 2, 1 */
            x0 += x1, x1 = EQP_ROTATED(x1, rotation[q % 8][0]) ^ x0;
            x2 += x3, x3 = EQP_ROTATED(x3, rotation[q % 8][1]) ^ x2;
            x0 += x3, x3 = EQP_ROTATED(x3, rotation[q % 8 + 1][0]) ^ x0;
            x2 += x1, x1 = EQP_ROTATED(x1, rotation[q % 8 + 1][1]) ^ x2;
        }
        /* after every fourth round the key, turned by one word, and the injection's number */
        const int s = r / 4 + 1;
        x0 += key[s % 5], x1 += key[(s + 1) % 5], x2 += key[(s + 2) % 5];
        x3 += key[(s + 3) % 5] + (uint32_t)s;
    }
    /* the upper 23 bits: exact in single precision, so both precisions draw alike. By int32_t,
     * for which every set has a conversion */
    const draw_words words[4] = {x0, x1, x2, x3};
    for (int w = 0; w < 4; w++)
        for (int i = 0; i < EQP_DRAW_LANES; i++)
            out[w * EQP_DRAW_LANES + i] = (real)(int32_t)((words[w][i] >> 9) * 2 + 1) *
                                          (real)5.9604644775390625e-8; /* 2^-24 */
}

#endif
