/* @FILE@.c - the network of @FILE@.h, made by eqprop_fast @VERSION@.
 *
#if NET_RESISTIVE
 *     Kirchhoff's law at node j of layer k, each layer given its neighbours, until all rest:
 *     field(j) = sum_i g(i, j) v(i) + b(j) + sum_m g(j, m) v(m)     i of layer k - 1, m of k + 1
 *     v(j) <- field(j) / G(j), between its diodes                    G(j): conductances that meet
#if NET_LEARN
 *     nudged: v(j) <- (field(j) + beta y(j)) / (G(j) + beta) at the outputs
 *     learning: g(i, j) -= rate / span * 1/2 (drop^2 of one equilibrium - drop^2 of another),
 *     drop = v(i) - v(j); b(j) += rate / span (v(j) of one - v(j) of the other)
#endif
#else
 *     field(j) = sum_i w(i, j) s(i) + b(j) + sum_m w(j, m) s(m)     i of layer k - 1, m of k + 1
 *     s(j) <- rho(field(j))                                         until the states rest
#if NET_LEARN
 *     nudged: the force beta (y(j) - s(j)) is added at the outputs
 *     learning: w(i, j) += rate / span (s(i) s(j) of one equilibrium - s(i) s(j) of another)
#endif
#endif
 *
 * Letters: k layer, 0 being the first above the input; j unit of the layer, i unit of the layer
 * below, s states, w weights[n_in][n_out] row after row, x input, y target.
 * In order: parameters, arithmetic, relaxation, prediction@LEARNING@. */
#include "@FILE@.h"

/* ---- parameters: flash ---- */

#if NET_INT
typedef uint8_t net_slope;
#endif
#if !NET_INT && !NET_RESISTIVE
typedef float net_slope;
#endif

/* Layer k: where its numbers lie and what its units do. */
typedef struct {
    uint16_t n_in, n_out;
    size_t weights; /* where its weights[n_in][n_out] begin */
    size_t units;   /* where its n_out states@BIASES@ begin */
#if NET_MAPS
    size_t biases;                    /* where its biases begin: one for `cells` units */
    uint16_t cells, rows, columns;    /* rows x columns of its maps; 1 of flat layers */
    uint16_t channels, height, width; /* of the maps below */
    uint16_t kernel, stride, padding; /* kernel 0: all units to all units */
    uint8_t window, largest; /* squares of window x window units are one: the largest, or 0: mean */
#endif
#if NET_INT
    uint8_t field_bits, state_bits; /* fractional bits of its field and its state */
    uint8_t up, down; /* products with the layer below and above: shift to the bits of the field */
#if NET_LEARN
    int8_t rate_bits; /* shift of an update = shift of the rate + this */
#if NET_MAPS
    uint8_t cut; /* bits cut off a product, so that a map of them has room */
#endif
#endif
#endif
#if NET_RESISTIVE
    float low, high; /* volt between the diodes of the nodes before `mirror` */
    size_t mirror;   /* of those from here on: between -high and -low */
#else
    net_slope slope; /* a = slope field; of integers field / 2^slope */
    net_value low, high, offset;
    uint8_t curved; /* no: rho = a cut off at low and high; yes: rho = low + (high - low) /
                       (1 + exp(offset - a)) */
#endif
} net_layer;

/* @TABLES@ */

/* ---- arithmetic ---- */

#define NET_LAST (&net_layers[NET_LAYERS - 1])
#if NET_LEARN
#define NET_W(net) ((net)->learned.weights)
#define NET_B(net) ((net)->learned.biases)
#else
#define NET_W(net) net_weights
#define NET_B(net) net_biases
#endif
#if NET_MAPS
#define NET_AT(layer, j) ((layer)->biases + (j) / (layer)->cells) /* of unit j's bias */
#else
#define NET_AT(layer, j) ((layer)->units + (j))
#endif

static net_sum net_clip(net_sum x, net_sum low, net_sum high) {
    return x < low ? low : x > high ? high : x;
}

#if NET_INT
/* int may have 16 bits (AVR, MSP430): what needs more is int32_t before it is multiplied or
 * shifted. All shifts to the right are of int32_t and arithmetic, as with every compiler this was
 * tested with. No sum overflows: the exporter chose field_bits so that the largest weights and
 * states still fit. A number x with b fractional bits stands for x / 2^b. */

/* x / 2^shift, rounded to nearest; the half is added to the bits below, so that x may be anything
 */
