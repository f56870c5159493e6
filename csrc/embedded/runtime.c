/* @FILE@.c - the network of @FILE@.h, made by eqprop_fast @VERSION@.
 *
 *     field of layer k = W(k-1)^T s(k-1) + b(k) + W(k) s(k+1)       the last term is missing at the output
 *     s(k) <- rho(field)                                            until the states rest
#if NET_LEARN
 *     learning: W(k) += rate / span (s s^T of one equilibrium - s s^T of another), the output nudged to the target
#endif
 *
 * In order: parameters, arithmetic, relaxation, prediction@LEARNING@. */
#include "@FILE@.h"

/* ---- parameters: flash ---- */

typedef struct {
    uint16_t n_in, n_out;
    uint32_t weights; /* where its weights[n_in][n_out] begin */
    uint32_t units;   /* where its n_out states and biases begin */
    uint8_t activation;
#if NET_INT
    uint8_t field_bits, state_bits; /* fractional bits of its field and its state */
    uint8_t up, down;               /* products with the layer below and above: shift to the bits of the field */
#if NET_LEARN
    int8_t rate_bits; /* shift of an update = shift of the rate + this */
#endif
#endif
} net_layer;

@TABLES@

/* ---- arithmetic ---- */

#if NET_LEARN
#define NET_W(net) ((net)->learned.weights)
#define NET_B(net) ((net)->learned.biases)
#else
#define NET_W(net) net_weights
#define NET_B(net) net_biases
#endif

#if NET_INT
/* All shifts to the right are of int32_t and arithmetic, as with every compiler this was tested with. No sum
 * overflows: NAME's exporter chose field_bits so that the largest weights and states still fit. */
static int32_t net_clip(int32_t x, int32_t low, int32_t high) { return x < low ? low : x > high ? high : x; }

/* x / 2^shift, rounded to nearest; the half is added to the bits below, so that x may be anything */
static int32_t net_round(int32_t x, unsigned shift)
{
    return shift == 0 ? x : (x >> shift) + ((x >> (shift - 1)) & 1);
}

#if NET_LEARN && NET_INT8
/* The forward weight is the upper byte of the one that learns, rounded. */
static int32_t net_forward(net_weight w)
{
    const int32_t upper = ((int32_t)w + 128) >> 8;
    return upper > 127 ? 127 : upper;
}
#define NET_READ(w) net_forward(w)
#else
#define NET_READ(w) ((int32_t)(w))
#endif

#if NET_HAS_LOGISTIC
/* 2^14 / (1 + exp(-t)), t with 12 fractional bits: 1/16 apart up to 12, linear between; error below 1.3e-4 */
static int32_t net_logistic(int32_t t)
{
    const int32_t size = net_clip(t < 0 ? -t : t, 0, 12 * 4096 - 1), i = size >> 8, part = size & 255;
    const int32_t y = net_sigmoid[i] + (((net_sigmoid[i + 1] - net_sigmoid[i]) * part + 128) >> 8);
    return t < 0 ? 16384 - y : y;
}

/* field / 2^(bits - 12), so large ones limited that doubling and adding cannot overflow */
static int32_t net_slope(int32_t field, unsigned shift) { return net_clip(net_round(field, shift), -(1 << 20), 1 << 20); }
#endif

/* rho(field) in the bits of the layer's state */
static int32_t net_rho(const net_layer *layer, int32_t field)
{
    const unsigned bits = layer->field_bits, shift = bits - layer->state_bits;
    const int32_t one = (int32_t)1 << layer->state_bits;
    switch (layer->activation) {
#if NET_HAS_SHIFTED_SIGMOID
    case NET_SHIFTED_SIGMOID: return net_logistic(net_slope(field, bits - 14) - 8192);
#endif
#if NET_HAS_HARD_SIGMOID
    case NET_HARD_SIGMOID: return net_clip(net_round(field, shift), 0, one);
#endif
#if NET_HAS_TANH
    case NET_TANH: return 2 * net_logistic(net_slope(field, bits - 13)) - 16384;
#endif
#if NET_HAS_SIGMOID
    case NET_SIGMOID: return net_logistic(net_slope(field, bits - 12));
#endif
#if NET_HAS_RELU
    case NET_RELU: return net_clip(net_round(field, shift), 0, 32767);
#endif
#if NET_HAS_HALF_HARD_SIGMOID
    case NET_HALF_HARD_SIGMOID: return net_clip(net_round(field, shift + 1), 0, one);
#endif
#if NET_HAS_CENTERED_HARD_SIGMOID
    case NET_CENTERED_HARD_SIGMOID: return net_clip(net_round(field, shift), -one / 2, one / 2);
#endif
#if NET_HAS_WIDE_HARD_SIGMOID
    case NET_WIDE_HARD_SIGMOID: return net_clip(net_round(field, shift), -one, 32767);
#endif
    default: return net_clip(net_round(field, shift), -32767, 32767) + 0 * one;
    }
}

