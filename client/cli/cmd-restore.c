/* SPDX-License-Identifier: BSD-3-Clause */
/* fleecectl restore: disks out of a repository, or out of a qcow2 file. */
#include "client/base/error.h"
#include "client/cli/command.h"
#include "client/cli/option-values.h"
#include "client/cli/table.h"
#include "client/map/nbd-uri.h"
#include "client/repo/restore.h"
#include "common/base/size.h"
#include "common/json/value.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Most disks at once, lanes, connections. */
#define MOST 64
/* Disks at once where nothing is said. */
#define JOBS 2

#define STDIN_PATH "/proc/self/fd/0"

struct restore_command {
    char *until, *disk, *output, *format, *compress, *jobs, *connections;
    gboolean force, verify, detect_zeroes;
};

/* ---- what was restored ---- */

static void print_text(struct client *c, const struct repo_member *m, const GPtrArray *done)
{
    g_autofree char *time = m ? time_text(m->time) : NULL;

    for (guint i = 0; i < done->len; i++) {
        const struct restored *r = done->pdata[i];
        g_autofree char *disk = text_clean(r->disk, !c->terminal.utf8);
        g_autofree char *target = text_clean(r->target, !c->terminal.utf8);
        char size[16], data[16];

        g_string_append_printf(c->out, "%s: %s, of which %s are data, into %s", disk,
                               size_format(r->size, size), size_format(r->copied.written, data),
                               target);
        if (m)
            g_string_append_printf(c->out, ", as in backup %" PRId64 " of %s", m->id,
                                   time ? time : "-");
        g_string_append_c(c->out, '\n');
        client_append_image_size(c->out, r->size, destination_image_size(r->format, r->size));
    }
}

static void print_json(struct client *c, const struct repo_member *m, const GPtrArray *done)
{
    g_autoptr(JsonBuilder) b = json_builder_new();

    json_builder_begin_object(b);
    if (m)
        json_add_size(b, "id", (uint64_t)m->id);
    json_builder_set_member_name(b, "disks");
    json_builder_begin_array(b);
    for (guint i = 0; i < done->len; i++) {
        const struct restored *r = done->pdata[i];

        json_builder_begin_object(b);
        json_add_string(b, "disk", r->disk);
        json_add_string(b, "target", r->target);
        json_add_size(b, "size", r->size);
        json_add_size(b, "image-size", destination_image_size(r->format, r->size));
        json_add_size(b, "read", r->copied.read);
        json_add_size(b, "written", r->copied.written);
        json_add_size(b, "zero", r->copied.zero);
        json_builder_end_object(b);
    }
    json_builder_end_array(b);
    json_builder_end_object(b);
    client_print_builder(c, b);
}

/* ---- the command ---- */

static int read_options(const struct restore_command *rc, bool json, struct restore_options *o,
                        GError **err)
{
    if (!rc->output)
        return client_fail(err, CLIENT_ERROR_USAGE, "restore: where to? -o TARGET is needed");
    if (json && strcmp(rc->output, "-") == 0)
        return client_fail(
            err, CLIENT_ERROR_USAGE,
            "restore: -o - writes the disk to standard output, so that --json cannot "
            "be printed there");
    *o = (struct restore_options){
        .to = {.target = rc->output, .force = rc->force, .detect_zeroes = rc->detect_zeroes},
        .verify = rc->verify,
        .note = client_tell,
        .jobs = JOBS};
    if (option_format("format", rc->format, &o->to.format, err) < 0 ||
        option_compress(rc->compress, &o->to.compress, &o->to.compression, &o->to.level, err) < 0 ||
        option_number("jobs", rc->jobs, 1, MOST, &o->jobs, err) < 0 ||
        option_number("connections", rc->connections, 1, MOST, &o->to.connections, err) < 0)
        return -1;
    return 0;
}

/* Where TARGET is a folder, its name does not tell the format of the files in it. */
static int check_target(const struct restore_options *o, bool many, GError **err)
{
    struct destination_options to = o->to;

    if (many && to.format == DESTINATION_DEFAULT)
        to.format = DESTINATION_RAW;
    if (destination_is_uri(to.target) && nbd_uri_check(to.target, err) < 0)
        return -1;
    return option_check_target("restore", &to, err);
}

/* Standard input is a file, of which nothing has been read. It has been afterwards, as a pipe would have. */
static int restore_whole_input(const struct restore_options *o, struct progress *p, GPtrArray *done,
                               GError **err)
{
    if (restore_image(STDIN_PATH, o, p, done, err) < 0)
        return -1;
    lseek(STDIN_FILENO, 0, SEEK_END);
    return 0;
}