static int32_t net_round(int32_t x, unsigned shift) {
    return shift == 0 ? x : (x >> shift) + ((x >> (shift - 1)) & 1);
}

#if NET_LEARN && NET_INT8
/* The forward weight is the upper byte of the one that learns, rounded. */
static int32_t net_forward(net_weight w) {
    const int32_t upper = ((int32_t)w + 128) >> 8;
    return upper > 127 ? 127 : upper;
}
#define NET_PRODUCT(w, s, shift) ((net_forward(w) * (s)) >> (shift))
#else
#define NET_PRODUCT(w, s, shift) (((int32_t)(w) * (s)) >> (shift))
#endif
#define NET_UP(layer)           ((layer)->up)
#define NET_DOWN(layer)         ((layer)->down)
#define NET_BIAS(net, layer, j) (NET_B(net)[NET_AT(layer, j)] >> (24 - (layer)->field_bits))
#define NET_NO_NUMBER(x)        0
#define NET_FINE(x)             net_round(x, 12)           /* strengths and steps: 12 bits */
#define NET_HOLD(x)             net_clip(x, -32767, 32767) /* within int16 */

#if NET_HAS_CURVE
/* 2^14 / (1 + exp(-t)), t with 12 fractional bits: a table of steps of 1/16 up to 12, linear
 * between them; error below 1.3e-4 */
static int32_t net_logistic(int32_t t) {
    const int32_t size = net_clip(t < 0 ? -t : t, 0, INT32_C(12) * 4096 - 1), i = size >> 8;
    const int32_t rise = net_sigmoid[i + 1] - net_sigmoid[i];
    const int32_t y = net_sigmoid[i] + ((rise * (size & 255) + 128) >> 8);
    return t < 0 ? 16384 - y : y;
}
#endif

/* rho(field), in the bits of the layer's state */
static int32_t net_rho(const net_layer *layer, int32_t field) {
    const int32_t a = net_round(field, layer->slope);
#if NET_HAS_CURVE
    if (layer->curved) { /* a is limited, so that it cannot overflow with the offset */
        const int32_t y =
            net_logistic(net_clip(a, -((int32_t)1 << 20), (int32_t)1 << 20) - layer->offset);
        return layer->low + ((y * ((int32_t)layer->high - layer->low)) >> 14);
    }
#endif
    return net_clip(a, layer->low, layer->high);
}
#else
#define NET_PRODUCT(w, s, shift) ((void)(shift), (w) * (s))
#define NET_UP(layer)            0 /* shifts are for integers */
#define NET_DOWN(layer)          0
#define NET_BIAS(net, layer, j)  (NET_B(net)[NET_AT(layer, j)])
#define NET_NO_NUMBER(x)         ((x) != (x))
#define NET_FINE(x)              (x)
#define NET_HOLD(x)              (x)

#if NET_HAS_EXP
/* exp(x), relative error below 3e-7; x is limited so that the result is a normal number.
 * exp(x) = 2^n 2^t, n an integer, t = x log2(e) - n within [-1/2, 1/2] */
static float net_exp(float x) {
    static const float c[] = {1.00000007545f,  0.69314718803f,  0.24022107485f,
                              0.055503571142f, 0.009676031918f, 0.0013390863365f}; /* of 2^t */
    float p, scale = 0, t = net_clip(x * 1.44269504f, -125.0f, 125.0f);
    int32_t n;
    uint32_t bits;
    int i;
    if (NET_NO_NUMBER(t)) return t;
    n = (int32_t)(t + (t < 0 ? -0.5f : 0.5f));
    bits = (uint32_t)(n + 127) << 23; /* 2^n as IEEE 754 has it */
    t -= (float)n;
    for (p = c[5], i = 4; i >= 0; i--) p = p * t + c[i];
    for (i = 0; i < 4; i++) ((unsigned char *)&scale)[i] = ((const unsigned char *)&bits)[i];
    return p * scale;
}
#endif
#if NET_HAS_LOGISTIC
/* 1 / (1 + exp(-t)); absolute error below 2.5e-7 */
static float net_logistic(float t) { return 1.0f / (1.0f + net_exp(-t)); }
#endif

#if !NET_RESISTIVE
/* rho(field) */
static float net_rho(const net_layer *layer, float field) {
    const float a = layer->slope * field;
#if NET_HAS_CURVE
    if (layer->curved)
        return layer->low + (layer->high - layer->low) * net_logistic(a - layer->offset);
#endif
    return net_clip(a, layer->low, layer->high);
}
#endif

