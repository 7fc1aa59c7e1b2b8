/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/state/storage.h"

#include "common/util/error.h"

#include <errno.h>
#include <stdlib.h>

int storage_fail(struct storage *s, const char *name, const char *doing, int error, GError **err)
{
    const char *slash = name[0] ? "/" : "";

    if (abs(error) == ENODATA)
        return fail(err, "state: %s%s%s: %s: it ends too early", s->path, slash, name, doing);
    return fail_errno(err, error, "state: %s%s%s: %s", s->path, slash, name, doing);
}
