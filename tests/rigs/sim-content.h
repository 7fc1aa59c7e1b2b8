/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The content of a file of the simulated storage: sparse, in pages that copies share. Each page is
 * changed only by those who have it alone.
 */
#ifndef TESTS_RIGS_SIM_CONTENT_H
#define TESTS_RIGS_SIM_CONTENT_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define SIM_PAGE   4096u
#define SIM_SECTOR 512u

struct sim_content {
    uint64_t size;
    GPtrArray *pages; /* of struct sim_page; NULL: zeroes */
};

void sim_content_init(struct sim_content *c);
void sim_content_clear(struct sim_content *c);
/* *to becomes a copy; it was cleared or never used. */
void sim_content_copy(struct sim_content *to, const struct sim_content *from);
/* Page numbers that may be anything but zeroes are below this. */
uint64_t sim_content_pages(const struct sim_content *c);
/* SIM_PAGE bytes; zeroes where there are none. */
const uint8_t *sim_content_page(const struct sim_content *c, uint64_t page);
/* Both have the very same page. Different pages may have the same bytes. */
bool sim_content_shares(const struct sim_content *a, const struct sim_content *b, uint64_t page);
/* b's page becomes a's, too. */
void sim_content_share(struct sim_content *a, const struct sim_content *b, uint64_t page);
/* All pages are shared, and the sizes are the same. */
bool sim_content_same(const struct sim_content *a, const struct sim_content *b);
/* Bytes within one page, or any; the size is not looked at. */
void sim_content_put(struct sim_content *c, const void *bytes, uint64_t length, uint64_t offset);
void sim_content_get(const struct sim_content *c, void *bytes, uint64_t length, uint64_t offset);
/* Cut to `size`, zeroes behind it; or only set a larger size. */
void sim_content_resize(struct sim_content *c, uint64_t size);

#endif
