/* eqp_file.c - see eqp_file.h. Nothing is allocated; no byte is read before it is known to be
 * there.
 *
 *     bytes, b     the file;   size: its bytes
 *     at, offset   a place in it, from its first byte
 *     width        bytes of a number: 4 or 8, lowest first
 *
 * A file is opened in this order: magic, version, size, checksum, layout, values. */
#include "eqp_file.h"

/* As IEEE 754 has them: 1 as a float, infinity as a double. */
#define EQP_FILE_ONE      UINT32_C(0x3F800000)
#define EQP_FILE_INFINITY UINT64_C(0x7FF0000000000000)

/* The text of a status, from the list that numbers them. */
const char *eqp_file_text(eqp_file_status status) {
    static const char *const texts[] = {
#define EQP_FILE_TEXT(name, text) text,
        EQP_FILE_STATUS(EQP_FILE_TEXT)
#undef EQP_FILE_TEXT
    };
    return (unsigned)status < (unsigned)EQP_FILE_N_STATUS ? texts[status] : "no such status";
}

/* The number at offset, whatever the byte order and alignment of the machine. */
uint32_t eqp_file_u32(const uint8_t *bytes, uint32_t offset) {
    const uint8_t *p = bytes + offset;
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* The same bits as a float: copied byte by byte, for a pointer of another type may not look. */
float eqp_file_f32(const uint8_t *bytes, uint32_t offset) {
    const uint32_t bits = eqp_file_u32(bytes, offset);
    float value = 0;
    int i;
    for (i = 0; i < 4; i++) ((unsigned char *)&value)[i] = ((const unsigned char *)&bits)[i];
    return value;
}

/* CRC-32 of all bytes but the checksum's own, which count as absent: what is to be stored does not
 * depend on itself. Bit by bit: a table would cost more flash than a file that is read once is
 * worth. */
static uint32_t eqp_file_crc(const uint8_t *bytes, size_t size) {
    uint32_t crc = UINT32_C(0xFFFFFFFF);
    size_t i;
    int bit;
    for (i = 0; i < size; i++) {
        if (i >= 12 && i < 16) continue; /* the checksum itself */
        crc ^= bytes[i];
        for (bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (UINT32_C(0xEDB88320) & (0u - (crc & 1u)));
    }
    return ~crc;
}

/* n numbers that are neither infinite nor NaN: those have exponents of all ones. By their bits, for
 * a machine may have no doubles, or floats that trap. */
static int eqp_file_finite(const uint8_t *bytes, uint32_t offset, uint32_t n, uint32_t width) {
    for (; n > 0; n--, offset += width) {
        const uint32_t top = eqp_file_u32(bytes, offset + width - 4);
        if (width == 4 ? (top >> 23 & 0xFF) == 0xFF : (top >> 20 & 0x7FF) == 0x7FF) return 0;
    }
    return 1;
}

/* n numbers above 0: no sign bit, and some other bit. The lower half of a double counts too: the
 * smallest ones have nothing but that. */
static int eqp_file_positive(const uint8_t *bytes, uint32_t offset, uint32_t n, uint32_t width) {
    for (; n > 0; n--, offset += width) {
        const uint32_t top = eqp_file_u32(bytes, offset + width - 4),
                       low = eqp_file_u32(bytes, offset);
        if (top >> 31 || (top == 0 && low == 0)) return 0;
    }
    return 1;
}

/* Bytes of the UTF-8 character at p, of at most n; 0 if it is none: too long, a surrogate, beyond
 * U+10FFFF. */
static uint32_t eqp_file_character(const uint8_t *p, uint32_t n) {
    const uint32_t more = p[0] < 0x80   ? 0
                          : p[0] < 0xC2 ? 9
                          : p[0] < 0xE0 ? 1
                          : p[0] < 0xF0 ? 2
                          : p[0] < 0xF5 ? 3
                                        : 9;
    uint32_t i;
    /* cut off by the end, or no first byte at all (9) */
    if (more >= n) return 0;
    for (i = 1; i <= more; i++)
        if ((p[i] & 0xC0) != 0x80) return 0;
    /* the first bytes whose second is restricted: else one character would have two spellings, or
     * be half of a pair of UTF-16 */
    if ((p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xED && p[1] > 0x9F)) return 0;
    if ((p[0] == 0xF0 && p[1] < 0x90) || (p[0] == 0xF4 && p[1] > 0x8F)) return 0;
    return more + 1;
}

/* As many names as classes, in UTF-8, none empty, without control characters. */
static int eqp_file_names(const uint8_t *names, uint32_t size, uint32_t classes) {
    uint32_t i = 0, step, found = 0;
    for (; i < size; i += step) {
        step = eqp_file_character(names + i, size - i);
        if (step == 0 || (names[i] != 0 && names[i] < 32)) return 0;
        /* an empty name */
        if (names[i] == 0 && (i == 0 || names[i - 1] == 0)) return 0;
        found += names[i] == 0;
    }
    /* without the last 0 a program that prints a name would run on behind the file */
    return found == classes && names[size - 1] == 0;
}

/* Bits of a double that is a number and not negative, which are in the order of the numbers, so
 * that a machine without doubles can compare them; of others a value above that of infinity. */
static uint64_t eqp_file_order(const uint8_t *bytes, uint32_t offset) {
    const uint64_t bits =
        (uint64_t)eqp_file_u32(bytes, offset + 4) << 32 | eqp_file_u32(bytes, offset);
    /* a sign bit makes it larger than any number, as a NaN is */
    return bits > EQP_FILE_INFINITY ? EQP_FILE_INFINITY + 1 : bits;
}

/* The numbers of a circuit (eqp_file.h, 64 to 115), and what only conductances must be. */
static int eqp_file_circuit(const uint8_t *b, const eqp_file *file) {
    const uint64_t g_min = eqp_file_order(b, 84), g_max = eqp_file_order(b, 92);
    const uint64_t limit = eqp_file_order(b, 100);
    uint32_t k, i;
    if (b[64] > 2 || b[65] > 3 || b[66] != 0 || b[67] != 0) return 0;
    /* what layered networks have and circuits have not is what it is when nobody uses it */
    if ((b[20] & 3) != 0 || eqp_file_u32(b, 24) != EQP_FILE_ONE ||
        eqp_file_u32(b, 28) != EQP_FILE_ONE)
        return 0;
    /* gains and the sharpness of probabilities; both gains lie beside each other */
    if (!eqp_file_finite(b, 68, 2, 8) || !eqp_file_positive(b, 68, 2, 8)) return 0;
    if (!eqp_file_finite(b, 108, 1, 8) || !eqp_file_positive(b, 108, 1, 8)) return 0;
    /* bounds leave a range; without a largest conductance it is infinite */
    if (g_min >= g_max || g_max > EQP_FILE_INFINITY) return 0;
    if (limit == 0 || limit > EQP_FILE_INFINITY) return 0;
    /* no conductance is negative, not even -0: a sign bit is all that is looked for */
    for (k = 0; k < file->layers; k++)
        for (i = 0; i < file->rows[k] * file->columns[k]; i++)
            if (eqp_file_u32(b, file->weights[k] + 4 * i) >> 31) return 0;
    if (!file->scaled) return 1;
    return eqp_file_finite(b, file->centers, 2 * file->sizes[0], 8) &&
           eqp_file_positive(b, file->input_scales, file->sizes[0], 8);
}

/* Classes that fit the outputs, and a way to read them as probabilities that fits both. */
static int eqp_file_classes(const uint8_t *b, const eqp_file *file) {
    const uint32_t outputs = file->sizes[file->layers], proba = b[22];
    const int binary = file->kind == 0 && outputs == 1 && file->classes == 2;
    uint32_t i;
    /* as many classes as outputs, or two at one output */
    if (file->classes < 1 || (file->classes != outputs && !binary)) return 0;
    /* 5 is a regressor's; 2 is certain, and so has a single class */
    if (proba == 5 || (proba == 2 && file->classes != 1)) return 0;
    if (file->resistive) {
        /* noise about a target: a softmax, or a logistic function of one label or of two classes */
        if (proba == 1 || proba == 3 || proba == 4) return 0;
        if ((proba == 7) != binary || (proba == 6) != (file->kind == 1)) return 0;
    } else {
        if ((proba == 3) != binary || (proba == 1) != (file->kind == 1)) return 0;
    }
    if (file->names != 0)
        return (b[20] & 48) == 0 && eqp_file_names(b + file->labels, file->names, file->classes);
    if (b[20] & 32) return (b[20] & 16) == 0 && eqp_file_finite(b, file->labels, file->classes, 8);
    for (i = 0; (b[20] & 16) != 0 && i < file->classes; i++) /* booleans */
        if (eqp_file_u32(b, file->labels + 8 * i) > 1 ||
            eqp_file_u32(b, file->labels + 8 * i + 4) != 0)
            return 0;
    return 1;
}

/* The activations of a chain; its shapes were looked at before (eqp_file_maps). */
static int eqp_file_acts(const uint8_t *b, const eqp_file *file) {
    const uint8_t *last = b + file->links + EQP_FILE_LINK * (file->layers - 1);
    uint32_t k;
    for (k = 0; k < file->layers; k++)
        if (b[file->links + EQP_FILE_LINK * k + 5] > 9) return 0;
    /* a read-out reads all units of a layer that has a state, and acts as it is */
    if ((b[64] & 1) != 0 && (file->layers < 2 || last[0] != 0 || last[5] != 0)) return 0;
    if (!file->scaled) return 1;
    return eqp_file_finite(b, file->centers, 2 * file->sizes[0], 8) &&
           eqp_file_positive(b, file->input_scales, file->sizes[0], 8);
}

/* Whether every value is one that a network can have: codes, steps, rates, parameters, and classes
 * that fit the outputs. The offsets are those of the header (eqp_file.h). */
static int eqp_file_values(const uint8_t *b, const eqp_file *file) {
    static const uint8_t largest[3][8] = {{2, 9, 9, 9, 63, 2, 5, 2},
                                          {3, 0, 0, 0, 63, 2, 7, 2},
                                          {1, 0, 0, 9, 63, 2, 5, 2}};
    const uint32_t outputs = file->sizes[file->layers], flags = b[20];
    uint32_t i;
    /* codes: one byte each; a code beyond the last name would be an index beyond a table */
    for (i = 0; i < 8; i++)
        if (b[16 + i] > largest[b[4] - 1][i]) return 0;
    /* cost factor and step above 0, a tolerance that may be below; at least a sweep */
    if (!eqp_file_finite(b, 24, 3, 4) || !eqp_file_positive(b, 24, 2, 4)) return 0;
    if (eqp_file_u32(b, 36) < 1 || eqp_file_u32(b, 36) > INT32_MAX) return 0;
    /* the nudged phase; its numbers must make sense even where nobody learns, for a reader may
     * print them */
    if (!eqp_file_finite(b, 40, 3, 4) || eqp_file_u32(b, 52) > INT32_MAX) return 0;
    if (flags & 4) { /* it learns: a nudge that is not 0, a factor above 0, a step at least */
        if ((eqp_file_u32(b, 40) & UINT32_C(0x7FFFFFFF)) == 0 || !eqp_file_positive(b, 44, 1, 4))
            return 0;
        if (eqp_file_u32(b, 52) < 1) return 0;
    }
    for (i = 0; i < file->layers; i++) {
        /* rates are not negative, not even -0 */
        const uint32_t n_in = file->rows[i], n_out = file->columns[i];
        if (!eqp_file_finite(b, file->rates + 4 * i, 1, 4) ||
            eqp_file_u32(b, file->rates + 4 * i) >> 31)
            return 0;
        /* a NaN among the weights would reach every state after the first sweep */
        if (!eqp_file_finite(b, file->weights[i], n_in * n_out, 4)) return 0;
        if (!eqp_file_finite(b, file->biases[i], file->n_biases[i], 4)) return 0;
    }
    if (file->resistive && !eqp_file_circuit(b, file)) return 0;
    if (file->chain && !eqp_file_acts(b, file)) return 0;
    if (file->kind != 2) return eqp_file_classes(b, file);
    /* a regressor has no classes, but means and scales of its targets */
    if (file->classes != 0 || file->names != 0 || b[22] != 5 || flags > 15) return 0;
    return eqp_file_finite(b, file->mean, 2 * outputs, 8) &&
           eqp_file_positive(b, file->scale, outputs, 8);
}

/* Two arrays of n doubles, one behind the other: where they begin; returns where they end. */
static uint64_t eqp_file_two(uint64_t at, uint32_t n, uint32_t *first, uint32_t *second) {
    *first = (uint32_t)at;
    *second = (uint32_t)(at + 8 * (uint64_t)n);
    return at + 16 * (uint64_t)n;
}

/* The sizes of layers of which only the number of units is told; 0 if they cannot be. Returns where
 * they end. */
static uint64_t eqp_file_flat(const uint8_t *bytes, uint64_t size, eqp_file *file) {
    const uint64_t at = EQP_FILE_HEADER + (file->resistive ? (uint64_t)EQP_FILE_CIRCUIT : 0);
    /* a pair of sources or of output nodes is two units, which together must have a 16-bit number
     */
    const uint32_t most = file->resistive ? EQP_FILE_MAX_UNITS / 2 : EQP_FILE_MAX_UNITS;
    const uint32_t last = file->layers - 1;
    uint32_t i;
    if (at + 4 * ((uint64_t)file->layers + 1) > size) return 0;
    for (i = 0; i <= file->layers; i++) {
        file->sizes[i] = eqp_file_u32(bytes, (uint32_t)at + 4 * i);
        if (file->sizes[i] < 1 || file->sizes[i] > most) return 0;
    }
    for (i = 0; i <= last; i++) {
        file->rows[i] = file->sizes[i];
        file->columns[i] = file->sizes[i + 1];
    }
    if (file->resistive) { /* a source of either sign for each input; two nodes for each output */
        file->rows[0] *= 2;
        if (bytes[65] & 1) file->columns[last] *= 2;
        file->scaled = bytes[65] >> 1 & 1;
    }
    for (i = 0; i <= last; i++) file->n_biases[i] = file->columns[i];
    return at + 4 * ((uint64_t)file->layers + 1);
}

/* Whether a connection makes maps with sides of `out` over those of `in`, or is none of maps. */
static int eqp_file_side(const uint8_t *link, uint32_t in, uint32_t out) {
    const uint32_t kernel = link[0], padded = in + 2u * link[2];
    if (link[1] < 1 || link[2] >= kernel || link[3] < 1 || link[3] > 15 || link[4] > 2) return 0;
    if ((link[4] == 0) != (link[3] == 1)) return 0; /* squares of one unit are not pooled */
    return kernel <= padded && (padded - kernel) / link[1] + 1 == out * link[3];
}

/* As eqp_file_flat of a chain of maps: shapes, and connections that make them. */
static uint64_t eqp_file_maps(const uint8_t *b, uint64_t size, eqp_file *file) {
    const uint32_t shapes = EQP_FILE_HEADER + EQP_FILE_CHAIN;
    uint32_t i, k;
    file->links = shapes + EQP_FILE_SHAPE * (file->layers + 1);
    if (file->links + (uint64_t)EQP_FILE_LINK * file->layers > size) return 0;
    if (b[64] > 3 || b[65] != 0 || b[66] != 0 || b[67] != 0) return 0;
    file->scaled = b[64] >> 1 & 1;
    for (k = 0; k <= file->layers; k++) {
        uint64_t units = 1; /* three numbers of 16 bits have a product of 48 */
        for (i = 0; i < 3; i++) {
            const uint32_t side = eqp_file_u32(b, shapes + EQP_FILE_SHAPE * k + 4 * i);
            if (side < 1 || side > EQP_FILE_MAX_UNITS) return 0;
            units *= side;
        }
        if (units > EQP_FILE_MAX_UNITS) return 0;
        file->sizes[k] = (uint32_t)units;
    }
    for (k = 0; k < file->layers; k++) {
        const uint32_t below = shapes + EQP_FILE_SHAPE * k, above = below + EQP_FILE_SHAPE;
        const uint8_t *link = b + file->links + EQP_FILE_LINK * k;
        file->rows[k] = file->sizes[k];
        file->columns[k] = file->sizes[k + 1];
        file->n_biases[k] = eqp_file_u32(b, above);
        if (link[6] != 0 || link[7] != 0) return 0;
        if (link[0] == 0) { /* all units to all units */
            if (link[1] != 1 || link[2] != 0 || link[3] != 1 || link[4] != 0) return 0;
            continue;
        }
        for (i = 4; i <= 8; i += 4)
            if (!eqp_file_side(link, eqp_file_u32(b, below + i), eqp_file_u32(b, above + i)))
                return 0;
        file->rows[k] = eqp_file_u32(b, above);
        file->columns[k] = eqp_file_u32(b, below) * link[0] * link[0]; /* 16 bits * 8 * 8 */
    }
    return file->links + (uint64_t)EQP_FILE_LINK * file->layers;
}

/* Where everything lies, in 64 bits, so that no product overflows; 0 if that is not the size it
 * says. */
static int eqp_file_layout(const uint8_t *bytes, uint64_t size, eqp_file *file) {
    const uint32_t last = file->layers - 1;
    /* the sizes must be there before they are read */
    uint64_t at = file->chain ? eqp_file_maps(bytes, size, file) : eqp_file_flat(bytes, size, file);
    uint32_t i;
    if (at == 0) return 0;
    /* offsets have 32 bits: what lies beyond the file is refused before they are used */
    file->rates = (uint32_t)at;
    at += 4 * (uint64_t)file->layers;
    for (i = 0; i <= last; i++) {
        file->weights[i] = (uint32_t)at;
        at += 4 * (uint64_t)file->rows[i] * file->columns[i];
        file->biases[i] = (uint32_t)at;
        at += 4 * (uint64_t)file->n_biases[i];
        if (at > size) return 0; /* so that `at` cannot grow beyond 64 bits */
    }
    at = eqp_file_two(at, file->scaled ? file->sizes[0] : 0, &file->centers, &file->input_scales);
    at = eqp_file_two(at, file->kind == 2 ? file->sizes[last + 1] : 0, &file->mean, &file->scale);
    file->labels = (uint32_t)at;
    at += file->names != 0 ? (uint64_t)file->names : 8 * (uint64_t)file->classes;
    return at == size;
}

/* Checks the whole file and says where everything lies. */
eqp_file_status eqp_file_open(const uint8_t *bytes, size_t size, eqp_file *file) {
    if (bytes == NULL || file == NULL) return EQP_FILE_NULL;
    if (size < EQP_FILE_HEADER) return EQP_FILE_SHORT;
    if (bytes[0] != 'E' || bytes[1] != 'Q' || bytes[2] != 'P' || bytes[3] != 0x1A)
        return EQP_FILE_MAGIC;
    if (bytes[4] < 1 || bytes[4] > 3 || bytes[5] != 0) return EQP_FILE_VERSION;
    /* a file that was cut is told from one that was damaged before all of it is summed up */
    if (size < eqp_file_u32(bytes, 8)) return EQP_FILE_SHORT;
    if (size > eqp_file_u32(bytes, 8)) return EQP_FILE_SIZE;
    if (eqp_file_crc(bytes, size) != eqp_file_u32(bytes, 12)) return EQP_FILE_CRC;
    /* the bytes are those that were written: now whether they make sense */
    file->layers = (uint32_t)bytes[6] | (uint32_t)bytes[7] << 8;
    file->kind = bytes[21];
    file->classes = eqp_file_u32(bytes, 56);
    file->names = eqp_file_u32(bytes, 60);
    file->resistive = bytes[4] == 2;
    file->chain = bytes[4] == 3;
    file->scaled = 0;
    if (file->layers < 1 || file->layers > EQP_FILE_MAX_LAYERS) return EQP_FILE_SIZE;
    if (!eqp_file_layout(bytes, size, file)) return EQP_FILE_SIZE;
    return eqp_file_values(bytes, file) ? EQP_FILE_OK : EQP_FILE_VALUE;
}

/* Writes size and checksum of a file whose values have been changed, then checks it as a reader
 * would. */
eqp_file_status eqp_file_seal(uint8_t *bytes, size_t size) {
    eqp_file file;
    uint32_t crc;
    int i;
    if (bytes == NULL) return EQP_FILE_NULL;
    if (size < EQP_FILE_HEADER) return EQP_FILE_SHORT;
#if SIZE_MAX > UINT32_MAX
    if (size > UINT32_MAX) return EQP_FILE_SIZE; /* the header has 32 bits for it */
#endif
    /* the size first: the checksum is of it too */
    for (i = 0; i < 4; i++) bytes[8 + i] = (uint8_t)(size >> (8 * i));
    crc = eqp_file_crc(bytes, size);
    for (i = 0; i < 4; i++) bytes[12 + i] = (uint8_t)(crc >> (8 * i));
    return eqp_file_open(bytes, size, &file);
}
