/* ---- maps: layers of a convolutional network ----
 *
 * Unit j of a map is (o, y, x): channel, row, column. A layer with a kernel is a map over maps, of
 * weights w[o][c][side][side]; with a window, squares of n x n units are one, by their largest or
 * their mean. The NumPy twins are conv.py, pooling.py, connections.py of kernels/reference.
 *
 *     z(o, y, x) = sum_c,v,u w(o, c, v, u) s(c, y stride - padding + v, x stride - padding + u)
 *     from below: of each square of z the largest, of equal ones the first, or the mean
 *     from above: the same sums backwards: w s of every unit above that this one reaches
 *
#if NET_LARGEST
 * where[] says which one of its square was the largest. It is written as a unit listens downwards,
 * and read as those below listen upwards, which have not moved since:
#if NET_BUFFERED
 * all move from old states, the upper layers first.
#else
 * layers that meet take turns, sweep after sweep.
#endif
#endif
 */

/* Sum of w s over the kernel whose corner lies at (y, x) of the maps s; outside of them is 0. */
static net_sum net_window(const net_layer *layer, const net_weight *w, const net_value *s,
                          int32_t y, int32_t x) {
    const int32_t side = layer->kernel, height = layer->height, width = layer->width;
    const int32_t top = y < 0 ? -y : 0, bottom = y + side > height ? height - y : side;
    const int32_t left = x < 0 ? -x : 0, right = x + side > width ? width - x : side;
    const unsigned shift = NET_UP(layer);
    net_sum sum = 0;
    int32_t c, v, u;
    for (c = 0; c < layer->channels; c++, w += side * side, s += height * width) {
        for (v = top; v < bottom; v++) {
            const net_weight *row = w + v * side + left;
            const net_value *seen = s + (y + v) * width + x + left;
            for (u = left; u < right; u++) sum += NET_PRODUCT(*row++, *seen++, shift);
        }
    }
    return sum;
}

/* What unit j gets from the maps s below, and its bias. */
static net_sum net_from_below(net_memory *net, const net_layer *layer, const net_value *s,
                              size_t j) {
    const int32_t columns = layer->columns, side = layer->kernel, n = layer->window;
    const int32_t o = (int32_t)j / layer->cells, cell = (int32_t)j % layer->cells;
    const int32_t y = cell / columns * n * layer->stride - layer->padding;
    const int32_t x = cell % columns * n * layer->stride - layer->padding;
    const net_weight *w = NET_W(net) + layer->weights + o * layer->channels * side * side;
    net_sum found = 0;
    int32_t v, u;
#if !NET_LARGEST && !NET_LEARN
    (void)net; /* all that is needed lies in flash */
#endif
    for (v = 0; v < n; v++) {
        for (u = 0; u < n; u++) {
            const net_sum z = net_window(layer, w, s, y + v * layer->stride, x + u * layer->stride);
#if NET_LARGEST
            /* NaN is the largest, or the states would not show it */
            if (layer->largest && (u + v == 0 || z > found || NET_NO_NUMBER(z))) {
                found = z;
                net->where[layer->units + j] = (uint8_t)(v * n + u);
            }
            if (layer->largest) continue;
#endif
            found += z;
        }
    }
#if NET_MEAN
    if (!layer->largest && n > 1) found /= (net_sum)(n * n);
#endif
    return found + NET_BIAS(net, layer, j);
}

/* What unit j of a map gets from the maps of `layer`, which is above it. */
static net_sum net_from_above(const net_memory *net, const net_layer *layer, size_t j) {
    const int32_t area = (int32_t)layer->height * layer->width, columns = layer->columns;
    const int32_t c = (int32_t)j / area, y = (int32_t)j % area / layer->width + layer->padding;
    const int32_t x = (int32_t)j % layer->width + layer->padding, stride = layer->stride;
    const int32_t side = layer->kernel, n = layer->window, apart = layer->channels * side * side;
    const unsigned shift = NET_DOWN(layer - 1);
    net_sum sum = 0;
    int32_t v, u, left;
    for (v = 0; v < side && v <= y; v++) {
        const int32_t row = (y - v) / stride;
        if (row * stride != y - v || row >= layer->rows * n) continue;
        for (u = 0; u < side && u <= x; u++) {
            const int32_t column = (x - u) / stride;
            const net_weight *w = NET_W(net) + layer->weights + (c * side + v) * side + u;
            size_t unit = layer->units + (size_t)(row / n * columns + column / n);
#if NET_LARGEST
            const int32_t place = layer->largest ? row % n * n + column % n : 0;
#endif
            if (column * stride != x - u || column >= columns * n) continue;
            /* one unit of each map above, through the same place of its kernel; no step leads
             * behind the last one's weights */
            for (left = layer->n_out - layer->cells;; left -= layer->cells, w += apart) {
#if NET_LARGEST
                if (net->where[unit] == place)
#endif
                    sum += NET_PRODUCT(*w, net->states[unit], shift);
                unit += layer->cells;
                if (left == 0) break;
            }
        }
    }
#if NET_MEAN
    if (!layer->largest && n > 1) sum /= (net_sum)(n * n);
#endif
    return sum;
}
