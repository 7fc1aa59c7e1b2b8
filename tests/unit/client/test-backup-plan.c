/* SPDX-License-Identifier: BSD-3-Clause */
/* Which level each disk of a backup has, and which checkpoints the server need not keep. */
#include "client/base/error.h"
#include "client/qmp/backups.h"
#include "client/repo/backup-plan.h"

#include <string.h>

/* A repository and a server, made by words. */
struct world {
    struct repository repo;
    GArray *checkpoints; /* struct checkpoint_entry */
    const char *missing; /* a file that is not there */
};

static void clear_checkpoint(void *data)
{
    struct checkpoint_entry *c = data;

    g_array_unref(c->parts);
}

static void world_init(struct world *w)
{
    memset(w, 0, sizeof *w);
    w->repo.path = (char *)"repo";
    w->repo.members = g_ptr_array_new_with_free_func((GDestroyNotify)repo_member_free);
    w->checkpoints = g_array_new(FALSE, TRUE, sizeof(struct checkpoint_entry));
    g_array_set_clear_func(w->checkpoints, clear_checkpoint);
}

static void world_clear(struct world *w)
{
    g_ptr_array_unref(w->repo.members);
    g_array_unref(w->checkpoints);
}

/* The next member, with a checkpoint cN; `words`: "vda/full vdb/inc/3": disks, levels, parents (the
 * member before, where none is said). */
static void add_member(struct world *w, const char *words)
{
    g_auto(GStrv) disks = g_strsplit(words, " ", -1);
    struct repo_member *m = repo_member_new();

    m->id = w->repo.next_id++;
    m->checkpoint = g_strdup_printf("c%d", (int)m->id);
    for (char **word = disks; *word; word++) {
        g_auto(GStrv) parts = g_strsplit(*word, "/", -1);
        struct repo_disk *d = repo_disk_new();

        d->disk = g_strdup(parts[0]);
        g_assert_true(repo_level_parse(parts[1], &d->level));
        if (d->level != REPO_FULL)
            d->parent = parts[2] ? atoi(parts[2]) : (int)m->id - 1;
        d->file = repo_file_name(d->disk, m->id, d->level);
        g_ptr_array_add(m->disks, d);
    }
    g_ptr_array_add(w->repo.members, m);
}

/* A checkpoint of the server; `words`: "vda -vdb": disks; with a dash they are not valid. */
static void add_checkpoint(struct world *w, const char *name, const char *words)
{
    struct checkpoint_entry c = {.name = g_intern_string(name),
                                 .parts = g_array_new(FALSE, TRUE, sizeof(struct checkpoint_part))};
    g_auto(GStrv) disks = g_strsplit(words, " ", -1);

    for (char **word = disks; *word; word++) {
        bool valid = **word != '-';
        struct checkpoint_part p = {.disk = g_intern_string(*word + (valid ? 0 : 1)),
                                    .valid = valid,
                                    .reason = valid ? NULL : "its bitmap is gone"};

        g_array_append_val(c.parts, p);
    }
    g_array_append_val(w->checkpoints, c);
}

static char *fault(void *opaque, const struct repo_member *m, const struct repo_disk *file)
{
    const struct world *w = opaque;

    g_assert_true(repo_member_disk(m, file->disk) == file);
    return w->missing && strcmp(w->missing, file->file) == 0
               ? g_strdup_printf("%s is missing", file->file)
               : NULL;
}

static struct plan_input input(struct world *w)
{
    return (struct plan_input){
        .repo = &w->repo, .checkpoints = w->checkpoints, .fault = fault, .opaque = w};
}

