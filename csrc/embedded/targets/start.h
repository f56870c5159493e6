/* start.h - the least that a bare Cortex-M or RV32 needs to run main() under QEMU: vectors, stack,
 * semihosting, a count of instructions (with -icount shift=0, where one takes 1 ns), and how deep
 * the stack went. */
#ifndef START_H
#define START_H

#include <stddef.h>
#include <stdint.h>

int main(void);
extern uint32_t stack_top, bss_start, bss_end;
void *memset(void *to, int byte, size_t n);
void *memcpy(void *to, const void *from, size_t n);

/* A freestanding compiler may call these two. */
void *memset(void *to, int byte, size_t n) {
    volatile unsigned char *p = to;
    for (; n > 0; n--) *p++ = (unsigned char)byte;
    return to;
}

void *memcpy(void *to, const void *from, size_t n) {
    volatile unsigned char *p = to;
    const unsigned char *q = from;
    for (; n > 0; n--) *p++ = *q++;
    return to;
}

#if defined(__riscv)
/* Asks QEMU for something: the three instructions that RISC-V has agreed on, uncompressed, within
 * one page. */
static void semihost(uintptr_t operation, uintptr_t argument) {
    register uintptr_t a0 __asm__("a0") = operation;
    register uintptr_t a1 __asm__("a1") = argument;
    __asm__ volatile(".option push\n.option norvc\n.balign 16\nslli x0, x0, 0x1f\nebreak\nsrai x0, "
                     "x0, 7\n.option pop"
                     : "+r"(a0)
                     : "r"(a1)
                     : "memory");
}
/* minstret counts by itself. */
static void begin_count(void) {}
/* Instructions so far. */
static uint32_t instructions(void) {
    uint32_t n;
    __asm__ volatile(".option push\n.option arch, +zicsr\ncsrr %0, minstret\n.option pop"
                     : "=r"(n));
    return n;
}
#else
/* Asks QEMU for something: Arm's breakpoint with the operation in r0, its argument in r1. */
static void semihost(uintptr_t operation, uintptr_t argument) {
    register uintptr_t r0 __asm__("r0") = operation;
    register uintptr_t r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
}
#define SYSTICK ((volatile uint32_t *)0xE000E010)
/* Starts SysTick from its largest value, on the processor's clock. */
static void begin_count(void) {
    SYSTICK[1] = 0xFFFFFF;
    SYSTICK[2] = 0; /* any value: the count begins at the largest again */
    SYSTICK[0] = 5;
    while (SYSTICK[2] == 0) {
    } /* it starts one tick later */
}
/* SysTick counts down with the processor's clock: so many ns, and so instructions, a tick */
static uint32_t instructions(void) {
    return (uint32_t)(((uint64_t)(0xFFFFFF - SYSTICK[2]) * NS_PER_1024_TICKS) >> 10);
}
#endif

/* Text to the console. */
static void print(const char *text) { semihost(4, (uintptr_t)text); }

/* "name value", a line. */
static void print_number(const char *name, uint32_t value) {
    char text[12];
    int at = 11;
    text[at] = 0;
    /* digits from the last to the first */
    do text[--at] = (char)('0' + value % 10);
    while ((value /= 10) != 0);
    print(name);
    print(" ");
    print(text + at);
    print("\n");
}

/* Fills the unused stack with a pattern. Not inlined: a caller's own frame must not be painted. */
__attribute__((noinline)) static void paint_stack(void) {
    volatile uint32_t *p = &bss_end, *end = (volatile uint32_t *)__builtin_frame_address(0) - 16;
    while (p < end) *p++ = 0xA5A5A5A5;
}

/* Bytes of stack used below the caller since paint_stack. */
__attribute__((noinline)) static uint32_t stack_used(void) {
    const volatile uint32_t *p = &bss_end;
    while (*p == 0xA5A5A5A5) p++;
    return (uint32_t)((uintptr_t)__builtin_frame_address(0) - (uintptr_t)p);
}

/* Where the processor begins: FPU on, zeroed memory, main, and its status to QEMU. */
void start(void);
void start(void) {
    volatile uint32_t *p;
#if defined(__ARM_FP)
    *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20; /* the FPU */
    __asm__ volatile("dsb\nisb");
#endif
    for (p = &bss_start; p < &bss_end; p++) *p = 0;
    /* SYS_EXIT: "application exit", or "run-time error" */
    semihost(0x18, main() == 0 ? 0x20026 : 0x20023);
    for (;;) {
    }
}

/* What reset finds: on Arm the stack and where to go, on RISC-V code. */
#if defined(__riscv)
__asm__(".section .vectors\n.globl reset\nreset:\nla sp, stack_top\nj start\n.text");
#else
__attribute__((section(".vectors"),
               used)) static const void *const vectors[] = {&stack_top, (const void *)start};
#endif
#endif
