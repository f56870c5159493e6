/* ---- nodes of a resistive network ---- */

/* G(j) = sum_i g(i, j) + sum_m g(j, m): the conductances that meet at each node, summed whenever
 * they have changed. The kernels' NumPy twin is total_conductance of kernels/reference/crossbar.py,
 * and its _solve_layer is net_voltage and net_move below. */
static void net_total(net_memory *net) {
    const net_weight *g = NET_W(net);
    const net_layer *layer;
    size_t i, j;
    for (j = 0; j < NET_UNITS; j++) net->totals[j] = 0.0f;
    for (layer = net_layers; layer <= NET_LAST; layer++) {
        for (i = 0; i < layer->n_in; i++) {
            for (j = 0; j < layer->n_out; j++, g++) {
                net->totals[layer->units + j] += *g;
                /* a source at the other end has no equation of its own */
                if (layer != net_layers) net->totals[layer[-1].units + i] += *g;
            }
        }
    }
}

/* field(j) / G(j): the voltage of node j if no diode conducts. A node without conductances stays at
 * 0 V. */
static float net_free(net_memory *net, const net_layer *layer, size_t j) {
    const float total = net->totals[layer->units + j];
    return total > 0.0f ? net_field(net, layer, j) / total : 0.0f;
}

#if NET_LEARN
/* Voltage of output node j while a conductance beta (negative: -beta taken away) joins it to a
 * source at its target:
 *
#if NET_PAIRS
 *     the current beta (y - (v(one) - v(two))) flows into one node of a pair and out of the other;
 *     solved for it: beta (y - difference of the free ones) / (1 + beta (1 / G(one) + 1 / G(two)))
#else
 *     (field(j) + beta y(j)) / (G(j) + beta)
#endif
 */
static float net_nudged(net_memory *net, size_t j) {
    const float *total = net->totals + NET_LAST->units;
    const float beta = (float)net->nudge * NET_BETA;
#if NET_PAIRS
    const size_t one = j < NET_OUTPUTS ? j : j - NET_OUTPUTS, two = one + NET_OUTPUTS;
    const float resistance = (total[one] > 0.0f ? 1.0f / total[one] : 0.0f) +
                             (total[two] > 0.0f ? 1.0f / total[two] : 0.0f);
    const float apart = net_free(net, NET_LAST, one) - net_free(net, NET_LAST, two);
    const float current = beta * (net->target[one] - apart) / (1.0f + beta * resistance);
    const float moved = total[j] > 0.0f ? current / total[j] : 0.0f;
    return net_free(net, NET_LAST, j) + (j == one ? moved : -moved);
#else
    return (net_field(net, NET_LAST, j) + beta * net->target[j]) / (total[j] + beta);
#endif
}

#if NET_PUSHES
/* A nudge of -beta must leave each output node some conductance, else the nudged network has no
 * equilibrium. */
static int net_nudge_fits(const net_memory *net) {
    const float *total = net->totals + NET_LAST->units;
    size_t j;
    for (j = 0; j < NET_OUTPUTS; j++) {
#if NET_PAIRS
        const size_t two = j + NET_OUTPUTS;
        const float resistance = (total[j] > 0.0f ? 1.0f / total[j] : 0.0f) +
                                 (total[two] > 0.0f ? 1.0f / total[two] : 0.0f);
        if (!(NET_BETA * resistance < 1.0f)) return 0;
#else
        if (!(total[j] > NET_BETA)) return 0;
#endif
    }
    return 1;
}
#endif
#endif

/* One step of a layer, exact given its neighbours: v(j) <- field(j) / G(j), cut off by the diodes.
 * `change` grows to the largest step of a node. Returns 0 if a voltage diverged. */
static int net_move(net_memory *net, const net_layer *layer, net_sum *change) {
    const float *v = net->states + layer->units;
#if NET_BUFFERED
    float *next = net->next + layer->units;
#else
    float *next = net->states + layer->units;
#endif
    size_t j;
    for (j = 0; j < layer->n_out; j++) {
        float value, moved;
#if NET_LEARN
        if (net->nudge != 0 && layer == NET_LAST)
            value = net_nudged(net, j);
        else
            value = net_free(net, layer, j);
#else
        value = net_free(net, layer, j);
#endif
        if (j < layer->mirror)
            value = net_clip(value, layer->low, layer->high);
        else
            value = net_clip(value, -layer->high, -layer->low);
        if (!(value > -1e18f && value < 1e18f)) return 0;
        moved = value < v[j] ? v[j] - value : value - v[j];
        next[j] = value;
        if (moved > *change) *change = moved;
    }
    return 1;
}
#if NET_LEARN

/* The contrast of two equilibria, `plus` pulled more to the target than `minus`, moves each
 * conductance by the voltage drop over itself, and nothing else:
 *
 *     g(i, j) -= rate / 2 ((v(i) - v(j))^2 of plus - of minus)     within g_min and g_max
 *     b(j)    += rate (v(j) of plus - of minus)
 *
 * Returns whether all stays finite; without `keep` that is only asked. */
static int net_update(net_memory *net, const float *x, const float *plus, const float *minus,
                      int keep) {
    float *g = net->learned.weights;
    const net_layer *layer;
    size_t i, j;
    int finite = 1;
    for (layer = net_layers; layer <= NET_LAST; layer++) {
        const float *to_plus = plus + layer->units, *to_minus = minus + layer->units;
        const size_t below = layer == net_layers ? 0 : layer[-1].units;
        const float rate = net->learned.rates[layer - net_layers] * NET_PER_SPAN;
        float *b = net->learned.biases + layer->units;
        for (i = 0; i < layer->n_in; i++, g += layer->n_out) {
            const float p = layer == net_layers ? net_input(x, i) : plus[below + i];
            const float m = layer == net_layers ? p : minus[below + i];
            for (j = 0; j < layer->n_out; j++) {
                /* as sum times difference, for the two drops are nearly the same */
                const float one = p - to_plus[j], two = m - to_minus[j];
                const float step = rate * 0.5f * (one + two) * (one - two);
                finite &= net_put(g + j, net_clip(g[j] - step, NET_G_MIN, NET_G_MAX), keep);
            }
        }
        for (j = 0; j < layer->n_out; j++)
            finite &= net_put(b + j, b[j] + rate * (to_plus[j] - to_minus[j]), keep);
    }
    if (keep) net_total(net);
    return finite;
}
#endif
