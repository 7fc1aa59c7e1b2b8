/* SPDX-License-Identifier: BSD-3-Clause */
/* Strings as NBD has them: UTF-8 with a length, and no NUL. Pure; any thread. */
#ifndef COMMON_UTIL_TEXT_H
#define COMMON_UTIL_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes that are UTF-8 without a NUL, not terminated by one. */
struct text {
    const char *at;
    size_t length;
};

/* Are these `length` bytes a string as NBD has it: UTF-8, no NUL? (Too long a string is another
 * error, which is not looked for here.) */
bool text_is_valid(const void *bytes, size_t length);
bool text_equal(struct text t, const char *s);
bool text_has_prefix(struct text t, const char *prefix);

/* The text for a message: at most `max` bytes of it, with "..." at the end where it was cut,
 * between two characters. Each byte of control and format characters and of backslashes becomes
 * \xNN. Free it with g_free(). */
char *text_for_display(struct text t, size_t max);

#endif
