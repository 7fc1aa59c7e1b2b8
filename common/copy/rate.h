/* SPDX-License-Identifier: BSD-3-Clause */
/* Waiting for one's share of a limited rate (copy_rate_new is in copy.h). Any thread. */
#ifndef COMMON_COPY_RATE_H
#define COMMON_COPY_RATE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct copy_rate;

/* Wait until `bytes` may be read. False: *stop was set, and what is waited for is of no use any
 * more. Who sets it calls copy_rate_wake after it. */
bool copy_rate_take(struct copy_rate *r, uint64_t bytes, const gint *stop);
void copy_rate_wake(struct copy_rate *r);
/* Bytes of a read that does not make the rate jerky: those of 1/16 s. */
uint64_t copy_rate_step(const struct copy_rate *r);

#endif
