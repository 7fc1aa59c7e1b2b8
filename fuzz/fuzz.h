/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What all fuzz targets share. A target is a file with fuzz_name and LLVMFuzzerTestOneInput. It is
 * linked twice: with libFuzzer (`make fuzz`), and with replay.c for a test of the default run.
 *
 * A target checks more than that nothing crashes: CHECK states what must hold for every input.
 */
#ifndef FUZZ_FUZZ_H
#define FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The name of the target, and of the folder of its seeds. */
extern const char fuzz_name[];

/* libFuzzer calls the first one once, before the first input (fuzz.c has it), and the second one for
 * each input. */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* End the program with the place and the words of what did not hold. Not assert(): NDEBUG must not
 * switch it off. */
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            fuzz_fail(__FILE__, __LINE__, #condition);                                             \
    } while (0)
_Noreturn void fuzz_fail(const char *file, int line, const char *condition);

/* ---- an input as a supply of values ---- */

/* Values are taken from the front. When nothing is left, they are 0. */
struct supply {
    const uint8_t *at, *end;
};

static inline struct supply supply_on(const uint8_t *data, size_t size)
{
    return (struct supply){data, size > 0 ? data + size : data};
}

static inline size_t supply_left(const struct supply *s)
{
    return (size_t)(s->end - s->at);
}

uint8_t take_u8(struct supply *s);
uint16_t take_u16(struct supply *s);
uint32_t take_u32(struct supply *s);
uint64_t take_u64(struct supply *s);
/* Take `length` bytes, or as many as there are. Their number is in *got. */
const uint8_t *take_bytes(struct supply *s, size_t length, size_t *got);
/* Take all the rest as a string, which ends at its first NUL. The caller frees it with g_free. */
char *take_rest(struct supply *s);

#endif
