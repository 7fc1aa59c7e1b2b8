/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Drives a backend without a server: for the tests of the plugin host.
 *
 * Plugins are named as on the command line, or @NAME for one of tests/plugins-src. All functions
 * abort the test program when something fails that the test did not ask to see.
 */
#ifndef TESTS_BACKEND_HARNESS_H
#define TESTS_BACKEND_HARNESS_H

#include "server/backend/plugin.h"

/* Take every step to a backend that is ready to be opened. Pairs of key and value, then NULL; a
 * NULL value makes the key a bare word. */
struct backend *harness_load(const char *plugin, ...) G_GNUC_NULL_TERMINATED;
/* The same, but NULL and *err when a step fails. */
struct backend *harness_try(GError **err, const char *plugin, ...) G_GNUC_NULL_TERMINATED;
void harness_free(struct backend *b);

struct backend_handle *harness_open(struct backend *b);
void harness_close(struct backend_handle *h);

/* Open, which must fail: the message. g_free() it. */
char *harness_open_error(struct backend *b, bool readonly);

/* A symbol of this backend's own copy of its plugin. */
void *harness_symbol(struct backend *b, const char *name);
/* What a test plugin recorded (probe.h) since the last time. g_free() it. */
char *harness_probe(struct backend *b);
void harness_hook(struct backend *b, void (*hook)(const char *callback));

/* What is written to stderr between the two. g_free() it. */
void harness_log_begin(void);
char *harness_log_end(void);

/* A new file of `size` bytes with `data` (may be NULL) at its start, in the test's folder, which
 * goes away at the end. g_free() the path. */
char *harness_file(const char *name, uint64_t size, const void *data, size_t length);
const char *harness_dir(void);

/* Are there test plugins, that is, was nbdkit's header found? If not, the test is skipped. */
bool harness_have_plugins(void);

int harness_main(int argc, char **argv, void (*add_tests)(void));

#define assert_contains(text, what)                                                                \
    G_STMT_START                                                                                   \
    {                                                                                              \
        const char *text_ = (text);                                                                \
        if (!strstr(text_, (what)))                                                                \
            g_error("\"%s\" is not in \"%s\"", (what), text_);                                     \
    }                                                                                              \
    G_STMT_END

#endif