/* NaN and infinities are not 0 when subtracted from themselves. */
static int net_finite(const float *x, size_t n) {
    for (; n > 0; n--, x++)
        if (!(*x - *x == 0.0f)) return 0;
    return 1;
}
#if NET_LEARN

/* The same of a value; with `keep` it is what stands at `to` from now on. */
static int net_put(float *to, float value, int keep) {
    if (keep) *to = value;
    return value - value == 0.0f;
}
#endif
#endif

#if !NET_FIRST_MAP || NET_SHOWN
/* Feature i in the scale of the training data. */
static net_value net_feature(const net_value *x, size_t i) {
#if NET_SCALED && NET_INT
    /* the scale lies in the weights; a centre does not where the padding is to be it */
    return (net_value)NET_HOLD((int32_t)x[i] - net_input_center[NET_ALIKE(i)]);
#endif
#if NET_SCALED && !NET_INT
    const float scaled = (x[i] - net_input_center[NET_ALIKE(i)]) * net_input_per[NET_ALIKE(i)];
    return net_clip(scaled, -NET_SOURCE_LIMIT, NET_SOURCE_LIMIT);
#endif
#if !NET_SCALED
    return x[i];
#endif
}

/* What input i gives to the first layer, which the network does not change: it is clamped. */
static net_value net_input(const net_value *x, size_t i) {
#if NET_RESISTIVE
    /* pairs of sources, at gain x and at -gain x */
    return i < NET_INPUTS ? NET_GAIN * net_feature(x, i)
                          : -NET_GAIN * net_feature(x, i - NET_INPUTS);
#endif
#if NET_HAS_INPUT_ACTIVATION
    return net_rho(&net_input_layer, net_feature(x, i));
#endif
#if !NET_RESISTIVE && !NET_HAS_INPUT_ACTIVATION
    return net_feature(x, i);
#endif
}
#endif

/* ---- relaxation ---- */

#define NET_MAGIC UINT32_C(0x45715031)

/* The list of the header, so that no text can stand beside another status than its own. */
const char *net_text(net_status status) {
    static const char *const texts[] = {
#define NET_TEXT(name, text) text,
        NET_STATUS(NET_TEXT)
#undef NET_TEXT
    };
    return (unsigned)status < (unsigned)NET_N_STATUS ? texts[status] : "no such status";
}

/* The arena is ours and nobody's argument is missing. */
static net_status net_check(const net_memory *net, const void *x) {
    if (net == NULL || x == NULL) return NET_ERROR_NULL;
    return net->ready == NET_MAGIC ? NET_OK : NET_ERROR_NOT_READY;
}

#if NET_MAPS
#include "maps.c"
#endif

/* drive(j) = b(j) + sum_i w(i, j) x(i) of the first layer@BLACK@. The
 * states start at 0. */
static void net_begin(net_memory *net, const net_value *x) {
    const net_layer *first = net_layers;
#if NET_FIRST_MAP
    size_t j;
#if NET_SHOWN
    for (j = 0; j < NET_INPUTS; j++) net->input[j] = net_input(x, j);
    for (j = 0; j < NET_DRIVEN; j++) net->drive[j] = net_from_below(net, first, net->input, j);
#else
    for (j = 0; j < NET_DRIVEN; j++) net->drive[j] = net_from_below(net, first, x, j);
#endif
#else
    const net_weight *w = NET_W(net);
    size_t i, j;
    for (j = 0; j < NET_DRIVEN; j++) net->drive[j] = NET_BIAS(net, first, j);
    for (i = 0; i < NET_INPUTS; i++, w += NET_DRIVEN) {
        const net_value s = net_input(x, i);
        if (s == 0) continue;
#if NET_RESISTIVE
        /* w and the conductance to the source of opposite sign */
        for (j = 0; j < NET_DRIVEN; j++)
            net->drive[j] += (w[j] - w[j + NET_INPUTS * NET_DRIVEN]) * s;
#else
        for (j = 0; j < NET_DRIVEN; j++) net->drive[j] += NET_PRODUCT(w[j], s, NET_UP(first));
#endif
    }
#endif
    for (j = 0; j < NET_UNITS; j++) net->states[j] = 0;
#if NET_LARGEST
    for (j = NET_DRIVEN; j < NET_UNITS; j++) net->where[j] = 0; /* of equal units the first */
#endif
}

