/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The list behind nbdkit_add_export(3). This server names its exports after its disks and never
 * calls a plugin's list_exports. The functions are here, and keep nbdkit's limits, since a plugin
 * that refers to them could not be loaded without.
 */
#include "common/base/nbdkit-abi.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define EXPORTS_MAX       10000
#define EXPORT_STRING_MAX 4096

struct nbdkit_exports {
    unsigned count;
    bool use_default;
};

struct nbdkit_exports *nbdkit_exports_new(void)
{
    return calloc(1, sizeof(struct nbdkit_exports));
}

void nbdkit_exports_free(struct nbdkit_exports *e)
{
    free(e);
}

int nbdkit_add_export(struct nbdkit_exports *e, const char *name, const char *description)
{
    if (e->count == EXPORTS_MAX) {
        nbdkit_error("nbdkit_add_export: more than %d exports", EXPORTS_MAX);
        errno = EINVAL;
        return -1;
    }
    if (strnlen(name, EXPORT_STRING_MAX + 1) > EXPORT_STRING_MAX ||
        (description && strnlen(description, EXPORT_STRING_MAX + 1) > EXPORT_STRING_MAX)) {
        nbdkit_error("nbdkit_add_export: string longer than %d bytes", EXPORT_STRING_MAX);
        errno = EINVAL;
        return -1;
    }
    e->count++;
    return 0;
}

int nbdkit_use_default_export(struct nbdkit_exports *e)
{
    e->use_default = true;
    return 0;
}
