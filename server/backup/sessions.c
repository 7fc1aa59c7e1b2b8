/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/backup/sessions.h"

#include "common/util/error.h"

struct sessions {
    struct server *server;
    struct checkpoints *checkpoints;
    struct session_options options;
};

struct sessions *sessions_new(struct server *s, struct checkpoints *c,
                              const struct session_options *o)
{
    struct sessions *all = g_new0(struct sessions, 1);

    all->server = s;
    all->checkpoints = c;
    all->options = *o;
    return all;
}

int sessions_restore(struct sessions *all, GError **err)
{
    return checkpoints_restore(all->checkpoints, NULL, NULL, err);
}

void sessions_stop(struct sessions *all)
{
}

void sessions_free(struct sessions *all)
{
    g_free(all);
}

int session_stage_begin(struct sessions *all, struct instant *i, const struct session_request *r,
                        struct session **session, GError **err)
{
    return fail(err, "sessions: not there yet");
}

struct session *session_find(struct sessions *all, const char *id, GError **err)
{
    fail(err, "Backup session '%s' not found", id);
    return NULL;
}

void session_renew(struct session *n, int64_t lease)
{
}

void session_end(struct session *n, bool commit, const char *reason,
                 void (*done)(void *opaque, const GError *error), void *opaque)
{
}

void session_info(struct session *n, struct session_info *info)
{
}

void session_info_clear(struct session_info *info)
{
}

GArray *sessions_list(struct sessions *all)
{
    return g_array_new(FALSE, TRUE, sizeof(struct session_info));
}