static int restore_file(const char *path, const struct restore_command *rc,
                        const struct restore_options *o, struct progress *p, GPtrArray *done,
                        GError **err)
{
    struct stat st;

    if (rc->until || rc->disk || rc->verify)
        return client_fail(err, CLIENT_ERROR_USAGE,
                           "restore: --until, --disk and --verify go with a repository, and %s is "
                           "none",
                           path);
    if (strcmp(path, "-") != 0)
        return restore_image(path, o, p, done, err);
    if (fstat(STDIN_FILENO, &st) == 0 && S_ISREG(st.st_mode) &&
        lseek(STDIN_FILENO, 0, SEEK_CUR) == 0)
        return restore_whole_input(o, p, done, err);
    return restore_stream(STDIN_FILENO, "standard input", o, p, done, err);
}

static int restore_backup(const struct repository *r, const struct restore_command *rc,
                          const struct restore_options *o, const struct repo_member **m,
                          struct progress *p, GPtrArray *done, GError **err)
{
    bool many = !rc->disk;

    if (many && (strcmp(rc->output, "-") == 0 || destination_is_uri(rc->output)))
        return client_fail(
            err, CLIENT_ERROR_USAGE,
            "restore: which disk? Without --disk, TARGET is a folder for all of them");
    *m = repository_until(r, rc->until, rc->disk, err);
    if (!*m)
        return -1;
    return many ? restore_member(r, *m, o, p, done, err)
                : restore_disk(r, *m, rc->disk, o, p, done, err);
}

static bool is_folder(const char *path)
{
    struct stat st;

    return stat(path, &st) < 0 || S_ISDIR(st.st_mode);
}

static int run_restore(struct client *c, const void *options, char **args, GError **err)
{
    g_autoptr(GPtrArray) done = g_ptr_array_new_with_free_func((GDestroyNotify)restored_free);
    const struct restore_command *rc = options;
    const struct repo_member *m = NULL;
    g_autoptr(repository) r = NULL;
    struct restore_options o;
    struct progress *p;
    bool is_repository;
    int result;

    if (read_options(rc, c->json, &o, err) < 0)
        return -1;
    is_repository = strcmp(args[0], "-") != 0 && is_folder(args[0]);
    if (check_target(&o, is_repository && !rc->disk, err) < 0)
        return -1;
    if (is_repository) {
        r = repository_open(args[0], REPO_READ, err);
        if (!r)
            return -1;
    }
    p = progress_new(c->json);
    result = r ? restore_backup(r, rc, &o, &m, p, done, err)
               : restore_file(args[0], rc, &o, p, done, err);
    progress_free(p);
    if (c->json)
        print_json(c, m, done);
    else if (strcmp(rc->output, "-") != 0)
        print_text(c, m, done);
    return result;
}

#define FIELD(name) offsetof(struct restore_command, name)
static const struct option restore_options[] = {
    {"output", 'o', OPTION_TEXT, "TARGET", FIELD(output),
     "a file, a block device, an NBD URI, - (standard output), or a folder"},
    {"until", 0, OPTION_TEXT, "ID|TIME", FIELD(until),
     "this backup, or the newest that is not after TIME"},
    {"disk", 0, OPTION_TEXT, "DISK", FIELD(disk), "this disk alone"},
    {"format", 0, OPTION_TEXT, "FORMAT", FIELD(format),
     "raw or qcow2 (default: by the name of TARGET)"},
    {"compress", 0, OPTION_OPTIONAL, "METHOD", FIELD(compress),
     "compress a qcow2 image: zstd, zlib, zstd:LEVEL..."},
    {"detect-zeroes", 0, OPTION_FLAG, NULL, FIELD(detect_zeroes),
     "make holes of data that are nothing but zeroes"},
    {"force", 0, OPTION_FLAG, NULL, FIELD(force),
     "overwrite data, replace a file, restore what is known to be damaged"},
    {"verify", 0, OPTION_FLAG, NULL, FIELD(verify), "compare the checksums first"},
    {"jobs", 'j', OPTION_TEXT, "N", FIELD(jobs), "disks at once (default: 2)"},
    {"connections", 0, OPTION_TEXT, "N", FIELD(connections), "most NBD connections (default: 4)"},
    {NULL},
};
#undef FIELD

const struct command cmd_restore = {
    .name = "restore",
    .synopsis = "REPO [--until ID|TIME] [--disk DISK] -o TARGET",
    .summary = "a backup back into a file, a device or an NBD export",
    .help =
        "With --disk, TARGET is a file, a block device, an NBD URI, or - for standard output.\n"
        "Without it, TARGET is a folder, which gets DISK.raw (or DISK.qcow2) for each disk.\n"
        "REPO may also be a qcow2 file, or - for one at standard input, as pull -o - sends it.\n",
    .min_args = 1,
    .max_args = 1,
    .acts = true,
    .options = restore_options,
    .options_size = sizeof(struct restore_command),
    .run = run_restore,
};
