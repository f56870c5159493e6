/* table.h - the function table that each (instruction set, precision) pair fills (table.c) and
 * dispatch.c chooses from: one member for each kernel of EQP_KERNEL_TABLE. */
#ifndef EQP_TABLE_H
#define EQP_TABLE_H
#include "core/eqprop.h"

typedef struct {
#define EQP_TABLE_ENTRY(name, job) int (*name)(job *, int, int);
    EQP_KERNEL_TABLE(EQP_TABLE_ENTRY)
#undef EQP_TABLE_ENTRY
} eqp_table;
#endif
