/* @FILE@.h - @SUMMARY@
 *
@ABOUT@
 *
 * C99 and C++11, freestanding: no malloc, no stdio, no libm. One static arena per network:
 *
 *     static net_memory arena;
 *     net_memory *net;
 *     net_init(&arena, sizeof arena, &net);
@USAGE@
 *
 * Every function returns a net_status; after anything but NET_OK nothing has changed, if not said
 * otherwise. */
#ifndef NET_H
#define NET_H

#include <stddef.h>
#include <stdint.h>

/* @CONSTANTS@ */

#ifdef __cplusplus
extern "C" {
#endif

#define NET_STATUS(X)                                                              \
    X(OK, "ok")                                                                    \
    X(ERROR_NULL, "an argument is NULL")                                           \
    X(ERROR_ARENA, "the arena is too small or not aligned")                        \
    X(ERROR_NOT_READY, "the arena was not initialised by net_init")                \
    X(ERROR_NOT_FINITE, "an input or target is NaN or infinite")                   \
    X(ERROR_DIVERGED, "a state or weight became too large or NaN@NUDGED@")         \
    X(ERROR_ARGUMENT, "a label, layer, rate or number of steps is out of range")   \
    X(ERROR_FLASH, "a flash callback failed, or what was written reads otherwise") \
    X(ERROR_EMPTY, "no slot holds saved weights")                                  \
    X(ERROR_CORRUPT, "a slot is damaged, and the other one holds nothing")         \
    X(ERROR_OTHER_MODEL, "the slots hold the weights of another network")

typedef enum {
#define NET_ENUM(name, text) NET_##name,
    NET_STATUS(NET_ENUM)
#undef NET_ENUM
        NET_N_STATUS
} net_status;

#if NET_INT
typedef int16_t net_value; /* states: NET_*_BITS fractional bits */
typedef int32_t net_sum;
#if NET_INT8 && !NET_LEARN
typedef int8_t net_weight;
#else
typedef int16_t net_weight;
#endif
#if NET_CLASSIFIER
typedef uint16_t net_probability; /* 32768 is 1 */
#endif
#if NET_LEARN
typedef struct {
    uint8_t mantissa, shift; /* rate / (beta, or 2 beta if centered) = mantissa / 2^shift */
} net_rate;
#endif
#else
typedef float net_value;
typedef float net_sum;
typedef float net_weight;
#if NET_CLASSIFIER
typedef float net_probability;
#endif
#if NET_LEARN
typedef float net_rate;
#endif
#endif

#if NET_LEARN
typedef struct { /* what net_save keeps */
    net_sum biases[NET_BIASES];
    uint32_t random;
    net_rate rates[NET_LAYERS];
    net_weight weights[NET_WEIGHTS];
} net_learned;
#endif

typedef struct {
    uint32_t ready;
    net_sum drive[NET_DRIVEN]; /* bias and input of the first layer: the same in all sweeps */
#if NET_INT
    net_sum score[NET_OUTPUTS]; /* field of the output, before its activation cuts it off */
#endif
#if NET_RESISTIVE
    net_sum totals[NET_UNITS]; /* sum of the conductances at each node */
#endif
    net_value states[NET_UNITS]; /* layer after layer, without the input@STATES@ */
#if NET_BUFFERED
    net_value next[NET_UNITS];
#endif
#if NET_SHOWN
    net_value input[NET_INPUTS]; /* as the first layer sees it */
#endif
#if NET_LARGEST
    uint8_t where[NET_UNITS]; /* of a pooled unit: which one of its square was the largest */
#endif
#if NET_LEARN
    net_value other[NET_UNITS];    /* the second equilibrium of the contrast */
    net_value target[NET_OUTPUTS]; /* what the output shall be */
#if NET_LARGEST
    uint8_t other_where[NET_UNITS];
#endif
#if NET_CROSS_ENTROPY
    net_value softmax[NET_OUTPUTS];
#endif
    int32_t nudge; /* 1: the target pulls, -1: it pushes, 0: free phase */
    net_learned learned;
#endif
} net_memory;

typedef struct {
    int32_t steps;      /* sweeps used */
    net_value residual; /* largest change of a unit in the last sweep@RESIDUAL@ */
} net_result;

#if NET_CLASSIFIER
/* Label i is the class net_classes[i]. */
#if NET_NAMES
extern const char *const net_classes[NET_CLASSES];
#else
extern const int32_t net_classes[NET_CLASSES];
#endif
#endif

/* Text of a status. */
const char *net_text(net_status status);

/* Take `size` bytes of `arena`, aligned as a net_memory is, and put the network there. */
net_status net_init(void *arena, size_t size, net_memory **net);

/* Relax from zero with x[NET_INPUTS] as input; the states are then in net->states. After
 * NET_ERROR_DIVERGED they are of no use, the weights are as before. `result` may be NULL. */
net_status net_relax(net_memory *net, const net_value *x, net_result *result);

#if NET_EXCLUSIVE
/* Relax, then the label of the largest output. */
net_status net_predict(net_memory *net, const net_value *x, int *label);
#endif
#if NET_MULTILABEL
/* Relax, then labels[NET_OUTPUTS]: 1 where an output is above 1/2, else 0. */
net_status net_predict(net_memory *net, const net_value *x, uint8_t *labels);
#endif
#if NET_REGRESSOR
/* Relax, then y[NET_OUTPUTS]@SCALED@. */
net_status net_predict(net_memory *net, const net_value *x, net_value *y);
#endif

#if NET_CLASSIFIER
/* Relax, then p[NET_CLASSES]: probabilities@PROBABILITY@. */
net_status net_predict_proba(net_memory *net, const net_value *x, net_probability *p);
#endif

#if NET_LEARN
#if NET_EXCLUSIVE
/* One sample: free phase, nudged phases, local update. */
net_status net_learn(net_memory *net, const net_value *x, int label);
#else
/* One sample with its targets y[NET_OUTPUTS]: free phase, nudged phases, local update. */
net_status net_learn(net_memory *net, const net_value *x, const net_value *y);
#endif

/* Rate of the weights and biases that feed layer 1 .. NET_LAYERS. */
net_status net_set_rate(net_memory *net, int layer, net_rate rate);

/* Back to the exported weights and rates. */
net_status net_reset(net_memory *net);

/* Two slots of flash, NET_SLOT_BYTES each; each callback returns 0 if all went well. */
typedef struct {
    void *context;
    int (*erase)(void *context, int slot);
    int (*write)(void *context, int slot, uint32_t offset, const void *data, uint32_t size);
    int (*read)(void *context, int slot, uint32_t offset, void *data, uint32_t size);
} net_flash;

/* Write the learned weights into the slot that does not hold the newest ones: a power failure at
 * any moment leaves those. Writes go upwards in offset but for the header (16 bytes at 0), which
 * comes last. */
net_status net_save(const net_memory *net, const net_flash *flash);

/* Read the newest slot whose checksum is right. After NET_ERROR_FLASH the weights are the exported
 * ones. */
net_status net_load(net_memory *net, const net_flash *flash);
#endif

#ifdef __cplusplus
}
#endif
#endif