static net_sum net_dot(const net_weight *w, size_t stride, const net_value *s, size_t n, unsigned shift)
{
    net_sum sum = 0;
    for (; n > 0; n--, w += stride, s++) sum += (NET_READ(*w) * *s) >> shift;
    return sum;
}
#define NET_DOT(w, stride, s, n, shift) net_dot(w, stride, s, n, shift)
#define NET_BIAS(net, layer, j) (NET_B(net)[(layer)->units + (j)] >> (24 - (layer)->field_bits))
#else

#if NET_HAS_EXP2
/* 2^t, relative error below 2e-7; t is limited so that the result is a normal number */
static float net_exp2(float t)
{
    static const float c[] = {1.00000007545f, 0.69314718803f, 0.24022107485f, 0.055503571142f, 0.009676031918f,
                              0.0013390863365f}; /* Chebyshev fit of 2^f on [-1/2, 1/2] */
    float p, scale = 0;
    int32_t n, i;
    uint32_t bits;
    t = t < -125 ? -125.0f : t > 125 ? 125.0f : t;
    n = (int32_t)(t + (t < 0 ? -0.5f : 0.5f));
    t -= (float)n;
    for (p = c[5], i = 4; i >= 0; i--) p = p * t + c[i];
    bits = (uint32_t)(n + 127) << 23; /* 2^n as IEEE 754 has it */
    for (i = 0; i < 4; i++) ((unsigned char *)&scale)[i] = ((const unsigned char *)&bits)[i];
    return p * scale;
}
#endif
#if NET_HAS_LOGISTIC
/* 1 / (1 + exp(-t)); absolute error below 2.5e-7 */
static float net_logistic(float t) { return 1.0f / (1.0f + net_exp2(t * -1.44269504f)); }
#endif
#if NET_HAS_CLIP
static float net_clip(float x, float low, float high) { return x < low ? low : x > high ? high : x; }
#endif

static float net_rho(int activation, float x)
{
    switch (activation) {
#if NET_HAS_SHIFTED_SIGMOID
    case NET_SHIFTED_SIGMOID: return net_logistic(4.0f * x - 2.0f);
#endif
#if NET_HAS_HARD_SIGMOID
    case NET_HARD_SIGMOID: return net_clip(x, 0.0f, 1.0f);
#endif
#if NET_HAS_TANH
    case NET_TANH: return 2.0f * net_logistic(2.0f * x) - 1.0f;
#endif
#if NET_HAS_SIGMOID
    case NET_SIGMOID: return net_logistic(x);
#endif
#if NET_HAS_RELU
    case NET_RELU: return x < 0.0f ? 0.0f : x;
#endif
#if NET_HAS_HALF_HARD_SIGMOID
    case NET_HALF_HARD_SIGMOID: return net_clip(0.5f * x, 0.0f, 1.0f);
#endif
#if NET_HAS_CENTERED_HARD_SIGMOID
    case NET_CENTERED_HARD_SIGMOID: return net_clip(x, -0.5f, 0.5f);
#endif
#if NET_HAS_WIDE_HARD_SIGMOID
    case NET_WIDE_HARD_SIGMOID: return net_clip(x, -1.0f, 2.0f);
#endif
    default: return x;
    }
}

static net_sum net_dot(const net_weight *w, size_t stride, const net_value *s, size_t n)
{
    net_sum sum = 0;
    for (; n > 0; n--, w += stride, s++) sum += *w * *s;
    return sum;
}
#define NET_DOT(w, stride, s, n, shift) net_dot(w, stride, s, n)
#define NET_BIAS(net, layer, j) (NET_B(net)[(layer)->units + (j)])

/* NaN and infinities are not 0 when subtracted from themselves. */
static int net_finite(const float *x, size_t n)
{
    for (; n > 0; n--, x++)
        if (!(*x - *x == 0.0f)) return 0;
    return 1;
}
#endif

/* ---- relaxation ---- */

#define NET_MAGIC UINT32_C(0x45715031)
#define NET_LAST (&net_layers[NET_LAYERS - 1])

