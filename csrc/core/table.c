/* table.c - compiled once per instruction set and precision, as every file of a family is: gathers
 * that pair's kernels in eqp_table_<precision>_<set>. */
#include "core/table.h"

#include "core/real.h"

#define DECLARE(name, job) int EQP_NAME(name)(job *, int, int);
EQP_KERNEL_TABLE(DECLARE)

#define ENTRY(name, job) .name = EQP_NAME(name),
const eqp_table EQP_NAME(table) = {EQP_KERNEL_TABLE(ENTRY)};
