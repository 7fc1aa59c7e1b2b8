/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/start/folders.h"

#include "common/util/error.h"
#include "common/util/log.h"

/* $TMPDIR, or NULL. */
static const char *temporary_dir(void)
{
    const char *dir = g_getenv("TMPDIR");

    return dir && *dir ? dir : NULL;
}

static const char *chosen_scratch(const struct options *o)
{
    if (o->scratch_dir)
        return o->scratch_dir;
    return o->state_dir ? o->state_dir : temporary_dir();
}

static char *absolute(const char *path)
{
    return path ? g_canonicalize_filename(path, NULL) : NULL;
}

void folders_init(struct folders *f, const struct options *o)
{
    f->o = o;
    f->state = absolute(o->state_dir);
    f->scratch = absolute(chosen_scratch(o));
}

void folders_clear(struct folders *f)
{
    g_free(f->state);
    g_free(f->scratch);
}

int folders_open_store(const struct folders *f, struct store **store, GError **err)
{
    const struct store_options options = {
        .path = f->state,
        .power = f->o->durability == DURABILITY_POWER,
        .break_guest_write = f->o->on_state_error == STATE_BREAK_GUEST_WRITE,
    };

    *store = f->state ? store_open(&options, err) : NULL;
    return f->state && !*store ? -1 : 0;
}

/* The state folder and $TMPDIR are a choice only if views can be made at all. Nobody has chosen the
 * default. */
int folders_check_scratch(const struct folders *f, struct scratch_pool *pool, GError **err)
{
    g_autoptr(GError) why = NULL;

    if (!f->o->scratch_dir && !f->o->control)
        return 0;
    if (scratch_pool_check(pool, &why) == 0)
        return 0;
    if (!f->scratch) {
        log_info("warning: no view can be made: %s (use --scratch)", why->message);
        return 0;
    }
    return fail(err, "%s: %s",
                f->o->scratch_dir ? "option '--scratch'"
                : f->state        ? "option '--state'"
                                  : "TMPDIR",
                why->message);
}