const char *net_text(net_status status)
{
    static const char *const texts[] = {
#define NET_TEXT(name, text) text,
        NET_STATUS(NET_TEXT)
#undef NET_TEXT
    };
    return (unsigned)status < (unsigned)NET_N_STATUS ? texts[status] : "no such status";
}

net_status net_init(void *arena, size_t size, net_memory **net)
{
    if (arena == NULL || net == NULL) return NET_ERROR_NULL;
    if (size < sizeof(net_memory) || (uintptr_t)arena % sizeof(net_sum) != 0) return NET_ERROR_ARENA;
    *net = (net_memory *)arena;
    (*net)->ready = NET_MAGIC;
#if NET_LEARN
    return net_reset(*net);
#else
    return NET_OK;
#endif
}

static net_status net_check(const net_memory *net, const void *x)
{
    if (net == NULL || x == NULL) return NET_ERROR_NULL;
    return net->ready == NET_MAGIC ? NET_OK : NET_ERROR_NOT_READY;
}

/* Bias and input of the first layer; a pixel that is 0 costs nothing. */
static void net_begin(net_memory *net, const net_value *x)
{
    const net_layer *first = net_layers;
    const net_weight *w = NET_W(net);
    size_t i, j;
    for (j = 0; j < first->n_out; j++) net->drive[j] = NET_BIAS(net, first, j);
    for (i = 0; i < first->n_in; i++, w += first->n_out) {
#if NET_HAS_INPUT_ACTIVATION
        const net_value s = net_rho(NET_INPUT_ACTIVATION, x[i]);
#else
        const net_value s = x[i];
#endif
#if NET_INT
        if (s == 0) continue;
        for (j = 0; j < first->n_out; j++) net->drive[j] += (NET_READ(w[j]) * s) >> first->up;
#else
        if (s == 0.0f) continue;
        for (j = 0; j < first->n_out; j++) net->drive[j] += w[j] * s;
#endif
    }
    for (j = 0; j < NET_UNITS; j++) net->states[j] = 0;
}

static net_sum net_field(const net_memory *net, int k, size_t j)
{
    const net_layer *layer = &net_layers[k];
    net_sum sum = 0;
    if (k == 0) sum = net->drive[j];
    if (k > 0) {
        const net_layer *below = layer - 1;
        sum = NET_BIAS(net, layer, j);
        sum += NET_DOT(NET_W(net) + layer->weights + j, layer->n_out, net->states + below->units, layer->n_in,
                       layer->up);
    }
    if (k + 1 < NET_LAYERS) {
        const net_layer *above = layer + 1;
        sum += NET_DOT(NET_W(net) + above->weights + j * above->n_out, 1, net->states + above->units,
                       above->n_out, layer->down);
    }
    return sum;
}

#if NET_P_SOFTMAX || NET_CROSS_ENTROPY
#if NET_INT
/* 2^15 exp(s - largest) */
static uint32_t net_exponential(int32_t below, unsigned bits)
{
    /* below * log2(e) with 12 fractional bits; then 2^-f by a cubic, error below 7e-5 */
    const int32_t t = bits > 12 ? net_round(below, bits - 12) : below * ((int32_t)1 << (12 - bits));
    const int32_t e = net_clip(t, 0, 1 << 17) * 5909 >> 12, f = e & 4095, n = e >> 12;
    int32_t p = ((-656 * f) >> 12) + 3797;
    p = ((p * f) >> 12) - 11334;
    p = ((p * f) >> 12) + 16384;
    return n > 15 ? 0 : (uint32_t)(2 * p) >> n;
}
#else
static void net_softmax(const net_value *s, net_value *p)
{
    net_value largest = s[0], sum = 0;
    size_t j;
    for (j = 1; j < NET_OUTPUTS; j++)
        if (s[j] > largest) largest = s[j];
    for (j = 0; j < NET_OUTPUTS; j++) sum += p[j] = net_exp2((s[j] - largest) * 1.44269504f);
    for (j = 0; j < NET_OUTPUTS; j++) p[j] /= sum;
}
#endif
#endif

/* One step of layer k; `change` grows to the largest one. With a nudge (1 or -1) the output feels the target.
 * Returns 0 if a state diverged. */
