/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What BLOCK_STATUS is made of: lists of extents that are aligned, and filters of contexts.
 */
#include "server/nbd/negotiated.h"
#include "server/nbd/status.h"

#include <glib.h>

static void check_list(const struct extents *e, const struct extent *expected, size_t n)
{
    g_assert_cmpuint(e->count, ==, n);
    for (size_t i = 0; i < n; i++) {
        g_assert_cmpuint(e->list[i].length, ==, expected[i].length);
        g_assert_cmpuint(e->list[i].flags, ==, expected[i].flags);
    }
}

static void test_align(void)
{
    static const struct extent given[] = {{1000, 3}, {1000, 0}, {6192, 3}, {4096, 0}, {700, 3}};
    struct extents e = EXTENTS_INIT;

    for (unsigned i = 0; i < G_N_ELEMENTS(given); i++)
        extents_add(&e, given[i].length, given[i].flags);
    /* Allocation: a hole only where all of the unit is one. The list breaks off inside a unit. */
    g_assert_cmpint(status_align(&e, 4096, false, false), ==, 0);
    check_list(&e, (struct extent[]){{4096, 0}, {4096, 3}, {4096, 0}}, 3);
    extents_clear(&e);
    for (unsigned i = 0; i < G_N_ELEMENTS(given); i++)
        extents_add(&e, given[i].length, given[i].flags);
    /* Dirty: where any of it is; complete: the last bytes are known whole. */
    g_assert_cmpint(status_align(&e, 4096, true, true), ==, 0);
    check_list(&e, (struct extent[]){{8192, 3}, {4096, 0}, {700, 3}}, 3);
    extents_clear(&e);
    extents_add(&e, 8192, 1);
    extents_add(&e, 4096, 0);
    extents_add(&e, 100, 1);
    g_assert_cmpint(status_align(&e, 4096, true, true), ==, 0);
    check_list(&e, (struct extent[]){{8192, 1}, {4096, 0}, {100, 1}}, 3);
    extents_free(&e);
}

static const struct request_rules rules = {
    .size = 1 << 20,
    .min_block = 512,
    .structured = true,
    .status_contexts = 1,
};

/* The client has the contexts 0, 2 and 3. Filter with n of `ids`. */
static uint32_t filter(uint64_t length, const uint32_t *ids, unsigned n)
{
    struct meta_context list[] = {{.id = 0}, {.id = 2}, {.id = 3}};
    struct negotiated s = {.rules = rules, .contexts = {.list = list, .n = 3}};
    struct request r = {.type = NBD_CMD_BLOCK_STATUS,
                        .flags = NBD_CMD_FLAG_PAYLOAD_LEN,
                        .offset = 512,
                        .payload = STATUS_FILTER_HEAD + n * STATUS_FILTER_ID};
    g_autofree uint8_t *payload = g_malloc(r.payload);
    const char *why = NULL;

    store_be64(payload, length);
    for (unsigned i = 0; i < n; i++)
        store_be32(payload + STATUS_FILTER_HEAD + i * STATUS_FILTER_ID, ids[i]);
    uint32_t error = status_filter(&s, &r, payload, &why);
    g_assert_cmpint(error != 0, ==, why != NULL);
    if (error == 0)
        g_assert_cmpuint(r.length, ==, length);
    return error;
}

static void test_filter(void)
{
    g_assert_cmpuint(filter(512, (uint32_t[]){0, 2, 3}, 3), ==, 0);
    g_assert_cmpuint(filter(512, (uint32_t[]){3, 0}, 2), ==, 0);
    g_assert_cmpuint(filter(512, (uint32_t[]){2}, 1), ==, 0);
    g_assert_cmpuint(filter(512, (uint32_t[]){2, 2}, 2), ==, NBD_EINVAL);
    g_assert_cmpuint(filter(512, (uint32_t[]){0, 3, 0}, 3), ==, NBD_EINVAL);
    g_assert_cmpuint(filter(512, (uint32_t[]){1}, 1), ==, NBD_EINVAL);
    g_assert_cmpuint(filter(512, (uint32_t[]){0, UINT32_MAX}, 2), ==, NBD_EINVAL);
    g_assert_cmpuint(filter((1 << 20) - 512, (uint32_t[]){0}, 1), ==, 0);
    g_assert_cmpuint(filter(1 << 20, (uint32_t[]){0}, 1), ==, NBD_EINVAL);
    g_assert_cmpuint(filter(UINT64_MAX - 511, (uint32_t[]){0}, 1), ==, NBD_EINVAL);
    g_assert_cmpuint(filter(0, (uint32_t[]){0}, 1), ==, NBD_EINVAL);
    g_assert_cmpuint(filter(100, (uint32_t[]){0}, 1), ==, NBD_EINVAL);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nbd-status-list/align", test_align);
    g_test_add_func("/nbd-status-list/filter", test_filter);
    return g_test_run();
}