#if defined(__GNUC__)
__attribute__((noinline)) /* alone it has all its numbers in registers: fewer instructions */
#endif
/* sum_i w(i) s(i), the weights `stride` apart; of integers each product is shifted down by itself,
 * so that 32 bits hold the sum. */
static net_sum
net_dot(const net_weight *w, size_t stride, const net_value *s, size_t n, unsigned shift) {
    net_sum sum = 0;
    for (; n > 0; n--, w += stride, s++) sum += NET_PRODUCT(*w, *s, shift);
    return sum;
}

/* field(j) = b(j) + sum_i w(i, j) s(i) + sum_m w(j, m) s(m); below the first layer is the drive,
 * which does not move while the states do, and nothing is above the last */
static net_sum net_field(net_memory *net, const net_layer *layer, size_t j) {
    const net_value *s = net->states;
    net_sum sum;
    if (layer == net_layers) {
        sum = net->drive[j];
#if NET_MAPS
    } else if (layer->kernel > 0) {
        sum = net_from_below(net, layer, s + layer[-1].units, j);
#endif
    } else {
        const net_weight *w = NET_W(net) + layer->weights + j; /* column j */
        sum = NET_BIAS(net, layer, j);
        sum += net_dot(w, layer->n_out, s + layer[-1].units, layer->n_in, NET_UP(layer));
    }
#if NET_MAPS
    if (layer != NET_LAST && layer[1].kernel > 0) return sum + net_from_above(net, layer + 1, j);
#endif
    if (NET_HEARS(net, layer)) {
        const net_layer *above = layer + 1;
        const net_weight *w = NET_W(net) + above->weights + j * above->n_out; /* row j */
        sum += net_dot(w, 1, s + above->units, above->n_out, NET_DOWN(layer));
    }
    return sum;
}

/* What the output units say: prediction j. */
#if NET_PAIRS
#define NET_OUT(net, j) \
    ((net)->states[NET_LAST->units + (j)] - (net)->states[NET_LAST->units + NET_OUTPUTS + (j)])
#else
#define NET_OUT(net, j) ((net)->states[NET_LAST->units + (j)])
#endif

#if NET_P_SHARE || NET_P_SOFTMAX
#if NET_P_SOFTMAX && NET_INT
/* 2^15 exp(-below), `below` with so many bits: below * log2(e) with 12 fractional bits, then 2^-f
 * by a cubic, error below 7e-5 */
static int32_t net_exp(int32_t below, unsigned bits) {
    const int32_t t = bits > 12 ? net_round(below, bits - 12) : below * ((int32_t)1 << (12 - bits));
    const int32_t e = net_clip(t, 0, (int32_t)1 << 17) * 5909 >> 12, f = e & 4095, n = e >> 12;
    int32_t p = ((-656 * f) >> 12) + 3797;
    p = ((p * f) >> 12) - 11334;
    p = ((p * f) >> 12) + 16384;
    return n > 15 ? 0 : (2 * p) >> n;
}
#endif

/* p(j) = e(j) / sum of all e, e being exp(output), or the output where it is positive */
static void net_shares(const net_memory *net, net_probability *p) {
    size_t j;
#if NET_INT
    uint32_t sum = 0;
#else
    float sum = 0;
#endif
#if NET_P_SOFTMAX
    net_sum largest = NET_OUT(net, 0);
    for (j = 1; j < NET_OUTPUTS; j++)
        if (NET_OUT(net, j) > largest) largest = NET_OUT(net, j);
#endif
    for (j = 0; j < NET_OUTPUTS; j++) {
#if NET_P_SOFTMAX && NET_INT
        p[j] = (uint16_t)net_exp(largest - NET_OUT(net, j), NET_LAST->state_bits);
#endif
#if NET_P_SOFTMAX && !NET_INT
        p[j] = net_exp((NET_OUT(net, j) - largest) * NET_SHARPNESS);
#endif
#if NET_P_SHARE
        p[j] = (net_probability)(NET_OUT(net, j) > 0 ? NET_OUT(net, j) : 0);
#endif
        sum += p[j];
    }
    for (j = 0; j < NET_OUTPUTS; j++) {
#if NET_INT
        p[j] = (uint16_t)(sum == 0 ? 32768 / NET_OUTPUTS : ((uint32_t)p[j] << 15) / sum);
#else
        p[j] = sum > 0.0f ? p[j] / sum : 1.0f / NET_OUTPUTS;
#endif
    }
}
#endif

