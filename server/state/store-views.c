/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/state/store-views.h"

#include "common/state/folder.h"
#include "common/state/storage-dir.h"
#include "common/util/log.h"

void views_begin(struct store *s)
{
    struct storage *memory = s->memory ? memory_storage(s->memory) : NULL;
    int error;

    if (!memory || !storage_is_dir(memory))
        return;
    error = memory->ops->make_folder(memory, STATE_VIEWS);
    if (error < 0) {
        log_error("state: %s/" STATE_VIEWS ": if the server dies, its backup sessions will end: %s",
                  memory->path, g_strerror(-error));
        return;
    }
    s->boot_id = state_boot_id();
    s->views = (struct state_lasting){.memory = memory,
                                      .folder = s->folder.uuid,
                                      .boot_id = s->boot_id,
                                      .run = s->run,
                                      .run_before = s->folder.run};
}

char *views_judge(const struct state_disk *d, const char *reason,
                  const struct image_identity *identity, uint64_t size)
{
    if (reason)
        return g_strdup(reason);
    if (d->is_new)
        return NULL;
    if (d->row.adopted)
        return g_strdup("the image was adopted: it may have been changed");
    return identity_judge(&d->row, identity, size);
}

const char *store_last_end(const struct store *s)
{
    return s->recovery->why;
}
