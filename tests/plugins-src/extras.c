/* SPDX-License-Identifier: BSD-3-Clause */
/* A plugin that offers what nbdfleece-plugin.h has, sleeps, and asks about its client. */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "plugins/nbdfleece-plugin.h"

#include "probe.h"

#include <stdlib.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

static int model = THREAD_MODEL, fd = -1;
static int64_t size = 4096;

static char identity_text[600]; /* identity=IMAGE: more than fits is cut off; "bad": fails */
static int hour; /* hour=N: an hour of sleep has N nanoseconds; 0: it is a real hour */

static int extras_config(const char *key, const char *value)
{
    if (!strcmp(key, "model"))
        return nbdkit_parse_int(key, value, &model);
    if (!strcmp(key, "fd"))
        return nbdkit_parse_int(key, value, &fd);
    if (!strcmp(key, "hour"))
        return nbdkit_parse_int(key, value, &hour);
    if (!strcmp(key, "identity"))
        snprintf(identity_text, sizeof identity_text, "%s", value);
    if (!strcmp(key, "shutdown"))
        nbdkit_shutdown();
    return 0;
}

static int extras_thread_model(void)
{
    return model;
}

static void *extras_open(int readonly)
{
    return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t extras_get_size(void *handle)
{
    return size;
}

static int extras_can_write(void *handle)
{
    return 1;
}

/* Headers of older nbdkits do not have them. */
char *nbdkit_peer_tls_dn(void);
char *nbdkit_peer_tls_issuer_dn(void);

static int extras_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
    char *dn = nbdkit_peer_tls_dn(), *issuer = nbdkit_peer_tls_issuer_dn();

    probe("uid=%lld tls=%d dn=%s issuer=%s name=%s\n", (long long)nbdkit_peer_uid(),
          nbdkit_is_tls(), dn, issuer, nbdkit_export_name());
    free(dn);
    free(issuer);
    memset(buf, 0, count);
    return 0;
}

static int extras_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
                         uint32_t flags)
{
    probe_data("pwrite");
    return 0;
}

/* Sleeps an hour. */
static int extras_flush(void *handle, uint32_t flags)
{
    probe_data("flush");
    if (nbdkit_nanosleep(hour ? 0 : 3600, (unsigned)hour) < 0) {
        nbdkit_set_error(errno);
        return -1;
    }
    return 0;
}

int nbdfleece_plugin_fd(void *handle)
{
    return fd;
}

int nbdfleece_plugin_resize(void *handle, uint64_t new_size)
{
    if (new_size > 1 << 20) {
        nbdkit_error("too large");
        return -1;
    }
    size = (int64_t)new_size;
    return 0;
}

/* The content is "old" at first, and "new" from then on. */
int nbdfleece_plugin_identity(void *handle, struct nbdfleece_identity *identity, size_t length)
{
    static int times;

    if (!strcmp(identity_text, "bad")) {
        nbdkit_error("no identity");
        return -1;
    }
    memcpy(identity->image, identity_text, sizeof identity->image); /* the NUL is left out */
    strcpy(identity->content, times++ ? "new" : "old");
    identity->modified = 77;
    return length == sizeof *identity ? 0 : -1;
}

int nbdfleece_plugin_open_ahead(int readonly)
{
    if (readonly) {
        nbdkit_error("not ahead");
        return -1;
    }
    size = 12288;
    return 0;
}

static struct nbdkit_plugin plugin = {
    .name = "extras",
    .config = extras_config,
    .thread_model = extras_thread_model,
    .open = extras_open,
    .get_size = extras_get_size,
    .can_write = extras_can_write,
    .pread = extras_pread,
    .pwrite = extras_pwrite,
    .flush = extras_flush,
};

NBDKIT_REGISTER_PLUGIN(plugin)
