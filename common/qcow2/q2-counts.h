/* SPDX-License-Identifier: BSD-3-Clause */
/* A number for each cluster of a file: how often it is used, as a check finds it. One thread. */
#ifndef COMMON_QCOW2_Q2_COUNTS_H
#define COMMON_QCOW2_Q2_COUNTS_H

#include "common/qcow2/q2-error.h"

#include <stdbool.h>
#include <stdint.h>

/* Memory is taken for what is used only: a sparse file may be of any size. */
struct q2_counts {
    uint64_t clusters;
    uint32_t **chunks;
};

/* 0, or -1 and *err. */
int q2_counts_init(struct q2_counts *c, uint64_t clusters, struct q2_error *err);
void q2_counts_clear(struct q2_counts *c);

/* One more use of a cluster below `clusters`. 0, or -1 and *err: no memory. */
int q2_counts_add(struct q2_counts *c, uint64_t cluster, struct q2_error *err);
/* Give a cluster below `clusters` a number. 0, or -1 and *err: no memory. */
int q2_counts_set(struct q2_counts *c, uint64_t cluster, uint32_t number, struct q2_error *err);
uint32_t q2_counts_get(const struct q2_counts *c, uint64_t cluster); /* 0 behind the end, too */
/* Up to where, from `cluster` on, there is surely no use; `cluster` itself if there may be one. */
uint64_t q2_counts_skip(const struct q2_counts *c, uint64_t cluster);

#endif
