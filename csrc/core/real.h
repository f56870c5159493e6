/* real.h - the precision a source file is being compiled for (EQP_REAL_F64, or float), the
 * instruction set (EQP_ISA), and the names that keep the variants of one function apart. */
#ifndef EQP_REAL_H
#define EQP_REAL_H

#if defined(EQP_REAL_F64)
typedef double real;
#define EQP_SUFFIX f64
#else
typedef float real;
#define EQP_SUFFIX f32
#endif

#ifndef EQP_ISA
#define EQP_ISA scalar
#endif

#define EQP_PASTE3_(a, b, c) eqp_##a##_##b##_##c
#define EQP_PASTE3(a, b, c)  EQP_PASTE3_(a, b, c)
/* EQP_NAME(layered_relax) is eqp_layered_relax_f32_avx2 and so on. */
#define EQP_NAME(name) EQP_PASTE3(name, EQP_SUFFIX, EQP_ISA)

#endif
