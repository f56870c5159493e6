/* ---- learning ----
 *
 * One sample at a time: s0 <- free phase; s+ and s- <- nudged phases that start from s0 (or s- is
 * s0 itself); then each weight moves by what it sees at its two ends. Nothing else is stored. */

#if NET_INT || NET_RANDOM_SIGN
/* xorshift32 of George Marsaglia: any state but 0 */
static uint32_t net_random(net_memory *net) {
    uint32_t r = net->learned.random;
    r ^= r << 13;
    r ^= r >> 17;
    r ^= r << 5;
    return net->learned.random = r;
}
#endif
#if NET_INT

/* x / 2^shift, rounded up with the probability of what is cut off: the dither is as wide as the
 * shift. |x| <= 15 * 2^26 and shift <= 30, so that nothing overflows. */
static int32_t net_dithered(int32_t x, uint32_t random, unsigned shift) {
    return (x + (int32_t)(random >> (32 - shift))) >> shift;
}

/* One dither drawn for a row serves all its weights: those beside each other are so far apart. */
#define NET_APART UINT32_C(0x9E3779B9)
#endif

#if NET_MAPS
#include "maps_learn.c"

/* How far the units of one bias have moved, together. */
static net_sum net_moved(const net_layer *layer, const net_value *plus, const net_value *minus) {
    net_sum sum = 0;
    int32_t cell;
    for (cell = 0; cell < layer->cells; cell++) sum += (net_sum)plus[cell] - minus[cell];
#if NET_INT
    sum = net_clip(sum, -65535, 65535); /* as much as one unit may: a rate has 15 bits for it */
#endif
    return sum;
}
#define NET_CELLS(layer) ((layer)->cells)
#else
#define NET_CELLS(layer)              1
#define net_moved(layer, plus, minus) ((net_sum) * (plus) - *(minus))
#endif
#if NET_INT

/* b(j) += rate (s(j) of plus - of minus); the shift may go either way */
static void net_update_biases(net_memory *net, const net_layer *layer, const net_value *plus,
                              const net_value *minus) {
    const net_rate rate = net->learned.rates[layer - net_layers];
    const int shift = rate.shift + layer->state_bits - 24;
    uint32_t random = net_random(net);
    net_sum *b = net->learned.biases + NET_AT(layer, 0);
    size_t j;
    for (j = layer->units; j < layer->units + layer->n_out; j += NET_CELLS(layer), b++) {
        int32_t step = net_moved(layer, plus + j, minus + j) * rate.mantissa;
        if (shift > 0)
            step = net_dithered(step, random, (unsigned)shift);
        else
            step *= (int32_t)1 << -shift;
        *b = net_clip(*b + step, -NET_MAX_BIAS, NET_MAX_BIAS);
        random += NET_APART;
    }
}
#endif

#if !NET_RESISTIVE
/* The contrast of two equilibria, `plus` pulled more to the target than `minus`, moves each weight
 * by what its own two units did, and nothing else:
 *
 *     w(i, j) += rate (s(i) s(j) of plus - of minus)
 *     b(j)    += rate (s(j) of plus - of minus)
 *
 * Returns whether all stays finite, as integers do; without `keep` floats are only asked. */
static int net_update(net_memory *net, const net_value *x, const net_value *plus,
                      const net_value *minus, int keep) {
    const net_layer *layer;
    size_t i, j;
    int finite = 1;
#if NET_INT
    (void)keep;
#endif
    for (layer = net_layers; layer <= NET_LAST; layer++) {
        const net_value *to_plus = plus + layer->units, *to_minus = minus + layer->units;
        const size_t below = layer == net_layers ? 0 : layer[-1].units;
        net_weight *w = net->learned.weights + layer->weights;
        size_t n_in = layer->n_in;
#if NET_INT
        const net_rate rate = net->learned.rates[layer - net_layers];
        const unsigned shift = (unsigned)(rate.shift + layer->rate_bits);
#else
        const float rate = net->learned.rates[layer - net_layers] * NET_PER_SPAN;
        net_sum *b = net->learned.biases + NET_AT(layer, 0);
#endif
#if NET_MAPS
        if (layer->kernel > 0) {
            const net_end ends[2] = {net_end_at(net, layer, x, plus),
                                     net_end_at(net, layer, x, minus)};
            finite &= net_update_kernels(net, layer, &ends[0], &ends[1], keep);
            n_in = 0; /* no rows */
        }
#endif
        for (i = 0; i < n_in; i++, w += layer->n_out) {
#if NET_FIRST_MAP
            const net_value p = plus[below + i], m = minus[below + i];
#else
            const net_value p = layer == net_layers ? net_input(x, i) : plus[below + i];
            const net_value m =
                layer == net_layers ? p : minus[below + i]; /* the input is clamped */
#endif
#if NET_INT
            uint32_t random;
#endif
            if (p == 0 && m == 0) continue; /* a silent unit teaches its weights nothing */
#if NET_INT
            random = net_random(net);
            for (j = 0; j < layer->n_out; j++, random += NET_APART) {
                /* at most 2 * 32767^2; 5 bits less leave room for the mantissa */
                const int32_t seen = (int32_t)p * to_plus[j] - (int32_t)m * to_minus[j];
                const int32_t step = (seen + 16) >> 5;
                const int32_t moved = w[j] + net_dithered(step * rate.mantissa, random, shift);
                w[j] = (net_weight)net_clip(moved, -32767, 32767);
            }
#else
            for (j = 0; j < layer->n_out; j++)
                finite &= net_put(w + j, w[j] + rate * (p * to_plus[j] - m * to_minus[j]), keep);
#endif
        }
#if NET_INT
        net_update_biases(net, layer, plus, minus);
#else
        for (j = 0; j < layer->n_out; j += NET_CELLS(layer), b++)
            finite &= net_put(b, *b + rate * net_moved(layer, to_plus + j, to_minus + j), keep);
#endif
    }
    return finite;
}
#endif