#if NET_LEARN
static int net_move(net_memory *net, int k, const net_value *target, int nudge, net_sum *change)
#else
static int net_move(net_memory *net, int k, net_sum *change)
#endif
{
    const net_layer *layer = &net_layers[k];
    net_value *s = net->states + layer->units;
#if NET_BUFFERED
    net_value *next = net->next + layer->units;
#else
    net_value *next = s;
#endif
#if NET_CROSS_ENTROPY
    net_value p[NET_OUTPUTS];
#endif
    size_t j;
#if NET_CROSS_ENTROPY
    if (nudge != 0 && layer == NET_LAST) net_softmax(s, p);
#endif
    for (j = 0; j < layer->n_out; j++) {
        net_sum field = net_field(net, k, j), value, moved;
#if NET_LEARN
        net_sum force = 0;
        if (nudge != 0 && layer == NET_LAST) {
#if NET_CROSS_ENTROPY
            force = NET_FORCE * (target[j] - p[j]);
#endif
#if !NET_CROSS_ENTROPY && !NET_INT
            force = NET_FORCE * (target[j] - s[j]);
#endif
#if NET_INT
            force = net_round(NET_FORCE * ((int32_t)target[j] - s[j]), 12);
#endif
            if (nudge < 0) force = -force;
#if NET_NUDGE_INSIDE && NET_INT
            field += force * ((int32_t)1 << (layer->field_bits - layer->state_bits));
#endif
#if NET_NUDGE_INSIDE && !NET_INT
            field += force;
#endif
        }
#endif
#if NET_INT
        if (layer == NET_LAST) net->score[j] = field;
        value = net_rho(layer, field);
#else
        value = net_rho(layer->activation, field);
#endif
#if NET_LEARN && !NET_NUDGE_INSIDE
        value += force;
#endif
#if NET_INT
#if NET_DAMPED
        value = s[j] + net_round(NET_STEP(nudge) * (net_clip(value, -32767, 32767) - s[j]), 12);
#endif
        value = net_clip(value, -32767, 32767);
        moved = (value < s[j] ? s[j] - value : value - s[j]) * ((int32_t)1 << (14 - layer->state_bits));
#else
#if NET_DAMPED
        value = s[j] + NET_STEP(nudge) * (value - s[j]);
#endif
        if (!(value > -1e18f && value < 1e18f)) return 0;
        moved = value < s[j] ? s[j] - value : value - s[j];
#endif
        next[j] = (net_value)value;
        if (moved > *change) *change = moved;
    }
    return 1;
}

#if NET_LEARN
static net_status net_sweeps(net_memory *net, const net_value *target, int nudge, net_result *result)
#else
static net_status net_sweeps(net_memory *net, net_result *result)
#endif
{
#if NET_LEARN
    const int32_t n_steps = nudge != 0 ? NET_NUDGED_STEPS : NET_FREE_STEPS;
    const net_sum tol = nudge != 0 ? NET_NUDGED_TOL : NET_FREE_TOL;
#else
    const int32_t n_steps = NET_FREE_STEPS;
    const net_sum tol = NET_FREE_TOL;
#endif
    int32_t step;
    net_sum change = 0;
    for (step = 0; step < n_steps;) {
        int pass, k;
        change = 0;
        for (pass = 0; pass < NET_PASSES; pass++) {
            for (k = pass; k < NET_LAYERS; k += NET_PASSES)
#if NET_LEARN
                if (!net_move(net, k, target, nudge, &change)) return NET_ERROR_DIVERGED;
#else
                if (!net_move(net, k, &change)) return NET_ERROR_DIVERGED;
#endif
#if NET_BUFFERED
            for (k = 0; k < NET_UNITS; k++) net->states[k] = net->next[k];
#endif
        }
#if NET_DAMPED && !NET_INT
        change /= NET_STEP(nudge);
#endif
        step++;
        if (change <= tol) break;
    }
    if (result != NULL) {
        result->steps = step;
#if NET_INT
        result->residual = (net_value)net_clip(change, 0, 32767);
#else
        result->residual = change;
#endif
    }
    return NET_OK;
}

net_status net_relax(net_memory *net, const net_value *x, net_result *result)
{
    const net_status status = net_check(net, x);
    if (status != NET_OK) return status;
#if !NET_INT
    if (!net_finite(x, NET_INPUTS)) return NET_ERROR_NOT_FINITE;
#endif
    net_begin(net, x);
#if NET_LEARN
    return net_sweeps(net, NULL, 0, result);
#else
    return net_sweeps(net, result);
#endif
}

/* ---- prediction ---- */