#if NET_RESISTIVE
#include "resistive.c"
#else
#if NET_LEARN
/* Force on unit j of a nudged output: nudge beta (y(j) - s(j)); under cross-entropy the softmax of
 * the outputs stands for s. */
static net_sum net_force(const net_memory *net, const net_layer *layer, size_t j) {
    net_sum force;
    if (net->nudge == 0 || layer != NET_LAST) return 0;
#if NET_CROSS_ENTROPY
    force = NET_FORCE * (net->target[j] - net->softmax[j]);
#else
    force = NET_FINE(NET_FORCE * ((net_sum)net->target[j] - NET_OUT(net, j)));
#endif
    return net->nudge < 0 ? -force : force;
}
#endif
#if NET_READOUT
#include "readout.c"
#endif

/* One step of a layer: s(j) <- what its field says. `change` grows to the largest one. Returns 0 if
 * a state diverged. */
static int net_move(net_memory *net, const net_layer *layer, net_sum *change) {
    const net_value *s = net->states + layer->units;
#if NET_BUFFERED
    net_value *next = net->next + layer->units; /* all layers move from the old states */
#else
    net_value *next = net->states + layer->units;
#endif
    size_t j;
#if NET_READOUT && NET_LEARN
    if (net->nudge != 0 && layer + 1 == NET_LAST) net_pull(net);
#endif
#if NET_CROSS_ENTROPY && !NET_READOUT
    if (net->nudge != 0 && layer == NET_LAST) net_shares(net, net->softmax);
#endif
    for (j = 0; j < layer->n_out; j++) {
        net_sum value, moved;
#if NET_PUSHED
        const net_sum force = net_force(net, layer, j);
#endif
        value = net_field(net, layer, j);
#if NET_NUDGE_INSIDE && NET_INT
        /* as a part of the field, in its bits */
        value += force * ((int32_t)1 << (layer->field_bits - layer->state_bits));
#endif
#if NET_NUDGE_INSIDE && !NET_INT
        value += force;
#endif
#if NET_INT && !NET_READOUT
        if (layer == NET_LAST) net->score[j] = value; /* what net_predict compares */
#endif
        value = net_rho(layer, value);
#if NET_PUSHED && !NET_NUDGE_INSIDE
        value += force;
#endif
#if NET_DAMPED
        value = s[j] + NET_FINE(NET_STEP(net) * (NET_HOLD(value) - s[j]));
#endif
#if NET_INT
        value = NET_HOLD(value);
#endif
        moved = value < s[j] ? s[j] - value : value - s[j];
#if NET_INT
        moved *= (int32_t)1 << (14 - layer->state_bits); /* tolerances have 14 bits in all layers */
#else
        /* NaN is neither above nor below; what is this large will not come to rest */
        if (!(value > -1e18f && value < 1e18f)) return 0;
#endif
        next[j] = (net_value)value;
        if (moved > *change) *change = moved;
    }
    return 1;
}
#endif

/* Relax: sweeps over all layers, in NET_PASSES groups that move one after another, until the
 * largest change is within the tolerance. */
static net_status net_sweeps(net_memory *net, net_result *result) {
    int32_t step = 0;
    net_sum change = 0;
    do {
        int pass, k;
        change = 0;
        for (pass = 0; pass < NET_PASSES; pass++) {
            for (k = pass; k < NET_MOVING; k += NET_PASSES)
                if (!net_move(net, &net_layers[NET_ORDER(k)], &change)) return NET_ERROR_DIVERGED;
#if NET_BUFFERED
            for (k = 0; k < NET_MOVED; k++) net->states[k] = net->next[k];
#endif
        }
#if NET_DAMPED && !NET_INT
        change /= NET_STEP(net); /* a tolerance is per unit of time */
#endif
        step++;
    } while (step < NET_STEPS(net) && change > NET_TOL(net));
    if (result != NULL) {
        result->steps = step;
        result->residual = (net_value)NET_HOLD(change);
    }
    return NET_OK;
}

/* The second member lies where a net_memory may: 1 byte aligns it on an AVR, 2 an MSP430's, 4
 * others.
 */
typedef struct {
    char first;
    net_memory second;
} net_aligned;

