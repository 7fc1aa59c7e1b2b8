/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/state/recovery-text.h"
#include "common/base/size.h"

char *recovery_text(const struct recovery *r)
{
    uint64_t most = 0;
    GHashTableIter iter;
    gpointer bytes;
    char text[16];

    if (r->kind == RECOVERY_NONE)
        return NULL;
    if (r->widened) {
        g_hash_table_iter_init(&iter, r->widened);
        while (g_hash_table_iter_next(&iter, NULL, &bytes))
            most = MAX(most, *(const uint64_t *)bytes);
    }
    if (r->lost)
        return g_strdup_printf("%s: bitmaps that recorded are inconsistent", r->lost);
    if (r->kind == RECOVERY_PROCESS)
        return g_strdup_printf("%s: the bits are exact", r->why ? r->why : "its server was killed");
    return g_strdup_printf("%s: up to %s more than what changed are dirty in a bitmap",
                           r->why ? r->why : "its machine went down", size_format(most, text));
}