#if NET_EXCLUSIVE
net_status net_predict(net_memory *net, const net_value *x, int *label)
{
    const net_status status = label == NULL ? NET_ERROR_NULL : net_relax(net, x, NULL);
    if (status == NET_OK) {
#if NET_OUTPUTS_1
#if NET_CLASSES_1
        *label = 0;
#else
        *label = net->states[NET_LAST->units] > NET_HALF;
#endif
#else
#if NET_INT
        const net_sum *out = net->score;
#else
        const net_sum *out = net->states + NET_LAST->units;
#endif
        int j, best = 0;
        for (j = 1; j < NET_OUTPUTS; j++)
            if (out[j] > out[best]) best = j;
        *label = best;
#endif
    }
    return status;
}
#endif
#if NET_MULTILABEL
net_status net_predict(net_memory *net, const net_value *x, uint8_t *labels)
{
    const net_status status = labels == NULL ? NET_ERROR_NULL : net_relax(net, x, NULL);
    if (status == NET_OK) {
        int j;
        for (j = 0; j < NET_OUTPUTS; j++) labels[j] = net->states[NET_LAST->units + (size_t)j] > NET_HALF;
    }
    return status;
}
#endif
#if NET_REGRESSOR
net_status net_predict(net_memory *net, const net_value *x, net_value *y)
{
    const net_status status = y == NULL ? NET_ERROR_NULL : net_relax(net, x, NULL);
    if (status == NET_OK) {
        size_t j;
#if NET_INT
        for (j = 0; j < NET_OUTPUTS; j++) y[j] = net->states[NET_LAST->units + j];
#else
        for (j = 0; j < NET_OUTPUTS; j++) y[j] = net->states[NET_LAST->units + j] * net_scale[j] + net_mean[j];
#endif
    }
    return status;
}
#endif

#if NET_CLASSIFIER
#if NET_INT
net_status net_predict_proba(net_memory *net, const net_value *x, uint16_t *p)
{
    const net_status status = p == NULL ? NET_ERROR_NULL : net_relax(net, x, NULL);
    if (status == NET_OK) {
#if NET_P_ONE
        p[0] = 32768;
#endif
#if NET_P_BINARY || NET_P_CLIP
        const net_value *out = net->states + NET_LAST->units;
        size_t j;
        for (j = 0; j < NET_OUTPUTS; j++)
            p[j] = (uint16_t)(net_clip(out[j], 0, 2 * NET_HALF) * 16384 / NET_HALF);
#endif
#if NET_P_BINARY
        p[1] = p[0];
        p[0] = (uint16_t)(32768 - p[1]);
#endif
#if NET_P_SHARE
        const net_value *out = net->states + NET_LAST->units;
        uint32_t sum = 0;
        size_t j;
        for (j = 0; j < NET_OUTPUTS; j++) sum += (uint32_t)net_clip(out[j], 0, 32767);
        for (j = 0; j < NET_OUTPUTS; j++)
            p[j] = (uint16_t)(sum == 0 ? 32768 / NET_OUTPUTS : ((uint32_t)net_clip(out[j], 0, 32767) << 15) / sum);
#endif
#if NET_P_SOFTMAX
        const net_value *out = net->states + NET_LAST->units;
        int32_t largest = out[0];
        uint32_t sum = 0;
        size_t j;
        for (j = 1; j < NET_OUTPUTS; j++)
            if (out[j] > largest) largest = out[j];
        for (j = 0; j < NET_OUTPUTS; j++) sum += net_exponential(largest - out[j], NET_LAST->state_bits);
        for (j = 0; j < NET_OUTPUTS; j++)
            p[j] = (uint16_t)((net_exponential(largest - out[j], NET_LAST->state_bits) << 15) / sum);
#endif
    }
    return status;
}
#else
net_status net_predict_proba(net_memory *net, const net_value *x, float *p)
{
    const net_status status = p == NULL ? NET_ERROR_NULL : net_relax(net, x, NULL);
    if (status == NET_OK) {
#if NET_P_ONE
        p[0] = 1.0f;
#endif
#if NET_P_BINARY
        p[1] = net_clip(net->states[NET_LAST->units], 0.0f, 1.0f);
        p[0] = 1.0f - p[1];
#endif
#if NET_P_CLIP
        size_t j;
        for (j = 0; j < NET_OUTPUTS; j++) p[j] = net_clip(net->states[NET_LAST->units + j], 0.0f, 1.0f);
#endif
#if NET_P_SHARE
        const float *out = net->states + NET_LAST->units;
        float sum = 0.0f;
        size_t j;
        for (j = 0; j < NET_OUTPUTS; j++) sum += p[j] = (out[j] > 0.0f ? out[j] : 0.0f) + 1.17549435e-38f;
        for (j = 0; j < NET_OUTPUTS; j++) p[j] /= sum;
#endif
#if NET_P_SOFTMAX
        net_softmax(net->states + NET_LAST->units, p);
#endif
    }
    return status;
}
#endif
#endif
#if NET_LEARN

/* ---- learning ---- */

