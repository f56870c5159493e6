/* driver.c - runs an exported network on a target: its cost, and whether it does what Python says.
 *
 * vectors.h, written by eqprop_fast.export.targets, includes NAME.h and defines net_* for NAME_*.
 * Pixels are bytes of 1/16, exact in every format. */
#include "vectors.h"

#include "start.h"

/* All the memory that the network has. Static, so that the linker counts it as RAM and the painted
 * stack does not. */
static net_memory arena;
static net_value input[NET_INPUTS];

/* Row `row` of pixels as the network takes it; the array is used again. */
static const net_value *sample(const uint8_t *pixels, uint32_t row) {
    uint32_t i;
    for (i = 0; i < NET_INPUTS; i++) input[i] = PIXEL(pixels[row * NET_INPUTS + i]);
    return input;
}

#if N_PREDICT > \
    0 /* absent when only the cost is asked: the flash that is reported has none of it */
/* How many predictions are the expected ones. */
static uint32_t predict_all(net_memory *net, const int16_t *expected) {
    uint32_t row, right = 0;
    for (row = 0; row < N_PREDICT; row++) {
        int label = -1; /* no class: a prediction that fails cannot pass for a right one */
        if (net_predict(net, sample(predict_pixels, row), &label) == NET_OK &&
            label == expected[row])
            right++;
    }
    return right;
}
#endif

/* Prints instructions, sweeps and stack of a relaxation, a prediction and a step of learning, which
 * is then undone; 1 if one of them fails. */
static int cost(net_memory *net) {
    net_result result;
    uint32_t before, used;
    int label = 0, bad = 0;
    /* the stack is painted after the input is there, so that only the call is measured */
    sample(cost_pixels, 0);
    paint_stack();
    begin_count();
    before = instructions();
    bad |= net_relax(net, input, &result) != NET_OK;
    used = instructions() - before; /* before anything is printed, which costs more than a sweep */
    print_number("instructions_relax", used);
    print_number("sweeps", (uint32_t)result.steps);
    bad |= net_predict(net, input, &label) != NET_OK;
    print_number("stack_predict", stack_used());
#ifdef LEARNS
    paint_stack(); /* again: learning goes deeper, and is reported by itself */
    begin_count();
    before = instructions();
    bad |= net_learn(net, input, label) != NET_OK;
    used = instructions() - before;
    print_number("instructions_learn", used);
    print_number("stack_learn", stack_used());
    /* what was learnt of the cost's sample must not stand beside Python's weights */
    bad |= net_reset(net) != NET_OK;
#endif
    return bad;
}

/* Cost; predictions and, after learning, parameters against Python's. */
int main(void) {
    net_memory *net = NULL;
    int bad = net_init(&arena, sizeof arena, &net) != NET_OK;
    print_number("arena", (uint32_t)sizeof arena);
    bad |= cost(net);
#if N_PREDICT > 0
    /* as exported, before the first update */
    print_number("same_predictions", predict_all(net, predict_labels));
#endif
#if N_LEARN > 0
    {
        uint32_t row, same = 0, failed = 0;
        /* learning has to help, not only to agree: both could be wrong in the same way */
        print_number("right_before", predict_all(net, true_labels));
        /* one image after another, as Python did; a sample that is refused is told by itself, for
         * all weights behind it differ then */
        for (row = 0; row < N_LEARN; row++)
            failed += net_learn(net, sample(learn_pixels, row), learn_labels[row]) != NET_OK;
        print_number("failed", failed);
        /* to the bit, for integers; within SAME for floats */
        for (row = 0; row < NET_WEIGHTS; row++)
            same += SAME(net->learned.weights[row], learned_weights[row]);
        print_number("same_weights", same);
        for (row = same = 0; row < NET_BIASES; row++)
            same += SAME(net->learned.biases[row], learned_biases[row]);
        print_number("same_biases", same);
        print_number("right_after", predict_all(net, true_labels));
    }
#endif
    /* the last line: without it the host knows that the program crashed or hung */
    print(bad ? "failed\n" : "done\n");
    return bad;
}
