/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A plugin that registers itself in an odd way, which $TEST_REGISTRATION names: as an old one, as a
 * newer one, or wrongly.
 */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static void *odd_open(int readonly)
{
    return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t odd_get_size(void *handle)
{
    return 4096;
}

static int odd_pread_v1(void *handle, void *buf, uint32_t count, uint64_t offset)
{
    memset(buf, 1, count);
    return 0;
}

static int odd_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
    memset(buf, 2, count);
    return 0;
}

static int odd_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
                      uint32_t flags)
{
    return 0;
}

/* The structure as in a header that is newer than the server. */
static struct {
    struct nbdkit_plugin known;
    void (*later[8])(void);
} plugin = {
    .known =
        {
            ._struct_size = sizeof plugin,
            ._api_version = 2,
            ._thread_model = NBDKIT_THREAD_MODEL_PARALLEL,
            .name = "odd",
            .open = odd_open,
            .get_size = odd_get_size,
            ._pread_v1 = odd_pread_v1,
            .pread = odd_pread,
            .pwrite = odd_pwrite,
        },
};

struct nbdkit_plugin *plugin_init(void)
{
    const char *way = getenv("TEST_REGISTRATION");
    struct nbdkit_plugin *p = &plugin.known;

    memset(plugin.later, 0xff, sizeof plugin.later); /* a call of these crashes */
    if (!strcmp(way, "nothing"))
        return NULL;
    if (!strcmp(way, "version-3"))
        p->_api_version = 3;
    if (!strcmp(way, "version-minus-1"))
        p->_api_version = -1;
    if (!strcmp(way, "model-4"))
        p->_thread_model = 4;
    if (!strcmp(way, "no-name"))
        p->name = NULL;
    if (!strcmp(way, "bad-name"))
        p->name = "od/d";
    if (!strcmp(way, "no-open"))
        p->open = NULL;
    if (!strcmp(way, "no-get_size"))
        p->get_size = NULL;
    if (!strcmp(way, "no-pread"))
        p->pread = NULL;
    if (!strcmp(way, "tiny"))
        p->_struct_size = 16;
    /* The structure of the first plugins ended with `zero`: what follows is not theirs. */
    if (!strcmp(way, "version-0")) {
        p->_api_version = 0;
        p->_struct_size = offsetof(struct nbdkit_plugin, errno_is_preserved);
        p->errno_is_preserved = 1;
        p->can_fua = (int (*)(void *))(uintptr_t)-1;
    }
    if (!strcmp(way, "version-1"))
        p->_api_version = 1;
    return p;
}
