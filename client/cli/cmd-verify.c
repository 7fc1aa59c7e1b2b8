/* SPDX-License-Identifier: BSD-3-Clause */
/* fleecectl verify: is a backup repository as its manifest says? */
#include "client/base/error.h"
#include "client/base/interrupt.h"
#include "client/base/progress.h"
#include "client/cli/command.h"
#include "client/cli/option-values.h"
#include "client/cli/table.h"
#include "client/repo/verify-record.h"
#include "client/repo/verify.h"
#include "common/json/value.h"

#include <inttypes.h>
#include <string.h>

#define THREADS_MAX 64
/* Threads where the user does not say. */
#define THREADS 4

struct cmd_options {
    gboolean deep;
    char *jobs;
};

/* A run of the command. */
struct run {
    struct client *c;
    const struct verify_options *options;
    verify_record *record;
    struct progress *progress; /* NULL: nothing is read that takes long */
    unsigned row;
    uint64_t total;
    int64_t shown; /* ID of the member whose line is printed; -1: none */
    guint n, n_wrong;
};

/* ---- results ---- */

/* All that is wrong with a disk. */
static GPtrArray *all_wrong(const struct verify_result *result)
{
    GPtrArray *wrong = g_ptr_array_new_with_free_func(g_free);

    for (guint i = 0; i < result->wrong->len; i++)
        g_ptr_array_add(wrong, g_strdup(result->wrong->pdata[i]));
    if (result->broken)
        g_ptr_array_add(
            wrong, g_strdup_printf("it stands on %s, which is not good", result->broken->file));
    return wrong;
}

static void print_result(struct run *v, const struct verify_result *result, const GPtrArray *wrong)
{
    GString *out = v->c->out;
    g_autofree char *disk = text_clean(result->disk->disk, !v->c->terminal.utf8);

    if (v->shown != result->member->id) {
        g_autofree char *time = time_text(result->member->time);

        g_string_append_printf(out, "member %" PRId64 ", %s\n", result->member->id,
                               time ? time : "-");
    }
    v->shown = result->member->id;
    if (wrong->len == 0)
        g_string_append_printf(out, "  %s: ok\n", disk);
    for (guint i = 0; i < wrong->len; i++) {
        g_autofree char *what = text_clean(wrong->pdata[i], !v->c->terminal.utf8);

        g_string_append_printf(out, "  %s: wrong: %s\n", disk, what);
    }
}

static void print_result_json(struct run *v, const struct verify_result *result,
                              const GPtrArray *wrong)
{
    g_autoptr(JsonBuilder) b = json_builder_new();

    json_builder_begin_object(b);
    json_add_size(b, "id", (uint64_t)result->member->id);
    json_add_string(b, "disk", result->disk->disk);
    json_add_string(b, "file", result->disk->file);
    json_add_bool(b, "ok", wrong->len == 0);
    json_builder_set_member_name(b, "wrong");
    json_builder_begin_array(b);
    for (guint i = 0; i < wrong->len; i++)
        json_builder_add_string_value(b, wrong->pdata[i]);
    json_builder_end_array(b);
    json_builder_end_object(b);
    client_print_builder(v->c, b);
}

/* What a disk stands on is not noted: that follows from the notes on it. */
static int take_result(void *opaque, const struct verify_result *result, GError **err)
{
    g_autoptr(GPtrArray) wrong = all_wrong(result);
    struct run *v = opaque;

    v->n++;
    v->n_wrong += wrong->len > 0;
    verify_record_set(v->record, result->member, result->disk, v->options->deep, result->wrong);
    if (!v->c->json) {
        print_result(v, result, wrong);
        return 0;
    }
    print_result_json(v, result, wrong);
    return client_flush(v->c, err);
}

/* ---- progress ---- */

static void take_total(void *opaque, uint64_t bytes)
{
    struct run *v = opaque;

    v->total = bytes;
    v->progress = progress_new(v->c->json);
    v->row = progress_add(v->progress, "verify", bytes);
}

