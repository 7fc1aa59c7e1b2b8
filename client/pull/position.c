/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/pull/position.h"
#include "client/base/error.h"
#include "client/base/partial.h"
#include "client/base/replace-file.h"
#include "common/json/read.h"
#include "common/json/value.h"
#include "common/json/write.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define POSITION_VERSION 1
/* A file of ours is far shorter. */
#define LONGEST 65536u
/* A copy starts at multiples of this. */
#define COPY_STEP (UINT64_C(2) << 20)
#define WINDOW    (UINT64_C(1) << 40)

/* ---- which map ---- */

struct dirty_range {
    GChecksum *sum;
    uint64_t offset, end; /* not yet added */
};

static void add_range(struct dirty_range *d)
{
    uint64_t range[2] = {GUINT64_TO_LE(d->offset), GUINT64_TO_LE(d->end)};

    if (d->end > d->offset)
        g_checksum_update(d->sum, (const guchar *)range, sizeof range);
}

/* How a server cuts what is dirty is no matter, nor what of it reads as zeroes. */
static int take_extent(void *opaque, const struct copy_extent *e, GError **err)
{
    struct dirty_range *d = opaque;

    if (e->offset != d->end) {
        add_range(d);
        d->offset = e->offset;
    }
    d->end = e->offset + e->length;
    return 0;
}

/* The checksum of what is dirty; NULL and *err. */
static char *sum_dirty(struct copy_source *s, GError **err)
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    struct dirty_range d = {.sum = sum};

    for (uint64_t at = 0, end; at < s->size; at = end) {
        if (s->ops->extents(s, 0, at, MIN(WINDOW, s->size - at), take_extent, &d, &end, err) < 0)
            return NULL;
    }
    add_range(&d);
    return g_strdup(g_checksum_get_string(sum));
}

/* ---- a position ---- */

static char *path_of(const char *target)
{
    return g_strconcat(target, ".pull", NULL);
}

struct position *position_new(const char *target, const char *uri, const char *context,
                              uint64_t size)
{
    struct position *p = g_new(struct position, 1);

    *p = (struct position){
        .path = path_of(target),
        .source = g_compute_checksum_for_string(G_CHECKSUM_SHA256, uri, -1),
        .context = g_strdup(context ? context : ""),
        .dirty = g_strdup(""),
        .size = size,
    };
    return p;
}

int position_see_map(struct position *p, struct copy_source *s, GError **err)
{
    char *dirty;

    if (*p->context == '\0')
        return 0;
    dirty = sum_dirty(s, err);
    if (!dirty)
        return -1;
    g_free(p->dirty);
    p->dirty = dirty;
    return 0;
}

void position_free(struct position *p)
{
    if (!p)
        return;
    g_free(p->path);
    g_free(p->source);
    g_free(p->context);
    g_free(p->dirty);
    g_free(p);
}

/* ---- which file ---- */

/* The file behind fd; with a path, the file of that name. 0, or an errno value. */
static int look_at(int fd, const char *path, struct position_file *file, uint64_t *size)
{
    struct statx st;

    if (statx(fd, path, AT_EMPTY_PATH, STATX_INO | STATX_BTIME | STATX_SIZE, &st) < 0)
        return errno;
    *file = (struct position_file){
        .device = (uint64_t)makedev(st.stx_dev_major, st.stx_dev_minor),
        .inode = st.stx_ino,
        .born = st.stx_mask & STATX_BTIME
                    ? (uint64_t)st.stx_btime.tv_sec * 1000000000u + st.stx_btime.tv_nsec
                    : 0,
    };
    *size = st.stx_size;
    return 0;
}

static bool is_same(const struct position_file *a, const struct position_file *b)
{
    return a->device == b->device && a->inode == b->inode && a->born == b->born;
}

int position_set_file(struct position *p, int fd, bool found, GError **err)
{
    struct position_file file;
    uint64_t size;
    int error = look_at(fd, "", &file, &size);

    if (error != 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: its file: %s", p->path,
                           g_strerror(error));
    if (found && !is_same(&file, &p->file))
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "%s: it is of a file that is not there any more; without --resume the "
                           "copy begins anew",
                           p->path);
    p->file = file;
    return 0;
}

/* Is the file `target` the whole copy that a position says is durable up to its end? A copy of what is
 * allocated is a file that gets its name last; changes are written into a file that has it. */
static bool is_named(const char *target, const char *context, const struct position_file *file,
                     uint64_t size, uint64_t offset)
{
    struct position_file there;
    uint64_t has;

    return offset == size && context && *context == '\0' &&
           look_at(AT_FDCWD, target, &there, &has) == 0 && has == size && there.born != 0 &&
           is_same(&there, file);
}

bool position_is_named(const struct position *p, uint64_t offset, const char *target)
{
    return is_named(target, p->context, &p->file, p->size, offset);
}

/* ---- reading ---- */

static int fail_other(const struct position *p, const char *what, GError **err)
{
    return client_fail(err, CLIENT_ERROR_FAILED,
                       "%s: it is of a copy of another %s; without --resume the copy begins anew, "
                       "where nothing was discarded",
                       p->path, what);
}

static int compare(const struct position *p, JsonObject *o, GError **err)
{
    if (json_member_size(o, "version") != POSITION_VERSION)
        return fail_other(p, "version", err);
    if (g_strcmp0(json_member_string(o, "source"), p->source) != 0)
        return fail_other(p, "source", err);
    if (g_strcmp0(json_member_string(o, "context"), p->context) != 0)
        return fail_other(p, "context", err);
    if (json_member_size(o, "size") != p->size)
        return fail_other(p, "size", err);
    if (g_strcmp0(json_member_string(o, "dirty"), p->dirty) != 0)
        return fail_other(p, "instant (other blocks are dirty)", err);
    return 0;
}

