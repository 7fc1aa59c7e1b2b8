/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/qcow2/q2-error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int q2_fail(struct q2_error *err, const char *format, ...)
{
    va_list args;

    if (!err)
        return -1;
    va_start(args, format);
    vsnprintf(err->text, sizeof(err->text), format, args);
    va_end(args);
    err->number = 0;
    return -1;
}

int q2_fail_errno(struct q2_error *err, int number, const char *format, ...)
{
    va_list args;
    size_t used;

    if (!err)
        return -1;
    va_start(args, format);
    vsnprintf(err->text, sizeof(err->text), format, args);
    va_end(args);
    used = strlen(err->text);
    snprintf(err->text + used, sizeof(err->text) - used, ": %s", strerrordesc_np(number));
    err->number = number;
    return -1;
}