static int take_progress(void *opaque, uint64_t done, GError **err)
{
    struct run *v = opaque;

    if (interrupt_take() != 0)
        return client_fail(err, CLIENT_ERROR_INTERRUPTED, "interrupted");
    progress_update(v->progress, v->row, done, v->total, done);
    progress_draw(v->progress);
    return 0;
}

static void end_progress(struct run *v, bool done)
{
    if (!v->progress)
        return;
    progress_close(v->progress, v->row, done ? "done" : "stopped");
    progress_draw(v->progress);
    progress_free(v->progress);
}

/* ---- the command ---- */

static const struct repo_member *find_member(const struct repository *r, const char *text,
                                             GError **err)
{
    guint64 id;

    if (!g_ascii_string_to_unsigned(text, 10, 0, G_MAXINT64, &id, NULL)) {
        client_fail(err, CLIENT_ERROR_USAGE, "verify: \"%s\" is no ID of a member: it is a number",
                    text);
        return NULL;
    }
    return repository_until(r, text, NULL, err);
}

static int verdict(const struct run *v, const char *path, GError **err)
{
    if (v->n_wrong > 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "verify %s: wrong: %u of %u files", path,
                           v->n_wrong, v->n);
    if (!v->c->json)
        g_string_append_printf(v->c->out, "%u %s: nothing is wrong\n", v->n,
                               v->n == 1 ? "file" : "files");
    return 0;
}

static int verify(struct run *v, const struct repository *r, const struct repo_member *only,
                  GError **err)
{
    static const struct verify_ops ops = {
        .total = take_total, .progress = take_progress, .disk = take_result};
    int result = verify_run(r, only, v->options, &ops, v, err);

    end_progress(v, result == 0);
    if (result < 0) {
        g_prefix_error(err, "verify %s: ", r->path);
        return -1;
    }
    /* A repository on a medium that cannot be written to can be verified, too. */
    verify_record_write(v->record, r, NULL);
    return verdict(v, r->path, err);
}

static int run_verify(struct client *c, const void *options, char **args, GError **err)
{
    const struct cmd_options *o = options;
    struct verify_options vo = {.deep = o->deep, .threads = THREADS};
    g_autoptr(repository) r = NULL;
    g_autoptr(verify_record) record = NULL;
    const struct repo_member *only = NULL;
    struct run v = {.c = c, .options = &vo, .shown = -1};

    if (option_number("jobs", o->jobs, 1, THREADS_MAX, &vo.threads, err) < 0 ||
        (o->deep && interrupt_fd(err) < 0))
        return -1;
    r = repository_open(args[0], REPO_READ, err);
    if (r && args[1])
        only = find_member(r, args[1], err);
    if (!r || (args[1] && !only))
        return -1;
    v.record = record = verify_record_read(r);
    return verify(&v, r, only, err);
}

static const struct option verify_options[] = {
    {"deep", 0, OPTION_FLAG, NULL, offsetof(struct cmd_options, deep),
     "read all: every piece of each file has its checksum, every table is sound"},
    {"jobs", 'j', OPTION_TEXT, "N", offsetof(struct cmd_options, jobs),
     "threads that read a file at once (default: 4)"},
    {NULL},
};

const struct command cmd_verify = {
    .name = "verify",
    .synopsis = "REPO [ID] [--deep] [--jobs N]",
    .summary = "is a backup repository as its manifest says?",
    .help =
        "Without --deep it looks at the manifest, whether each file is there and has its size,\n"
        "at the headers, which chain the files, and at the files of checksums. With an ID it\n"
        "looks at that member and what it stands on. Exit codes: 0 nothing is wrong; 1\n"
        "something is.\n",
    .min_args = 1,
    .max_args = 2,
    .options = verify_options,
    .options_size = sizeof(struct cmd_options),
    .run = run_verify,
};