/* "inc on 1 since c1 (reason)" of vda; "error: ..." */
static char *choice(struct world *w, enum backup_level level, int64_t since)
{
    static const char *const disks[] = {"vda", NULL};
    struct plan_input in = input(w);
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) choices = backup_plan(&in, level, since, disks, &error);
    const struct backup_choice *c;
    GString *text;

    if (!choices)
        return g_strdup_printf("error: %s", error->message);
    g_assert_cmpuint(choices->len, ==, 1);
    c = g_ptr_array_index(choices, 0);
    g_assert_cmpstr(c->disk, ==, "vda");
    text = g_string_new(repo_level_name(c->level));
    if (c->level != REPO_FULL)
        g_string_append_printf(text, " on %d since %s", (int)c->parent, c->since);
    else
        g_assert_true(c->parent == -1 && !c->since);
    if (c->reason)
        g_string_append_printf(text, " (%s)", c->reason);
    return g_string_free(text, FALSE);
}

#define ASSERT_CHOICE(w, level, since, expected)                                                   \
    do {                                                                                           \
        g_autofree char *text_ = choice(w, level, since);                                          \
        g_assert_cmpstr(text_, ==, expected);                                                      \
    } while (0)

/* ---- levels ---- */

static void test_first(void)
{
    struct world w;

    world_init(&w);
    ASSERT_CHOICE(&w, BACKUP_AUTO, -1, "full (there is no backup of it yet)");
    ASSERT_CHOICE(&w, BACKUP_DIFF, -1, "full (there is no full backup of it yet)");
    ASSERT_CHOICE(&w, BACKUP_FULL, -1, "full");
    ASSERT_CHOICE(&w, BACKUP_INC, -1,
                  "error: disk vda: no incremental backup is possible: there is no backup of it "
                  "yet");
    ASSERT_CHOICE(&w, BACKUP_AUTO, 0, "error: repo: there is no backup 0");
    world_clear(&w);
}

static void test_newest(void)
{
    struct world w;

    world_init(&w);
    add_member(&w, "vda/full");
    add_member(&w, "vda/inc");
    add_member(&w, "vda/inc");
    add_member(&w, "vdb/full"); /* does not have the disk */
    for (int i = 0; i < 4; i++)
        add_checkpoint(&w, (const char *[]){"c0", "c1", "c2", "c3"}[i], i < 3 ? "vda" : "vdb");
    ASSERT_CHOICE(&w, BACKUP_AUTO, -1, "inc on 2 since c2");
    ASSERT_CHOICE(&w, BACKUP_INC, -1, "inc on 2 since c2");
    ASSERT_CHOICE(&w, BACKUP_DIFF, -1, "diff on 0 since c0");
    ASSERT_CHOICE(&w, BACKUP_FULL, -1, "full");
    ASSERT_CHOICE(&w, BACKUP_AUTO, 1, "inc on 1 since c1");
    ASSERT_CHOICE(&w, BACKUP_DIFF, 0, "diff on 0 since c0");
    ASSERT_CHOICE(&w, BACKUP_DIFF, 1, "full (backup 1 is no full backup of it)");
    ASSERT_CHOICE(&w, BACKUP_AUTO, 3, "full (backup 3 is no backup of it)");
    ASSERT_CHOICE(
        &w, BACKUP_INC, 3,
        "error: disk vda: no incremental backup is possible: backup 3 is no backup of it");
    world_clear(&w);
}

/* Whatever is wrong with the newest, an older one takes its place, and the reason is told. */
static void test_older(void)
{
    struct world w;
    struct repo_member *newest;

    world_init(&w);
    add_member(&w, "vda/full");
    add_member(&w, "vda/inc");
    add_checkpoint(&w, "c0", "vda");
    ASSERT_CHOICE(&w, BACKUP_AUTO, -1,
                  "inc on 0 since c0 (backup 1: the server has no checkpoint c1)");
    add_checkpoint(&w, "c1", "vdb");
    ASSERT_CHOICE(&w, BACKUP_AUTO, -1,
                  "inc on 0 since c0 (backup 1: checkpoint c1 has no part of the disk)");
    g_array_set_size(w.checkpoints, 1);
    add_checkpoint(&w, "c1", "-vda");
    ASSERT_CHOICE(&w, BACKUP_AUTO, -1,
                  "inc on 0 since c0 (backup 1: checkpoint c1 is not valid: its bitmap is gone)");
    g_array_set_size(w.checkpoints, 1);
    add_checkpoint(&w, "c1", "vda");
    w.missing = "vda/00001-inc.qcow2";
    ASSERT_CHOICE(&w, BACKUP_AUTO, -1,
                  "inc on 0 since c0 (backup 1: vda/00001-inc.qcow2 is missing)");
    w.missing = NULL;
    newest = g_ptr_array_index(w.repo.members, 1);
    g_clear_pointer(&newest->checkpoint, g_free);
    ASSERT_CHOICE(&w, BACKUP_AUTO, -1,
                  "inc on 0 since c0 (backup 1: its checkpoint has been deleted)");
    world_clear(&w);
}