/* xorshift32 */
#if NET_INT || NET_RANDOM_SIGN
static uint32_t net_random(net_memory *net)
{
    uint32_t r = net->learned.random;
    r ^= r << 13;
    r ^= r >> 17;
    r ^= r << 5;
    return net->learned.random = r;
}
#endif

#if NET_INT
/* x / 2^shift, rounded up with the probability of what is cut off: the dither is as wide as the shift. Here
 * |x| <= 15 * 2^26 and shift <= 30, so that nothing overflows. */
static int32_t net_dithered(int32_t x, uint32_t random, unsigned shift)
{
    return (x + (int32_t)(random >> (32 - shift))) >> shift;
}

static void net_update(net_memory *net, const net_value *x, const net_value *plus, const net_value *minus)
{
    int k;
    size_t i, j;
    for (k = 0; k < NET_LAYERS; k++) {
        const net_layer *layer = &net_layers[k];
        const net_rate rate = net->learned.rates[k];
        const net_value *below_plus = k == 0 ? x : plus + net_layers[k > 0 ? k - 1 : 0].units;
        const net_value *below_minus = k == 0 ? x : minus + net_layers[k > 0 ? k - 1 : 0].units;
        const net_value *out_plus = plus + layer->units, *out_minus = minus + layer->units;
        const unsigned shift = (unsigned)(rate.shift + layer->rate_bits);
        const int bias_shift = rate.shift + layer->state_bits - 24;
        net_weight *w = net->learned.weights + layer->weights;
        net_sum *b = net->learned.biases + layer->units;
        uint32_t random;
        for (i = 0; i < layer->n_in; i++, w += layer->n_out) {
            const int32_t p = below_plus[i], m = below_minus[i];
            if (p == 0 && m == 0) continue;
            random = net_random(net);
            for (j = 0; j < layer->n_out; j++, random += UINT32_C(0x9E3779B9)) {
                /* at most 2 * 32767^2; 5 bits less leave room for the mantissa */
                const int32_t step = (p * out_plus[j] - m * out_minus[j] + 16) >> 5;
                const int32_t new_w = w[j] + net_dithered(step * rate.mantissa, random, shift);
                w[j] = (net_weight)net_clip(new_w, -32767, 32767);
            }
        }
        random = net_random(net);
        for (j = 0; j < layer->n_out; j++, random += UINT32_C(0x9E3779B9)) {
            int32_t step = ((int32_t)out_plus[j] - out_minus[j]) * rate.mantissa;
            if (bias_shift > 0) step = net_dithered(step, random, (unsigned)bias_shift);
            else step *= (int32_t)1 << -bias_shift;
            b[j] = net_clip(b[j] + step, -NET_MAX_BIAS, NET_MAX_BIAS);
        }
    }
}
#else
static void net_update(net_memory *net, const net_value *x, const net_value *plus, const net_value *minus)
{
    int k;
    size_t i, j;
    for (k = 0; k < NET_LAYERS; k++) {
        const net_layer *layer = &net_layers[k];
        const net_value *out_plus = plus + layer->units, *out_minus = minus + layer->units;
        const float rate = net->learned.rates[k] * NET_PER_SPAN;
        net_weight *w = net->learned.weights + layer->weights;
        net_sum *b = net->learned.biases + layer->units;
        for (i = 0; i < layer->n_in; i++, w += layer->n_out) {
#if NET_HAS_INPUT_ACTIVATION
            const net_value input = k == 0 ? net_rho(NET_INPUT_ACTIVATION, x[i]) : 0.0f;
#else
            const net_value input = k == 0 ? x[i] : 0.0f;
#endif
            const size_t below = k == 0 ? 0 : net_layers[k > 0 ? k - 1 : 0].units + i;
            const net_value p = k == 0 ? input : plus[below], m = k == 0 ? input : minus[below];
            if (p == 0.0f && m == 0.0f) continue;
            for (j = 0; j < layer->n_out; j++) w[j] += rate * (p * out_plus[j] - m * out_minus[j]);
        }
        for (j = 0; j < layer->n_out; j++) b[j] += rate * (out_plus[j] - out_minus[j]);
    }
}
#endif