/* The arena is only looked at here: whoever owns it may put it anywhere, and may have two of them
 * for two copies of one network. */
net_status net_init(void *arena, size_t size, net_memory **net) {
    if (arena == NULL || net == NULL) return NET_ERROR_NULL;
    if (size < sizeof(net_memory) || (uintptr_t)arena % offsetof(net_aligned, second) != 0)
        return NET_ERROR_ARENA;
    *net = (net_memory *)arena;
    (*net)->ready = NET_MAGIC;
#if NET_LEARN
    return net_reset(*net);
#else
#if NET_RESISTIVE
    net_total(*net);
#endif
    return NET_OK;
#endif
}

/* Free phase: check everything, then begin and sweep. Inputs of integers cannot be wrong: any int16
 * has a meaning. */
net_status net_relax(net_memory *net, const net_value *x, net_result *result) {
    net_status status = net_check(net, x);
    if (status != NET_OK) return status;
#if !NET_INT
    if (!net_finite(x, NET_INPUTS)) return NET_ERROR_NOT_FINITE;
#endif
    net_begin(net, x);
#if NET_READOUT
    status = net_sweeps(net, result);
    if (status == NET_OK) net_read(net);
    return status;
#else
    return net_sweeps(net, result);
#endif
}

/* ---- prediction ----
 *
 * All of these relax first, and leave what they were given untouched if that fails. */

#if NET_EXCLUSIVE
/* The largest output, of equal ones the first; a single output says 1 above one half. Integers
 * compare the fields, for several outputs may be cut off at the same value. */
net_status net_predict(net_memory *net, const net_value *x, int *label) {
    const net_status status = label == NULL ? NET_ERROR_NULL : net_relax(net, x, NULL);
#if !NET_OUTPUTS_1
    size_t j, best = 0;
#endif
    if (status != NET_OK) return status;
#if NET_CLASSES_1
    *label = 0;
#endif
#if NET_OUTPUTS_1 && !NET_CLASSES_1
    *label = NET_OUT(net, 0) > NET_HALF;
#endif
#if !NET_OUTPUTS_1
    for (j = 1; j < NET_OUTPUTS; j++)
        if (NET_SCORE(net, j) > NET_SCORE(net, best)) best = j;
    *label = (int)best;
#endif
    return NET_OK;
}
#endif
#if NET_MULTILABEL
/* Each output for itself. */
net_status net_predict(net_memory *net, const net_value *x, uint8_t *labels) {
    const net_status status = labels == NULL ? NET_ERROR_NULL : net_relax(net, x, NULL);
    size_t j;
    if (status != NET_OK) return status;
    for (j = 0; j < NET_OUTPUTS; j++) labels[j] = NET_OUT(net, j) > NET_HALF;
    return NET_OK;
}
#endif
#if NET_REGRESSOR
/* The network was trained on (y - mean) / scale; integers leave that to the caller. */
net_status net_predict(net_memory *net, const net_value *x, net_value *y) {
    const net_status status = y == NULL ? NET_ERROR_NULL : net_relax(net, x, NULL);
    size_t j;
    if (status != NET_OK) return status;
#if NET_INT
    for (j = 0; j < NET_OUTPUTS; j++) y[j] = NET_OUT(net, j);
#else
    for (j = 0; j < NET_OUTPUTS; j++) y[j] = NET_OUT(net, j) * net_scale[j] + net_mean[j];
#endif
    return NET_OK;
}
#endif
#if NET_CLASSIFIER

/* How outputs are read as probabilities is the estimator's predict_proba. */
net_status net_predict_proba(net_memory *net, const net_value *x, net_probability *p) {
    const net_status status = p == NULL ? NET_ERROR_NULL : net_relax(net, x, NULL);
#if NET_P_EACH
    size_t j;
#endif
    if (status != NET_OK) return status;
#if NET_P_ONE
    p[0] = NET_ONE;
#endif
#if NET_P_EACH
    for (j = 0; j < NET_OUTPUTS; j++) p[j] = (net_probability)NET_CHANCE(NET_OUT(net, j));
#endif
#if NET_P_BINARY
    p[1] = p[0]; /* the output is the second class's */
    p[0] = (net_probability)(NET_ONE - p[1]);
#endif
#if NET_P_SHARE || NET_P_SOFTMAX
    net_shares(net, p);
#endif
    return NET_OK;
}
#endif
#if NET_LEARN

#include "learn.c"

#include "slots.c"
#endif