/* A file is of no use without all that are below it. */
static void test_chain(void)
{
    struct world w;

    world_init(&w);
    add_member(&w, "vda/full");
    add_member(&w, "vda/inc");
    add_member(&w, "vda/inc");
    for (int i = 0; i < 3; i++)
        add_checkpoint(&w, (const char *[]){"c0", "c1", "c2"}[i], "vda");
    w.missing = "vda/00000-full.qcow2";
    ASSERT_CHOICE(&w, BACKUP_AUTO, -1, "full (backup 2: vda/00000-full.qcow2 is missing)");
    ASSERT_CHOICE(&w, BACKUP_DIFF, -1, "full (backup 0: vda/00000-full.qcow2 is missing)");
    w.missing = "vda/00001-inc.qcow2";
    ASSERT_CHOICE(&w, BACKUP_AUTO, -1,
                  "inc on 0 since c0 (backup 2: vda/00001-inc.qcow2 is missing)");
    w.missing = NULL;
    g_ptr_array_remove_index(w.repo.members, 0);
    ASSERT_CHOICE(&w, BACKUP_AUTO, -1, "full (backup 2: backup 0, below it, is gone)");
    world_clear(&w);
}

/* A chain that is too long is left, for an older backup whose chain is short. */
static void test_long_chain(void)
{
    struct world w;

    world_init(&w);
    add_member(&w, "vda/full");
    add_checkpoint(&w, "c0", "vda");
    for (int i = 1; i < BACKUP_CHAIN_MAX - 1; i++)
        add_member(&w, "vda/inc");
    add_checkpoint(&w, "c254", "vda");
    ASSERT_CHOICE(&w, BACKUP_AUTO, -1, "inc on 254 since c254");
    add_member(&w, "vda/inc");
    add_checkpoint(&w, "c255", "vda");
    g_array_remove_index(w.checkpoints, 1);
    ASSERT_CHOICE(&w, BACKUP_AUTO, -1,
                  "inc on 0 since c0 (backup 255: its chain has 256 files already)");
    world_clear(&w);
}

/* A diff is put on a full one alone. */
static void test_diff(void)
{
    struct world w;

    world_init(&w);
    add_member(&w, "vda/full");
    add_member(&w, "vda/diff/0");
    add_member(&w, "vda/full");
    add_member(&w, "vda/diff/2");
    add_member(&w, "vda/inc");
    for (int i = 0; i < 5; i++)
        add_checkpoint(&w, (const char *[]){"c0", "c1", "c2", "c3", "c4"}[i], "vda");
    ASSERT_CHOICE(&w, BACKUP_DIFF, -1, "diff on 2 since c2");
    ASSERT_CHOICE(&w, BACKUP_AUTO, -1, "inc on 4 since c4");
    g_array_remove_index(w.checkpoints, 2);
    ASSERT_CHOICE(&w, BACKUP_DIFF, -1,
                  "diff on 0 since c0 (backup 2: the server has no checkpoint c2)");
    world_clear(&w);
}