/* The nudged phases and the update, after a target of NET_OUTPUTS values has been made. */
static net_status net_learn_target(net_memory *net, const net_value *x, const net_value *target)
{
    net_value *plus = net->states, *minus = net->other;
    int sign = NET_SIGN;
    net_status status;
    size_t j;
    net_begin(net, x);
    status = net_sweeps(net, NULL, 0, NULL);
    if (status != NET_OK) return status;
#if NET_RANDOM_SIGN
    if (net_random(net) >> 31) sign = -sign;
#endif
    for (j = 0; j < NET_UNITS; j++) net->other[j] = net->states[j];
    status = net_sweeps(net, target, sign, NULL);
    if (status != NET_OK) return status;
#if NET_CENTERED
    for (j = 0; j < NET_UNITS; j++) { /* back to the free state; keep this one */
        const net_value nudged = net->states[j];
        net->states[j] = net->other[j];
        net->other[j] = nudged;
    }
    sign = -sign;
    status = net_sweeps(net, target, sign, NULL);
    if (status != NET_OK) return status;
#endif
    if (sign < 0) {
        plus = net->other;
        minus = net->states;
    }
    net_update(net, x, plus, minus);
    return NET_OK;
}

#if NET_EXCLUSIVE
net_status net_learn(net_memory *net, const net_value *x, int label)
{
    net_value target[NET_OUTPUTS];
    const net_status status = net_check(net, x);
    int j;
    if (status != NET_OK) return status;
    if (label < 0 || label >= NET_CLASSES) return NET_ERROR_ARGUMENT;
#if !NET_INT
    if (!net_finite(x, NET_INPUTS)) return NET_ERROR_NOT_FINITE;
#endif
    for (j = 0; j < NET_OUTPUTS; j++) target[j] = (net_value)(label == j + NET_FIRST_LABEL ? 2 * NET_HALF : 0);
    return net_learn_target(net, x, target);
}
#else
net_status net_learn(net_memory *net, const net_value *x, const net_value *y)
{
    net_value target[NET_OUTPUTS];
    const net_status status = y == NULL ? NET_ERROR_NULL : net_check(net, x);
    int j;
    if (status != NET_OK) return status;
#if !NET_INT
    if (!net_finite(x, NET_INPUTS) || !net_finite(y, NET_OUTPUTS)) return NET_ERROR_NOT_FINITE;
#endif
#if NET_REGRESSOR && !NET_INT
    for (j = 0; j < NET_OUTPUTS; j++) target[j] = (y[j] - net_mean[j]) / net_scale[j];
#else
    for (j = 0; j < NET_OUTPUTS; j++) target[j] = y[j];
#endif
    return net_learn_target(net, x, target);
}
#endif

#if NET_INT
net_status net_set_rate(net_memory *net, int layer, net_rate rate)
#else
net_status net_set_rate(net_memory *net, int layer, float rate)
#endif
{
    const net_status status = net_check(net, net);
    if (status != NET_OK) return status;
    if (layer < 1 || layer > NET_LAYERS) return NET_ERROR_ARGUMENT;
#if NET_INT
    {
        const int shift = rate.shift + net_layers[layer - 1].rate_bits;
        const int bias_shift = rate.shift + net_layers[layer - 1].state_bits - 24;
        if (rate.mantissa > 15 || shift < 1 || shift > 30 || bias_shift < -10 || bias_shift > 30)
            return NET_ERROR_ARGUMENT;
    }
#else
    if (!(rate >= 0.0f && rate <= NET_MAX_RATE)) return NET_ERROR_ARGUMENT;
#endif
    net->learned.rates[layer - 1] = rate;
    return NET_OK;
}

net_status net_reset(net_memory *net)
{
    const net_status status = net_check(net, net);
    size_t i;
    if (status != NET_OK) return status;
    for (i = 0; i < NET_WEIGHTS; i++) net->learned.weights[i] = net_weights[i];
    for (i = 0; i < NET_UNITS; i++) net->learned.biases[i] = net_biases[i];
    for (i = 0; i < NET_LAYERS; i++) net->learned.rates[i] = net_rates[i];
    net->learned.random = NET_SEED;
    return NET_OK;
}

/* ---- slots of flash ---- */

typedef struct {
    uint32_t model, sequence, size, crc; /* crc: of the three before and of what follows */
} net_header;

enum { NET_HEADER = 16 };

static uint32_t net_crc(uint32_t crc, const void *data, size_t n)
{
    static const uint32_t table[16] = {
        0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu, 0x76DC4190u, 0x6B6B51F4u, 0x4DB26158u, 0x5005713Cu,
        0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu, 0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu};
    const unsigned char *byte = (const unsigned char *)data;
    crc = ~crc;
    for (; n > 0; n--, byte++) {
        crc = table[(crc ^ *byte) & 15] ^ (crc >> 4);
        crc = table[(crc ^ (uint32_t)(*byte >> 4)) & 15] ^ (crc >> 4);
    }
    return ~crc;
}

