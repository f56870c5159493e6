/* A layer's maps at one equilibrium: what is below it, itself, and the places of its maxima. */
typedef struct {
    const net_value *below, *above;
#if NET_LARGEST
    const uint8_t *where;
#endif
} net_end;

/* Layer's end of an equilibrium s, of net->states or net->other. */
static net_end net_end_at(const net_memory *net, const net_layer *layer, const net_value *x,
                          const net_value *s) {
    net_end end;
#if NET_SHOWN
    (void)x;
    end.below = layer == net_layers ? net->input : s + layer[-1].units;
#else
    end.below = layer == net_layers ? x : s + layer[-1].units; /* the input is clamped */
#endif
    end.above = s + layer->units;
#if NET_LARGEST
    end.where = (s == net->states ? net->where : net->other_where) + layer->units;
#endif
#if !NET_LARGEST && !NET_SHOWN
    (void)net;
#endif
    return end;
}

/* What place (v, u) of the kernel saw of map c below, for the unit j above: what belongs to
 * its square's largest, or the mean. */
static net_value net_seen(const net_layer *layer, const net_end *end, int32_t j, int32_t c,
                          int32_t v, int32_t u) {
    const int32_t n = layer->window, cell = j % layer->cells, columns = layer->columns;
    const net_value *s = end->below + c * layer->height * layer->width;
    int32_t q = 0, last = n * n - 1;
    net_sum sum = 0;
#if NET_LARGEST
    if (layer->largest) q = last = end->where[j];
#endif
    for (; q <= last; q++) {
        const int32_t row = (cell / columns * n + q / n) * layer->stride + v - layer->padding;
        const int32_t column = (cell % columns * n + q % n) * layer->stride + u - layer->padding;
        if (row >= 0 && row < layer->height && column >= 0 && column < layer->width)
            sum += s[row * layer->width + column];
    }
#if NET_MEAN
    if (!layer->largest && n > 1) sum /= (net_sum)(n * n);
#endif
    return (net_value)sum;
}

/* w(o, c, v, u) += rate (sum over the units above of seen s(j), of plus - of minus); see net_update
 */
static int net_update_kernels(net_memory *net, const net_layer *layer, const net_end *plus,
                              const net_end *minus, int keep) {
    const int32_t side = layer->kernel, cells = layer->cells;
    net_weight *w = net->learned.weights + layer->weights;
#if NET_INT
    const net_rate rate = net->learned.rates[layer - net_layers];
    const unsigned shift = (unsigned)(rate.shift + layer->rate_bits);
    uint32_t random = 0;
#else
    const float rate = net->learned.rates[layer - net_layers] * NET_PER_SPAN;
#endif
    int32_t o, c, place, j;
    int finite = 1;
    for (o = 0; o < layer->n_out; o += cells) { /* the first unit of each map */
        for (c = 0; c < layer->channels; c++) {
#if NET_INT
            random = net_random(net);
#endif
            for (place = 0; place < side * side; place++, w++) {
                net_sum moved = 0;
                for (j = o; j < o + cells; j++) {
                    const net_sum p = plus->above[j], m = minus->above[j];
                    net_sum product;
                    if (p == 0 && m == 0) continue;
                    product = p * net_seen(layer, plus, j, c, place / side, place % side) -
                              m * net_seen(layer, minus, j, c, place / side, place % side);
#if NET_INT
                    product = net_round(product, layer->cut); /* so that all cells have room */
#endif
                    moved += product;
                }
#if NET_INT
                moved = *w + net_dithered(moved * rate.mantissa, random, shift);
                *w = (net_weight)net_clip(moved, -32767, 32767);
                random += NET_APART;
#else
                finite &= net_put(w, *w + rate * moved, keep);
#endif
            }
        }
    }
#if NET_INT
    (void)keep;
#endif
    return finite;
}

#if NET_LARGEST
/* The places of the maxima as the states are now. */
static void net_find(net_memory *net) {
    const net_layer *layer;
    size_t j;
    for (layer = net_layers + 1; layer <= NET_LAST; layer++)
        for (j = 0; layer->largest && j < layer->n_out; j++)
            (void)net_from_below(net, layer, net->states + layer[-1].units, j);
}
#endif
