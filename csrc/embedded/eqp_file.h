/* eqp_file.h - the model file .eqp, as eqprop_fast/export/eqpfile.py has it; both give the same
 * verdict on any bytes.
 *
 * Little-endian. Header of 64 bytes:
 *
 *      0  "EQP" 0x1A
 *      4  u16 version: 1 of layered networks, 2 of layered resistive ones, 3 of chains of maps
 *      6  u16 layers without the input (1 .. 16)
 *      8  u32 size of the file
 *     12  u32 CRC-32 of all bytes but these four
 *     16  u8 schedule
 *     17  u8 activation, u8 of the output, u8 of the input
 *     20  u8 flags: 1 nudge inside, 2 cross-entropy, 4 it may learn, 8 its rates are not known,
 *         16 classes are booleans, 32 classes are f64
 *     21  u8 kind, u8 probabilities, u8 nudging
 *     24  f32 cost factor
 *     28  f32 step of the free phase, f32 its tolerance (below 0: none)
 *     36  u32 free sweeps at most
 *     40  f32 beta
 *     44  f32 step of the nudged phase, f32 its tolerance
 *     52  u32 nudged sweeps
 *     56  u32 classes
 *     60  u32 bytes of the classes' names
 *
 * A resistive network has no activation, no cost factor and no step of the free phase but 1,
 * neither flag 1 nor 2, and 52 bytes more:
 *
 *     64  u8 diodes, u8 circuit: 1 output pairs, 2 inputs are scaled; u16 0
 *     68  f64 input gain, f64 gain of an amplifier
 *     84  f64 smallest conductance, f64 largest (may be infinite)
 *    100  f64 limit of scaled inputs (may be infinite)
 *    108  f64 what outputs are multiplied by before they are read as probabilities
 *
 * then u32 sizes[layers + 1]. A chain of maps has activations of its own (17 and 18 are 0), and
 *
 *     64  u8 chain: 1 the last layer is a read-out, 2 inputs are scaled; u8 0, u16 0
 *     68  u32 channels, rows, columns of each layer, the input first; n, 1, 1 of flat ones
 *         u8 kernel (0: all units to all units), stride, padding, window, pool (0, 1 largest, 2
 *         mean), activation; u16 0, of each layer but the input
 *
 * then
 *     f32 rates[layers]
 *     of each layer f32 weights[in][out], f32 biases[out]; a resistive network has conductances,
 * two rows an input and, with output pairs, two nodes an output; maps have weights[channels]
 *     [channels below][kernel][kernel] and biases[channels]
 *     of scaled inputs f64 centers[in], f64 scales[in]
 *     of a regressor f64 mean[out], f64 scale[out]
 *     i64 or f64 classes, or, if their names have bytes, names ended by 0 each
 *
 * What a network that does not learn has no use for is 0. */
#ifndef EQP_FILE_H
#define EQP_FILE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EQP_FILE_STATUS(X)                                     \
    X(OK, "ok")                                                \
    X(NULL, "an argument is NULL")                             \
    X(SHORT, "shorter than its header, or than it says")       \
    X(MAGIC, "not a model file")                               \
    X(VERSION, "a version that this program does not know")    \
    X(SIZE, "longer than it says, or its sizes do not add up") \
    X(CRC, "damaged: the checksum is wrong")                   \
    X(VALUE, "a number or name in it is out of range")

typedef enum {
#define EQP_FILE_ENUM(name, text) EQP_FILE_##name,
    EQP_FILE_STATUS(EQP_FILE_ENUM)
#undef EQP_FILE_ENUM
        EQP_FILE_N_STATUS
} eqp_file_status;

enum {
    EQP_FILE_HEADER = 64,
    EQP_FILE_CIRCUIT = 52, /* what a resistive network has behind it */
    EQP_FILE_CHAIN = 4,    /* and a chain of maps, before the layers' shapes and connections: */
    EQP_FILE_SHAPE = 12,
    EQP_FILE_LINK = 8,
    EQP_FILE_MAX_LAYERS = 16
};
#define EQP_FILE_MAX_UNITS UINT32_C(65535)

/* Offsets into the file; numbers are read with eqp_file_u32 and eqp_file_f32, for they may lie
 * anywhere. */
typedef struct {
    uint32_t layers, kind, classes, names; /* names: bytes; 0: classes are i64 */
    uint32_t resistive, chain, scaled;     /* 1: yes */
    uint32_t sizes[17];
    uint32_t rows[16], columns[16], n_biases[16]; /* of each layer's weights; of maps rows[o] and
                                                     columns[c][kernel][kernel] */
    uint32_t links;                               /* of a chain: where its connections stand */
    uint32_t rates, weights[16], biases[16], centers, input_scales, mean, scale, labels;
} eqp_file;

const char *eqp_file_text(eqp_file_status status);
eqp_file_status eqp_file_open(const uint8_t *bytes, size_t size, eqp_file *file);
/* Write the size and the checksum into a file whose other bytes are there; then what eqp_file_open
 * says. */
eqp_file_status eqp_file_seal(uint8_t *bytes, size_t size);
uint32_t eqp_file_u32(const uint8_t *bytes, uint32_t offset);
float eqp_file_f32(const uint8_t *bytes, uint32_t offset);

#ifdef __cplusplus
}
#endif
#endif