/* The object in the file; NULL without *err: there is no file. */
static JsonNode *load(const char *path, GError **err)
{
    static const struct json_limits limits = {
        .bytes = LONGEST, .tokens = 100, .depth = 2, .exact = true};
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    JsonNode *node;
    gsize length;

    if (!g_file_get_contents(path, &text, &length, &error)) {
        if (!g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_NOENT))
            client_fail(err, CLIENT_ERROR_FAILED, "%s", error->message);
        return NULL;
    }
    node = json_read(text, length, &limits, &error);
    if (node && JSON_NODE_HOLDS_OBJECT(node))
        return node;
    client_fail(err, CLIENT_ERROR_FAILED, "%s: it is damaged: %s", path,
                node ? "it is no object" : error->message);
    if (node)
        json_node_unref(node);
    return NULL;
}

/* Does it say how far the copy has come, and whether it discards? Without that nobody goes on, or begins
 * anew: what was discarded is read as zeroes. */
static bool has_place(JsonObject *o)
{
    JsonNode *position = json_object_get_member(o, "position");
    JsonNode *discards = json_object_get_member(o, "discards");

    return position && JSON_NODE_HOLDS_VALUE(position) &&
           json_node_get_value_type(position) == G_TYPE_INT64 && json_node_get_int(position) >= 0 &&
           discards && JSON_NODE_HOLDS_VALUE(discards) &&
           json_node_get_value_type(discards) == G_TYPE_BOOLEAN;
}

/* Where a copy may start; at its end, nothing is left but its name. */
static uint64_t round_down(const struct position *p, uint64_t offset)
{
    return offset == p->size ? offset : offset - offset % COPY_STEP;
}

static struct position_file read_file(JsonObject *o)
{
    return (struct position_file){
        .device = json_member_size(o, "device"),
        .inode = json_member_size(o, "inode"),
        .born = json_member_size(o, "born"),
    };
}

int position_read(struct position *p, bool *found, uint64_t *offset, GError **err)
{
    GError *error = NULL;
    g_autoptr(JsonNode) node = load(p->path, &error);
    JsonObject *o;

    *found = false;
    if (error) {
        g_propagate_error(err, error);
        return -1;
    }
    if (!node)
        return 0;
    o = json_node_get_object(node);
    if (compare(p, o, err) < 0)
        return -1;
    if (!has_place(o))
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "%s: it is damaged: it does not say how far the copy has come", p->path);
    *offset = json_member_size(o, "position");
    if (*offset > p->size)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "%s: it is damaged: its position is beyond the end", p->path);
    *offset = round_down(p, *offset);
    p->file = read_file(o);
    p->discards = p->discards || json_member_bool(o, "discards");
    *found = true;
    return 0;
}

/* Does the file say for sure that nothing was discarded? */
static bool kept_all(JsonObject *o)
{
    if (json_member_size(o, "version") != POSITION_VERSION || !has_place(o))
        return false;
    return !json_member_bool(o, "discards") || json_member_size(o, "position") == 0;
}

/* Is it left of a copy that is whole, and is the file `target`? */
static bool is_of_named(JsonObject *o, const char *target)
{
    struct position_file file = read_file(o);

    return has_place(o) && is_named(target, json_member_string(o, "context"), &file,
                                    json_member_size(o, "size"), json_member_size(o, "position"));
}

int position_check_anew(const char *target, GError **err)
{
    g_autofree char *path = path_of(target);
    GError *error = NULL;
    g_autoptr(JsonNode) node = load(path, &error);

    if (error) {
        client_fail(
            err, CLIENT_ERROR_FAILED,
            "%s; a run before this one may have discarded at the source what it had copied: "
            "if not, remove this file",
            error->message);
        g_error_free(error);
        return -1;
    }
    if (!node || kept_all(json_node_get_object(node)))
        return 0;
    if (is_of_named(json_node_get_object(node), target))
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "%s: it was left of the run that has made %s, which is whole, and has "
                           "discarded at the source what it had copied: --resume removes it",
                           path, target);
    return client_fail(err, CLIENT_ERROR_FAILED,
                       "%s: a run before this one has discarded at the source what it had copied: "
                       "go on by --resume, or remove this file, and lose that",
                       path);
}

/* ---- writing ---- */

int position_write(const struct position *p, uint64_t offset, GError **err)
{
    g_autoptr(JsonBuilder) b = json_builder_new();
    g_autoptr(JsonNode) node = NULL;
    g_autofree char *text = NULL;

    json_builder_begin_object(b);
    json_add_size(b, "version", POSITION_VERSION);
    json_add_string(b, "source", p->source);
    json_add_string(b, "context", p->context);
    json_add_string(b, "dirty", p->dirty);
    json_add_size(b, "size", p->size);
    json_add_size(b, "device", p->file.device);
    json_add_size(b, "inode", p->file.inode);
    json_add_size(b, "born", p->file.born);
    json_add_bool(b, "discards", p->discards);
    json_add_size(b, "position", round_down(p, offset));
    json_builder_end_object(b);
    node = json_builder_get_root(b);
    text = json_write(node, true);
    return replace_file(p->path, text, strlen(text), err);
}

int position_remove(const struct position *p, GError **err)
{
    if (unlink(p->path) < 0)
        return errno == ENOENT ? 0
                               : client_fail(err, CLIENT_ERROR_FAILED, "%s: remove: %s", p->path,
                                             g_strerror(errno));
    return partial_sync_folder(p->path, err);
}