/* What a slot holds: NET_OK, _EMPTY, _OTHER_MODEL, _CORRUPT or _FLASH. */
static net_status net_look(const net_flash *flash, int slot, net_header *header)
{
    unsigned char part[32];
    uint32_t at, crc;
    if (flash->read(flash->context, slot, 0, header, NET_HEADER) != 0) return NET_ERROR_FLASH;
    if ((header->model & header->sequence & header->size & header->crc) == UINT32_C(0xFFFFFFFF) ||
        (header->model | header->sequence | header->size | header->crc) == 0)
        return NET_ERROR_EMPTY;
    if (header->size != sizeof(net_learned)) return NET_ERROR_OTHER_MODEL;
    crc = net_crc(0, header, 12);
    for (at = 0; at < sizeof(net_learned); at += (uint32_t)sizeof part) {
        const uint32_t left = (uint32_t)sizeof(net_learned) - at, n = left < sizeof part ? left : (uint32_t)sizeof part;
        if (flash->read(flash->context, slot, NET_HEADER + at, part, n) != 0) return NET_ERROR_FLASH;
        crc = net_crc(crc, part, n);
    }
    if (crc != header->crc) return NET_ERROR_CORRUPT;
    return header->model == NET_FINGERPRINT ? NET_OK : NET_ERROR_OTHER_MODEL;
}

/* The newest good slot and its header, or -1; `why` tells that a read failed, or why there is none. */
static int net_newest(const net_flash *flash, net_header *header, net_status *why)
{
    net_header headers[2];
    net_status found[2];
    int newest;
    found[0] = net_look(flash, 0, &headers[0]);
    found[1] = net_look(flash, 1, &headers[1]);
    if (found[0] != NET_OK && found[1] != NET_OK) {
        /* the worse of the two: FLASH < EMPTY < CORRUPT < OTHER_MODEL in the list, but FLASH goes first */
        *why = found[0] == NET_ERROR_FLASH || found[1] == NET_ERROR_FLASH ? NET_ERROR_FLASH
               : found[0] > found[1]                                      ? found[0]
                                                                          : found[1];
        return -1;
    }
    newest = found[0] != NET_OK;
    if (found[0] == NET_OK && found[1] == NET_OK) /* the counter may have gone round */
        newest = headers[1].sequence - headers[0].sequence < UINT32_C(0x80000000);
    *why = found[0] == NET_ERROR_FLASH || found[1] == NET_ERROR_FLASH ? NET_ERROR_FLASH : NET_OK;
    *header = headers[newest];
    return newest;
}

static int net_complete(const net_flash *flash)
{
    return flash != NULL && flash->erase != NULL && flash->write != NULL && flash->read != NULL;
}

net_status net_save(const net_memory *net, const net_flash *flash)
{
    net_header header, written;
    net_status status = net_check(net, flash);
    int slot, newest;
    if (status != NET_OK) return status;
    if (!net_complete(flash)) return NET_ERROR_NULL;
    newest = net_newest(flash, &header, &status);
    if (status == NET_ERROR_FLASH) return status; /* what cannot be read may be the newest: keep it */
    slot = newest == 0;
    header.model = NET_FINGERPRINT;
    header.sequence = newest < 0 ? 1 : header.sequence + 1;
    header.size = (uint32_t)sizeof(net_learned);
    header.crc = net_crc(net_crc(0, &header, 12), &net->learned, sizeof(net_learned));
    if (flash->erase(flash->context, slot) != 0) return NET_ERROR_FLASH;
    if (flash->write(flash->context, slot, NET_HEADER, &net->learned, header.size) != 0) return NET_ERROR_FLASH;
    if (flash->write(flash->context, slot, 0, &header, NET_HEADER) != 0) return NET_ERROR_FLASH;
    status = net_look(flash, slot, &written);
    return status == NET_OK && written.crc == header.crc ? NET_OK : NET_ERROR_FLASH;
}

net_status net_load(net_memory *net, const net_flash *flash)
{
    net_header header;
    net_status status = net_check(net, flash);
    int slot;
    if (status != NET_OK) return status;
    if (!net_complete(flash)) return NET_ERROR_NULL;
    slot = net_newest(flash, &header, &status);
    if (slot < 0) return status;
    if (flash->read(flash->context, slot, NET_HEADER, &net->learned, header.size) != 0 ||
        net_crc(net_crc(0, &header, 12), &net->learned, sizeof(net_learned)) != header.crc) {
        (void)net_reset(net);
        return NET_ERROR_FLASH;
    }
    return NET_OK;
}
#endif
