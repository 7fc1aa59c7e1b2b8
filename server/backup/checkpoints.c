/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/backup/checkpoints.h"

#include "common/util/error.h"

struct checkpoints {
    struct server *server;
};

struct checkpoints *checkpoints_new(struct server *s)
{
    struct checkpoints *c = g_new0(struct checkpoints, 1);

    c->server = s;
    return c;
}

void checkpoints_free(struct checkpoints *c)
{
    g_free(c);
}

int checkpoints_restore(struct checkpoints *c, bool (*is_session)(void *opaque, const char *id),
                        void *opaque, GError **err)
{
    return 0;
}

int checkpoint_stage_create(struct checkpoints *c, struct instant *i,
                            const struct checkpoint_options *o, GError **err)
{
    return fail(err, "checkpoints: not there yet");
}

int checkpoint_stage_keep(struct checkpoints *c, struct instant *i, const char *name, GError **err)
{
    return fail(err, "checkpoints: not there yet");
}

int checkpoint_stage_delete(struct checkpoints *c, struct instant *i, const char *name,
                            const char *session, const char *reason, GError **err)
{
    return fail(err, "checkpoints: not there yet");
}

void checkpoint_disks(struct checkpoints *c, const char *name, GPtrArray *disks)
{
}

struct dirty_bitmap *checkpoint_base(struct checkpoints *c, const char *name, struct disk *d,
                                     char **why)
{
    *why = g_strdup_printf("there is no checkpoint '%s'", name);
    return NULL;
}

GArray *checkpoints_list(struct checkpoints *c)
{
    return g_array_new(FALSE, FALSE, sizeof(struct checkpoint_info));
}
