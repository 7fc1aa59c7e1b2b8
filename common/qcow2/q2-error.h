/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Errors of common/qcow2, which plugins link, too, so that GLib is not there. Any thread.
 */
#ifndef COMMON_QCOW2_Q2_ERROR_H
#define COMMON_QCOW2_Q2_ERROR_H

/* What went wrong, as one sentence that names the object; an errno value, or 0 where the cause is
 * not a system call. */
struct q2_error {
    int number;
    char text[1024];
};

/* Set *err (if err is not NULL) to a printf message. Returns -1, so that `return q2_fail(...)`
 * works. */
int q2_fail(struct q2_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same, with ": " and the text of the errno value `number` at the end. */
int q2_fail_errno(struct q2_error *err, int number, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
