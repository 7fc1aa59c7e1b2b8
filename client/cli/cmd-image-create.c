/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fleecectl image create: a new, empty qcow2 image. It is made as FILE.partial, whose header is
 * written last, and gets its name when it is whole and durable.
 */
#include "client/base/error.h"
#include "client/base/partial.h"
#include "client/cli/command.h"
#include "client/cli/image-print.h"
#include "common/base/size.h"
#include "common/qcow2/q2-create.h"
#include "common/qcow2/q2-file.h"
#include "common/qcow2/q2-image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct create_options {
    gboolean force, data_file_raw;
    char *cluster_size, *extended, *backing, *backing_format, *preallocation, *refcount_bits,
        *data_file;
};

/* An image that is being made. */
typedef struct making {
    const char *path;
    struct q2_create_options o;
    bool has_size;
    struct q2_file self; /* as names in it are relative to; not open */
    struct q2_file data; /* not open: there is none */
    struct q2_file old;  /* what is replaced; not open: nothing */
    bool data_made;
    struct partial *file;
} making;

static void making_clear(struct making *m)
{
    g_free(m->self.path);
    if (m->data_made && !(m->file && partial_named(m->file)))
        unlink(m->data.path);
    q2_file_close(&m->data);
    q2_file_close(&m->old);
    partial_free(m->file);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(making, making_clear)

static int fail_q2(GError **err, const struct q2_error *why)
{
    return client_fail(err, CLIENT_ERROR_FAILED, "%s", why->text);
}

/* ---- the command line ---- */

/* The power of two that `text` is, from 2^least to 2^most. */
static int option_power(const char *name, const char *text, unsigned least, unsigned most,
                        unsigned *bits, GError **err)
{
    char low[16], high[16];
    int64_t value;

    if (!text)
        return 0;
    for (unsigned i = least; i <= most && size_parse(text, &value) == 0; i++)
        if (value == INT64_C(1) << i) {
            *bits = i;
            return 0;
        }
    return client_fail(err, CLIENT_ERROR_USAGE, "--%s %s: not a power of two from %s to %s", name,
                       text, size_format(UINT64_C(1) << least, low),
                       size_format(UINT64_C(1) << most, high));
}

static int option_preallocation(const char *text, enum q2_preallocation *how, GError **err)
{
    static const char *const names[] = {"off", "metadata", "falloc", NULL};

    for (unsigned i = 0; text && names[i]; i++)
        if (strcmp(text, names[i]) == 0) {
            *how = (enum q2_preallocation)i;
            return 0;
        }
    return text ? client_fail(err, CLIENT_ERROR_USAGE,
                              "--preallocation %s: there is off, metadata and falloc", text)
                : 0;
}

static int option_extended(const char *text, bool *extended, GError **err)
{
    if (!text)
        return 0;
    *extended = strcmp(text, "off") != 0;
    if (*extended && *text && strcmp(text, "on") != 0)
        return client_fail(err, CLIENT_ERROR_USAGE, "--extended-l2=%s: there is on and off", text);
    return 0;
}

static int take_size(struct making *m, const char *text, GError **err)
{
    int64_t size;

    if (!text)
        return 0;
    if (size_parse(text, &size) < 0)
        return client_fail(err, CLIENT_ERROR_USAGE, "%s: not a size", text);
    if (size % 512 != 0)
        return client_fail(err, CLIENT_ERROR_USAGE,
                           "%s: the size of a qcow2 disk is a multiple of 512 bytes", text);
    m->o.size = (uint64_t)size;
    m->has_size = true;
    return 0;
}

static int take_options(struct making *m, const struct create_options *co, GError **err)
{
    struct q2_error why;

    m->o.backing = co->backing;
    m->o.backing_format = co->backing_format;
    m->o.data_file = co->data_file;
    m->o.data_file_raw = co->data_file_raw;
    /* Over a backing file: a first write of 4 KiB copies nothing. */
    m->o.extended = co->backing;
    if (option_extended(co->extended, &m->o.extended, err) < 0)
        return -1;
    m->o.cluster_bits = m->o.extended ? 17 : 16;
    m->o.refcount_order = 4;
    if (option_power("cluster-size", co->cluster_size, 9, 21, &m->o.cluster_bits, err) < 0 ||
        option_power("refcount-bits", co->refcount_bits, 0, 6, &m->o.refcount_order, err) < 0 ||
        option_preallocation(co->preallocation, &m->o.preallocation, err) < 0)
        return -1;
    if (co->backing_format && !co->backing)
        return client_fail(err, CLIENT_ERROR_USAGE, "--backing-format goes with --backing");
    if (!co->extended && m->o.cluster_bits < 14)
        m->o.extended = false;
    if (q2_create_check(&m->o, &why) < 0)
        return client_fail(err, CLIENT_ERROR_USAGE, "%s", why.text);
    return 0;
}

/* ---- the files that it names ---- */

/* What a name leads to, without opening it; false: nothing is there. */
static bool look(struct q2_file *f, const char *path)
{
    struct stat st;

    *f = (struct q2_file){.fd = -1};
    if (stat(path, &st) < 0)
        return false;
    f->device = S_ISBLK(st.st_mode);
    f->dev = f->device ? st.st_rdev : st.st_dev;
    f->ino = f->device ? 0 : st.st_ino;
    return true;
}

/* The name in its folder, whatever links lead to that. The caller frees it; NULL: there is no such folder. */
static char *real_name(const char *path)
{
    g_autofree char *folder = g_path_get_dirname(path);
    g_autofree char *base = g_path_get_basename(path);
    char *real = realpath(folder, NULL), *name = real ? g_build_filename(real, base, NULL) : NULL;

    free(real);
    return name;
}

/* Names are relative to the folder that the image lies in, whatever links lead there. */
static int find_folder(struct making *m, GError **err)
{
    g_autofree char *folder = g_path_get_dirname(m->path);

    m->self.path = real_name(m->path);
    return m->self.path
               ? 0
               : client_fail(err, CLIENT_ERROR_FAILED, "%s: %s", folder, g_strerror(errno));
}

/* Names that this run replaces or removes: that of the image, and the one that it has until it is whole. */
static void own_names(const struct making *m, char *names[2])
{
    names[0] = g_strdup(m->self.path);
    names[1] = g_strconcat(m->self.path, ".partial", NULL);
}

/* Whether a path leads to one of them, be it there or not. */
static bool leads_to_itself(const struct making *m, const char *path)
{
    g_autofree char *real = real_name(path);
    struct q2_file there, own;
    bool exists = look(&there, path), same = false;
    char *names[2];

    own_names(m, names);
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        same = same || g_strcmp0(real, names[i]) == 0 ||
               (exists && look(&own, names[i]) && q2_file_same(&there, &own));
        g_free(names[i]);
    }
    return same;
}