/* Relax from where the states are. */
static net_status net_phase(net_memory *net) {
    const net_status status = net_sweeps(net, NULL);
#if NET_READOUT
    if (status == NET_OK && net->nudge != 0) net_pull(net); /* what a read-out learns by */
#endif
#if NET_LARGEST
    if (status == NET_OK) net_find(net);
#endif
    return status;
}

/* Put the states into `other`; with `back` what was there comes back. */
static void net_keep(net_memory *net, int back) {
    size_t j;
    for (j = 0; j < NET_UNITS; j++) {
        const net_value state = net->states[j];
        if (back) net->states[j] = net->other[j];
        net->other[j] = state;
#if NET_LARGEST
        {
            const uint8_t place = net->where[j];
            if (back) net->where[j] = net->other_where[j];
            net->other_where[j] = place;
        }
#endif
    }
}

/* Free phase, nudged phases, update, after net->target has been made. */
static net_status net_contrast(net_memory *net, const net_value *x) {
    net_status status;
    net_begin(net, x);
    status = net_phase(net);
    if (status != NET_OK) return status;
#if NET_RESISTIVE && NET_PUSHES
    if (!net_nudge_fits(net)) return NET_ERROR_DIVERGED;
#endif
    net->nudge = NET_SIGN; /* towards the target, or away from it */
#if NET_RANDOM_SIGN
    if (net_random(net) >> 31) net->nudge = -net->nudge;
#endif
    net_keep(net, 0);
    status = net_phase(net);
#if NET_CENTERED
    if (status == NET_OK) {
        net_keep(net, 1); /* from the free state the other way */
        net->nudge = -net->nudge;
        status = net_phase(net);
    }
#endif
    if (status == NET_OK) {
        /* `states` was nudged this way, `other` the other way or not at all */
        const net_value *plus = net->nudge > 0 ? net->states : net->other;
        const net_value *minus = net->nudge > 0 ? net->other : net->states;
#if NET_INT
        (void)net_update(net, x, plus, minus, 1);
#else
        if (net_update(net, x, plus, minus, 0)) /* else nothing is touched */
            (void)net_update(net, x, plus, minus, 1);
        else
            status = NET_ERROR_DIVERGED;
#endif
    }
    net->nudge = 0;
    return status;
}

/* Check everything before anything is touched; the target is 0 and 1, or y in the network's units.
 */
#if NET_EXCLUSIVE
net_status net_learn(net_memory *net, const net_value *x, int label)
#else
net_status net_learn(net_memory *net, const net_value *x, const net_value *y)
#endif
{
    const net_status status = net_check(net, x);
    int j;
    if (status != NET_OK) return status;
#if NET_EXCLUSIVE
    if (label < 0 || label >= NET_CLASSES) return NET_ERROR_ARGUMENT;
#else
    if (y == NULL) return NET_ERROR_NULL;
#if !NET_INT
    if (!net_finite(y, NET_OUTPUTS)) return NET_ERROR_NOT_FINITE;
#endif
#endif
#if !NET_INT
    if (!net_finite(x, NET_INPUTS)) return NET_ERROR_NOT_FINITE;
#endif
    for (j = 0; j < NET_OUTPUTS; j++) {
#if NET_EXCLUSIVE
        net->target[j] = (net_value)(label == j + NET_FIRST_LABEL ? 2 * NET_HALF : 0);
#endif
#if NET_MULTILABEL || NET_REGRESSOR && NET_INT
        net->target[j] = y[j];
#endif
#if NET_REGRESSOR && !NET_INT
        net->target[j] = (y[j] - net_mean[j]) / net_scale[j];
#endif
    }
    return net_contrast(net, x);
}

/* Of integers both shifts must fit the dither: from 1 to 30 for weights, to 30 for biases. */
net_status net_set_rate(net_memory *net, int layer, net_rate rate) {
    const net_status status = net_check(net, net);
#if NET_INT
    int shift, bias_shift;
#endif
    if (status != NET_OK) return status;
    if (layer < 1 || layer > NET_LAYERS) return NET_ERROR_ARGUMENT;
#if NET_INT
    shift = rate.shift + net_layers[layer - 1].rate_bits;
    bias_shift = rate.shift + net_layers[layer - 1].state_bits - 24;
    if (rate.mantissa > 15 || shift < 1 || shift > 30 || bias_shift < -10 || bias_shift > 30)
        return NET_ERROR_ARGUMENT;
#else
    if (!(rate >= 0.0f && rate <= NET_MAX_RATE)) return NET_ERROR_ARGUMENT;
#endif
    net->learned.rates[layer - 1] = rate;
    return NET_OK;
}

/* From flash to RAM; the generator of the dither starts again, so that a run can be repeated. */
net_status net_reset(net_memory *net) {
    const net_status status = net_check(net, net);
    size_t i;
    if (status != NET_OK) return status;
    for (i = 0; i < NET_WEIGHTS; i++) net->learned.weights[i] = net_weights[i];
    for (i = 0; i < NET_BIASES; i++) net->learned.biases[i] = net_biases[i];
    for (i = 0; i < NET_LAYERS; i++) net->learned.rates[i] = net_rates[i];
    net->learned.random = NET_SEED;
    net->nudge = 0;
#if NET_RESISTIVE
    net_total(net);
#endif
    return NET_OK;
}
