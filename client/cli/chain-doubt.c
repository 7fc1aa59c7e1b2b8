/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/cli/chain-doubt.h"
#include "client/cli/client.h"
#include "client/repo/chain.h"

void tell_chain_doubt(const struct repository *r, const struct repo_member *m, const char *disk)
{
    g_autofree char *doubt = repo_chain_doubt(r, m, disk), *text = NULL;

    if (!doubt)
        return;
    text = g_strdup_printf("warning: disk %s: %s/: %s: what is read may be wrong", disk, r->path,
                           doubt);
    client_tell(text);
}