/* Whether the chain has one of them. */
static bool chain_has_itself(const struct making *m, const struct q2_image *chain)
{
    struct q2_file own;
    bool has = false;
    char *names[2];

    own_names(m, names);
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        has = has || (look(&own, names[i]) && q2_image_has_file(chain, &own));
        g_free(names[i]);
    }
    return has;
}

/* What the image is to name. The caller frees it; NULL and *err. */
static char *find_named(const struct making *m, const char *name, const char *what, GError **err)
{
    struct q2_error why;
    char *path = q2_file_named(&m->self, name, &why);

    if (!path) {
        fail_q2(err, &why);
    } else if (leads_to_itself(m, path)) {
        client_fail(err, CLIENT_ERROR_FAILED, "%s cannot be its own %s file", m->path, what);
        g_clear_pointer(&path, free);
    }
    return path;
}

/* Bytes of the disk in the backing file. */
static int backing_size(const struct making *m, const char *path, uint64_t *size, GError **err)
{
    struct q2_error why;
    struct q2_file raw;
    struct q2_image *image;
    bool loop;

    if (strcmp(m->o.backing_format, "raw") == 0) {
        if (q2_file_open(&raw, path, &(struct q2_file_how){0}, &why) < 0)
            return fail_q2(err, &why);
        *size = raw.size;
        q2_file_close(&raw);
        return 0;
    }
    image = q2_image_open(path, Q2_REFERENCES_ANY, &why);
    if (!image)
        return fail_q2(err, &why);
    *size = q2_image_size(image);
    loop = chain_has_itself(m, image);
    q2_image_close(image);
    return loop ? client_fail(err, CLIENT_ERROR_FAILED,
                              "%s is in the chain of its backing file '%s', which would be lost",
                              m->path, path)
                : 0;
}

static int check_backing(struct making *m, GError **err)
{
    uint64_t size = 0;
    char *path;
    int result;

    if (!m->o.backing)
        return 0;
    path = find_named(m, m->o.backing, "backing", err);
    if (!path)
        return -1;
    result = backing_size(m, path, &size, err);
    free(path);
    if (result == 0 && !m->has_size)
        m->o.size = (size + 511) / 512 * 512;
    m->has_size = true;
    return result;
}

/* Before anything is made: what is left of an earlier run is removed then. */
static int check_data_file(struct making *m, GError **err)
{
    char *path = m->o.data_file ? find_named(m, m->o.data_file, "data", err) : NULL;
    int result = m->o.data_file && !path ? -1 : 0;

    free(path);
    return result;
}

/* What is there is the disk, if all of it is. */
static int take_data_file(struct making *m, const char *path, GError **err)
{
    struct q2_file_how how = {.writable = true, .locks = QEMU_LOCKS_WRITE};
    struct q2_error why;

    if (!m->o.data_file_raw)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "%s: it exists. Only with --data-file-raw it would be used as it is",
                           path);
    if (q2_file_open(&m->data, path, &how, &why) < 0)
        return fail_q2(err, &why);
    if (m->data.device)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: it is no regular file", path);
    if (!m->has_size)
        m->o.size = m->data.size;
    m->has_size = true;
    if (m->data.size != m->o.size || m->o.size % 512 != 0)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "%s: it has %" G_GUINT64_FORMAT " bytes, and not %" G_GUINT64_FORMAT
                           ", in sectors of 512 bytes",
                           path, m->data.size, m->o.size);
    return 0;
}

