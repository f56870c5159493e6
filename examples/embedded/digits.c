/* A Cortex-M0 with 16 KB of RAM learns the digits from nothing, one image at a time, without
 * floats. */
#include "build/digits.h"
#include "build/digits_data.h"

#include "start.h"

/* The last N_TEST images are never learnt. */
enum { N = sizeof labels, N_TEST = 300, N_PASSES = 3 };

static digits_memory arena;

/* Image `row`, whose pixels are 16ths, as the network takes inputs. */
static const digits_value *image(uint32_t row) {
    static digits_value x[DIGITS_INPUTS];
    int i;
    for (i = 0; i < DIGITS_INPUTS; i++)
        x[i] = (digits_value)(pixels[row * DIGITS_INPUTS + (uint32_t)i] << (DIGITS_INPUT_BITS - 4));
    return x;
}

/* Of the images that it has not seen. */
static uint32_t percent_right(digits_memory *net) {
    uint32_t row, right = 0;
    for (row = N - N_TEST; row < N; row++) {
        int label = -1;
        if (digits_predict(net, image(row), &label) == DIGITS_OK) right += label == labels[row];
    }
    return right * 100 / N_TEST;
}

/* Learns pass after pass, one image at a time, and says now and then how well it does. */
int main(void) {
    digits_memory *net;
    uint32_t row, pass;
    digits_status status = digits_init(&arena, sizeof arena, &net);
    print_number("bytes of RAM for the network:", (uint32_t)sizeof arena);
    print_number("per cent right before it learnt:", percent_right(net));
    for (pass = 0; pass < N_PASSES && status == DIGITS_OK; pass++) {
        for (row = 0; row < N - N_TEST && status == DIGITS_OK; row++) {
            status = digits_learn(net, image(row), labels[row]);
            if (row % 400 == 399) print_number("per cent right:", percent_right(net));
        }
    }
    print(digits_text(status));
    print("\n");
    return status != DIGITS_OK;
}