/* Each disk has its own base. */
static void test_disks(void)
{
    static const char *const disks[] = {"vdc", "vda", "vdb", NULL};
    struct world w;
    struct plan_input in;
    GPtrArray *choices;

    world_init(&w);
    add_member(&w, "vda/full vdb/full");
    add_member(&w, "vda/inc");
    add_checkpoint(&w, "c0", "vda vdb");
    add_checkpoint(&w, "c1", "vda vdb");
    in = input(&w);
    choices = backup_plan(&in, BACKUP_AUTO, -1, disks, NULL);
    g_assert_cmpuint(choices->len, ==, 3);
    for (guint i = 0; i < 3; i++) {
        const struct backup_choice *c = g_ptr_array_index(choices, i);

        g_assert_cmpstr(c->disk, ==, disks[i]);
        g_assert_cmpint(c->parent, ==, ((const int[]){-1, 1, 0})[i]);
    }
    g_ptr_array_unref(choices);
    world_clear(&w);
}

/* ---- checkpoints ---- */

static char *spare(struct world *w, unsigned keep)
{
    struct plan_input in = input(w);
    g_autoptr(GPtrArray) names = backup_spare_checkpoints(&in, "c", keep);

    g_ptr_array_add(names, NULL);
    return g_strjoinv(" ", (char **)names->pdata);
}

#define ASSERT_SPARE(w, keep, expected)                                                            \
    do {                                                                                           \
        g_autofree char *text_ = spare(w, keep);                                                   \
        g_assert_cmpstr(text_, ==, expected);                                                      \
    } while (0)

static void test_spare(void)
{
    struct world w;

    world_init(&w);
    add_member(&w, "vda/full vdb/full");
    add_member(&w, "vda/inc vdb/inc");
    add_member(&w, "vda/inc vdb/inc");
    add_member(&w, "vda/inc vdb/inc");
    add_checkpoint(&w, "other", "vda vdb");  /* somebody else's */
    add_checkpoint(&w, "c-gone", "vda vdb"); /* of no member */
    for (int i = 0; i < 4; i++)
        add_checkpoint(&w, (const char *[]){"c0", "c1", "c2", "c3"}[i], "vda vdb");
    ASSERT_SPARE(&w, 1, "c-gone c1 c2");
    ASSERT_SPARE(&w, 2, "c-gone c1");
    ASSERT_SPARE(&w, 3, "c-gone");
    w.missing = "vda/00003-inc.qcow2"; /* the newest that can be a base of vda is member 2 */
    ASSERT_SPARE(&w, 1, "c-gone c1");
    world_clear(&w);
}

/* A disk that was not in the newest backups still has its base. */
static void test_spare_disks(void)
{
    struct world w;

    world_init(&w);
    add_member(&w, "vda/full vdb/full");
    add_member(&w, "vda/full vdb/inc");
    add_member(&w, "vda/inc");
    add_member(&w, "vda/inc");
    for (int i = 0; i < 4; i++)
        add_checkpoint(&w, (const char *[]){"c0", "c1", "c2", "c3"}[i], i < 2 ? "vda vdb" : "vda");
    /* c0: the newest full one of vdb; c1: vdb's newest, and vda's newest full one. */
    ASSERT_SPARE(&w, 1, "c2");
    world_clear(&w);
}

/* Members of another server's disks do not count among the newest. */
static void test_spare_servers(void)
{
    struct world w;

    world_init(&w);
    add_member(&w, "vda/full");
    add_member(&w, "vda/inc");
    add_member(&w, "vda/inc");
    add_member(&w, "web/full");
    for (int i = 0; i < 3; i++)
        add_checkpoint(&w, (const char *[]){"c0", "c1", "c2"}[i], "vda");
    ASSERT_SPARE(&w, 2, "");
    ASSERT_SPARE(&w, 1, "c1");
    world_clear(&w);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/backup-plan/first", test_first);
    g_test_add_func("/backup-plan/newest", test_newest);
    g_test_add_func("/backup-plan/older", test_older);
    g_test_add_func("/backup-plan/chain", test_chain);
    g_test_add_func("/backup-plan/long-chain", test_long_chain);
    g_test_add_func("/backup-plan/diff", test_diff);
    g_test_add_func("/backup-plan/disks", test_disks);
    g_test_add_func("/backup-plan/spare", test_spare);
    g_test_add_func("/backup-plan/spare-disks", test_spare_disks);
    g_test_add_func("/backup-plan/spare-servers", test_spare_servers);
    return g_test_run();
}