static int make_data_file(struct making *m, const char *path, GError **err)
{
    m->data.fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (m->data.fd < 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: %s", path, g_strerror(errno));
    m->data_made = true;
    m->data.path = strdup(path);
    return m->data.path ? 0 : client_fail(err, CLIENT_ERROR_FAILED, "%s: no memory", path);
}

static int open_data_file(struct making *m, GError **err)
{
    struct q2_error why;
    char *path;
    int result = 0;

    if (!m->o.data_file)
        return 0;
    path = q2_file_named(&m->self, m->o.data_file, &why);
    if (!path)
        return fail_q2(err, &why);
    if (access(path, F_OK) == 0)
        result = take_data_file(m, path, err);
    else if (m->has_size) /* else it is told of below */
        result = make_data_file(m, path, err);
    free(path);
    return result;
}

/* Nobody may be using what is replaced: he would go on with a file that has no name. */
static int lock_old(struct making *m, bool force, GError **err)
{
    struct q2_file_how how = {.locks = QEMU_LOCKS_WRITE};
    struct q2_error why;

    if (!force || access(m->path, F_OK) < 0)
        return 0;
    if (q2_file_open(&m->old, m->path, &how, &why) < 0)
        return fail_q2(err, &why);
    return m->old.device
               ? client_fail(err, CLIENT_ERROR_FAILED, "%s: it is no regular file", m->path)
               : 0;
}

/* ---- the command ---- */

static int make(struct making *m, GError **err)
{
    struct q2_error why;

    if (q2_create(partial_fd(m->file), m->data.fd, &m->o, &why) < 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: %s", m->path, why.text);
    if (m->data_made && partial_sync_folder(m->data.path, err) < 0)
        return -1;
    return partial_commit(m->file, err);
}

static void tell(struct client *c, const struct making *m)
{
    g_autofree char *clean = text_clean(m->path, !c->terminal.utf8);
    char size[16], cluster[16];

    g_string_append_printf(c->out, "%s: a disk of %s, in clusters of %s%s\n", clean,
                           size_format(m->o.size, size),
                           size_format(UINT64_C(1) << m->o.cluster_bits, cluster),
                           m->o.extended ? " with subclusters" : "");
}

static int run_image_create(struct client *c, const void *options, char **args, GError **err)
{
    const struct create_options *co = options;
    g_auto(making) m = {.path = args[0], .self.fd = -1, .data.fd = -1, .old.fd = -1};

    if (take_size(&m, args[1], err) < 0 || take_options(&m, co, err) < 0 ||
        find_folder(&m, err) < 0 || lock_old(&m, co->force, err) < 0 ||
        check_backing(&m, err) < 0 || check_data_file(&m, err) < 0)
        return -1;
    /* It owns the name FILE.partial before anything is made. */
    m.file = partial_new(m.path, co->force, err);
    if (!m.file || open_data_file(&m, err) < 0)
        return -1;
    if (!m.has_size)
        return client_fail(err, CLIENT_ERROR_USAGE, "how large is the disk to be? give SIZE");
    if (make(&m, err) < 0)
        return -1;
    if (c->json)
        return image_print_json(c, m.path, false, err);
    tell(c, &m);
    return 0;
}

static const struct option create_options[] = {
    {"force", 0, OPTION_FLAG, NULL, offsetof(struct create_options, force),
     "replace FILE if it exists"},
    {"cluster-size", 0, OPTION_TEXT, "SIZE", offsetof(struct create_options, cluster_size),
     "512 to 2M (default: 64K; 128K with subclusters)"},
    {"extended-l2", 0, OPTION_OPTIONAL, "on|off", offsetof(struct create_options, extended),
     "subclusters: 32 a cluster (default: with --backing)"},
    {"backing", 0, OPTION_TEXT, "FILE", offsetof(struct create_options, backing),
     "what the disk has where it was not written; SIZE is its size"},
    {"backing-format", 0, OPTION_TEXT, "raw|qcow2", offsetof(struct create_options, backing_format),
     "its format, which has to be stated"},
    {"preallocation", 0, OPTION_TEXT, "off|metadata|falloc",
     offsetof(struct create_options, preallocation), "give each cluster its place, and room"},
    {"refcount-bits", 0, OPTION_TEXT, "N", offsetof(struct create_options, refcount_bits),
     "1 to 64: width of reference counts (default: 16)"},
    {"data-file", 0, OPTION_TEXT, "FILE", offsetof(struct create_options, data_file),
     "the file that data goes to, which is made"},
    {"data-file-raw", 0, OPTION_FLAG, NULL, offsetof(struct create_options, data_file_raw),
     "the data file alone is the disk; one that exists is used"},
    {NULL},
};

const struct command cmd_image_create = {
    .name = "image create",
    .synopsis = "FILE [SIZE] [OPTION]...",
    .summary = "make an empty qcow2 image",
    .help = "Names in the image are written as they are given, and are relative to the folder\n"
            "of FILE. No control socket is needed.\n",
    .min_args = 1,
    .max_args = 2,
    .acts = true,
    .options = create_options,
    .options_size = sizeof(struct create_options),
    .run = run_image_create,
};
