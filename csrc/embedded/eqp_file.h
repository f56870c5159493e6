/* eqp_file.h - the model file .eqp, as eqprop_fast/export/eqpfile.py has it; both give the same
 * verdict on any bytes.
 *
 * Little-endian. Header of 64 bytes:
 *      0    "EQP" 0x1A
 *      4    u16 version (1)
 *      6    u16 layers without the input (1 .. 16)
 *      8    u32 size of the file
 *     12    u32 CRC-32 of all bytes but these four
 *     16    u8 schedule
 *     17    u8 activation, u8 of the output, u8 of the input
 *     20    u8 flags: 1 nudge inside, 2 cross-entropy, 4 it may learn, 8 its rates are not known
 *     21    u8 kind, u8 probabilities, u8 nudging
 *     24    f32 cost factor
 *     28    f32 step of the free phase, f32 its tolerance (below 0: none)
 *     36    u32 free sweeps at most
 *     40    f32 beta
 *     44    f32 step of the nudged phase, f32 its tolerance
 *     52    u32 nudged sweeps
 *     56    u32 classes
 *     60    u32 bytes of the classes' names
 * then
 *     u32 sizes[layers + 1]
 *     f32 rates[layers]
 *     of each layer f32 weights[in][out], f32 biases[out]
 *     of a regressor f64 mean[out], f64 scale[out]
 *     i64 classes, or, if their names have bytes, names ended by 0 each
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

enum { EQP_FILE_HEADER = 64, EQP_FILE_MAX_LAYERS = 16, EQP_FILE_MAX_UNITS = 65535 };

/* Offsets into the file; numbers are read with eqp_file_u32 and eqp_file_f32, for they may lie
 * anywhere. */
typedef struct {
    uint32_t layers, kind, classes, names; /* names: bytes; 0: classes are i64 */
    uint32_t sizes[17];
    uint32_t rates, weights[16], biases[16], mean, scale, labels;
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
