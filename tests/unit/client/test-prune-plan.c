/* SPDX-License-Identifier: BSD-3-Clause */
/* What a prune writes anew: by examples, and for random repositories, whose files are carried along as
 * arrays of blocks: each point that stays reads the same before and after. */
#include "client/repo/prune-plan.h"

#include <inttypes.h>
#include <string.h>

/* ---- repositories ---- */

struct file {
    const char *disk;
    int64_t id;
    enum repo_level level;
    int64_t parent;
    uint64_t size;
    bool stays;
};

static void repository_clear(struct repository *r)
{
    g_ptr_array_unref(r->members);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(repository, repository_clear)

static struct repo_member *member_of(struct repository *r, const struct file *f)
{
    struct repo_member *m = r->members->len > 0 ? r->members->pdata[r->members->len - 1] : NULL;

    if (m && m->id == f->id)
        return m;
    m = repo_member_new();
    m->id = f->id;
    m->checkpoint = g_strdup_printf("c%" PRId64, f->id);
    g_ptr_array_add(r->members, m);
    return m;
}

/* The repository of these files, which are in order of their IDs; stays[i] for each member. */
static void make(struct repository *r, const struct file *files, size_t n, unsigned *stays)
{
    r->members = g_ptr_array_new_with_free_func((GDestroyNotify)repo_member_free);
    for (size_t i = 0; i < n; i++) {
        struct repo_member *m = member_of(r, &files[i]);
        struct repo_disk *d = repo_disk_new();

        d->disk = g_strdup(files[i].disk);
        d->file = repo_file_name(files[i].disk, files[i].id, files[i].level);
        d->level = files[i].level;
        d->parent = files[i].parent;
        d->size = files[i].size;
        d->bytes = 1000;
        g_ptr_array_add(m->disks, d);
        stays[r->members->len - 1] = files[i].stays;
    }
}

/* A line for each file that is written anew. */
static char *text_of(const struct prune_plan *p)
{
    GString *out = g_string_new(NULL);

    for (guint i = 0; i < p->rewrites->len; i++) {
        const struct prune_rewrite *w = p->rewrites->pdata[i];

        g_string_append_printf(out, "%s: %s %" PRId64 " %s +%u", w->file, repo_level_name(w->level),
                               w->parent, w->base ? w->base : "-", w->depth);
        g_string_append_c(out, '\n');
    }
    return g_string_free(out, FALSE);
}

#define F(id, stays)                                                                               \
    {                                                                                              \
        "vda", id, REPO_FULL, -1, 100, stays                                                       \
    }
#define I(id, parent, stays)                                                                       \
    {                                                                                              \
        "vda", id, REPO_INC, parent, 100, stays                                                    \
    }
#define D(id, parent, stays)                                                                       \
    {                                                                                              \
        "vda", id, REPO_DIFF, parent, 100, stays                                                   \
    }

static const struct {
    const char *name;
    struct file files[6];
    const char *text;
} cases[] = {
    {"all stay", {F(0, 1), I(1, 0, 1), I(2, 1, 1)}, ""},
    {"the newest go", {F(0, 1), I(1, 0, 1), I(2, 1, 0)}, ""},
    {"a chain of its own goes", {F(0, 0), I(1, 0, 0), F(2, 1), I(3, 2, 1)}, ""},
    {"the full goes", {F(0, 0), I(1, 0, 1)}, "vda/00001-full.1.qcow2: full -1 - +1\n"},
    {"the full and more",
     {F(0, 0), I(1, 0, 0), I(2, 1, 1)},
     "vda/00002-full.1.qcow2: full -1 - +2\n"},
    {"one between",
     {F(0, 1), I(1, 0, 0), I(2, 1, 1)},
     "vda/00002-inc.1.qcow2: inc 0 vda/00000-full.qcow2 +1\n"},
    {"two between, and one that stands on it",
     {F(0, 1), I(1, 0, 0), I(2, 1, 0), I(3, 2, 1), I(4, 3, 1)},
     "vda/00003-inc.1.qcow2: inc 0 vda/00000-full.qcow2 +2\n"
     "vda/00004-inc.1.qcow2: inc 3 vda/00003-inc.1.qcow2 +0\n"},
    {"every second",
     {F(0, 0), I(1, 0, 1), I(2, 1, 0), I(3, 2, 1), I(4, 3, 0), I(5, 4, 1)},
     "vda/00001-full.1.qcow2: full -1 - +1\n"
     "vda/00003-inc.1.qcow2: inc 1 vda/00001-full.1.qcow2 +1\n"
     "vda/00005-inc.1.qcow2: inc 3 vda/00003-inc.1.qcow2 +1\n"},
    {"differences of a full that goes",
     {F(0, 0), D(1, 0, 1), D(2, 0, 1)},
     "vda/00001-full.1.qcow2: full -1 - +1\n"
     "vda/00002-full.1.qcow2: full -1 - +1\n"},
    {"differences do not stand on each other", {F(0, 1), D(1, 0, 0), D(2, 0, 1)}, ""},
    {"two disks",
     {{"vda", 0, REPO_FULL, -1, 100, 0},
      {"vdb", 0, REPO_FULL, -1, 100, 0},
      {"vda", 1, REPO_INC, 0, 100, 1},
      {"vdb", 1, REPO_FULL, -1, 100, 1}},
     "vda/00001-full.1.qcow2: full -1 - +1\n"},
    {"a disk that was smaller in between",
     {F(0, 1), {"vda", 1, REPO_INC, 0, 40, 0}, {"vda", 2, REPO_INC, 1, 70, 0}, I(3, 2, 1)},
     "vda/00003-inc.1.qcow2: inc 0 vda/00000-full.qcow2 +2\n"},
    {"a disk that grew",
     {{"vda", 0, REPO_FULL, -1, 40, 1}, I(1, 0, 0), I(2, 1, 1)},
     "vda/00002-inc.1.qcow2: inc 0 vda/00000-full.qcow2 +1\n"},
};

static void test_cases(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_auto(repository) r = {0};
        g_autofree char *text = NULL;
        unsigned stays[6];
        struct prune_plan *p;
        size_t n = 0;

        while (n < 6 && cases[i].files[n].disk)
            n++;
        make(&r, cases[i].files, n, stays);
        p = prune_plan_new(&r, stays, NULL);
        g_assert_nonnull(p);
        text = text_of(p);
        g_test_message("%s", cases[i].name);
        g_assert_cmpstr(text, ==, cases[i].text);
        prune_plan_free(p);
    }
}

/* A file that was written anew before gets the next name, also where its level changes. */
static void test_names(void)
{
    static const struct file files[] = {F(0, 0), I(1, 0, 1), I(2, 1, 1)};
    g_auto(repository) r = {0};
    unsigned stays[3];
    struct prune_plan *p;
    struct repo_disk *one, *two;

    make(&r, files, 3, stays);
    one = repo_member_disk(r.members->pdata[1], "vda");
    two = repo_member_disk(r.members->pdata[2], "vda");
    g_free(one->file);
    one->file = g_strdup("vda/00001-inc.7.qcow2");
    g_free(two->file);
    two->file = g_strdup("v.9/renamed by hand.qcow2");
    p = prune_plan_new(&r, stays, NULL);
    g_assert_cmpstr(((struct prune_rewrite *)p->rewrites->pdata[0])->file, ==,
                    "vda/00001-full.8.qcow2");
    g_assert_cmpstr(((struct prune_rewrite *)p->rewrites->pdata[1])->file, ==,
                    "vda/00002-inc.1.qcow2");
    prune_plan_free(p);
}

static void test_figures(void)
{
    static const struct file files[] = {F(0, 0), I(1, 0, 1), I(2, 1, 1)};
    g_auto(repository) r = {0};
    const struct prune_rewrite *w;
    unsigned stays[3];
    struct prune_plan *p;

    make(&r, files, 3, stays);
    for (guint i = 0; i < 3; i++)
        repo_member_disk(r.members->pdata[i], "vda")->size = UINT64_C(1) << 40;
    p = prune_plan_new(&r, stays, NULL);
    g_assert_cmpuint(p->gone->len, ==, 1);
    g_assert_true(p->gone->pdata[0] == r.members->pdata[0]);
    g_assert_cmpuint(p->freed, ==, 3000);
    w = p->rewrites->pdata[0];
    g_assert_cmpuint(w->need, >=, 2000);
    g_assert_cmpuint(w->need, <=, 2000 + (1 << 20));
    g_assert_cmpstr(w->since, ==, NULL);
    w = p->rewrites->pdata[1];
    g_assert_cmpstr(w->since, ==, "c1");
    g_assert_cmpuint(p->need, ==, w->need + ((struct prune_rewrite *)p->rewrites->pdata[0])->need);
    prune_plan_free(p);
}

static void test_broken(void)
{
    static const struct file missing[] = {F(0, 1), I(2, 1, 1)};
    static const struct file newer[] = {I(0, 1, 1), F(1, 1)};
    static const struct file other[] = {{"vdb", 0, REPO_FULL, -1, 100, 1}, I(1, 0, 1)};
    static const struct file *const broken[] = {missing, newer, other};

    for (size_t i = 0; i < G_N_ELEMENTS(broken); i++) {
        g_auto(repository) r = {0};
        g_autoptr(GError) error = NULL;
        unsigned stays[2];

        make(&r, broken[i], 2, stays);
        g_assert_null(prune_plan_new(&r, stays, &error));
        g_assert_nonnull(strstr(error->message, "its parent"));
    }
}

/* ---- random repositories ---- */

#define MEMBERS     12
#define BLOCKS      16
#define UNALLOCATED (-1)

/* What a file has: a number for each block that is allocated in it, 0 for zeroes. */
struct model {
    const char *name;
    const struct model *base;
    unsigned size;
    int blocks[BLOCKS];
};

/* As QEMU reads: where a file ends, what stands on it reads zeroes. */
static int read_block(const struct model *m, unsigned block)
{
    for (; m && block < m->size; m = m->base) {
        if (m->blocks[block] != UNALLOCATED)
            return m->blocks[block];
    }
    return 0;
}

static void make_random(GRand *rand, struct file *files, struct model *models)
{
    for (int i = 0; i < MEMBERS; i++) {
        bool full = i == 0 || g_rand_int_range(rand, 0, 6) == 0;
        /* Mostly the newest is the parent, else any. */
        int parent = full                               ? -1
                     : g_rand_int_range(rand, 0, 5) > 0 ? i - 1
                                                        : g_rand_int_range(rand, 0, i);
        unsigned size = g_rand_int_range(rand, 0, 3) ? BLOCKS : g_rand_int_range(rand, 1, BLOCKS);

        files[i] = (struct file){"vda",  i,    full ? REPO_FULL : REPO_INC,
                                 parent, size, g_rand_boolean(rand)};
        models[i] = (struct model){.base = full ? NULL : &models[parent], .size = size};
        for (unsigned b = 0; b < BLOCKS; b++) {
            int kind = g_rand_int_range(rand, 0, 5);

            models[i].blocks[b] = kind == 0 ? 0 : kind == 1 ? i * BLOCKS + (int)b + 1 : UNALLOCATED;
        }
    }
}

/* What is allocated in a file and in `depth` ones below it, as q2_image_extent tells it: behind the end
 * of a file that hides what is below there are zeroes. */
static int allocated(const struct model *m, unsigned depth, unsigned block)
{
    for (unsigned d = 0; m && d <= depth; d++, m = m->base) {
        if (block >= m->size)
            return m->base ? 0 : UNALLOCATED;
        if (m->blocks[block] != UNALLOCATED)
            return m->blocks[block];
    }
    return UNALLOCATED;
}

static const struct model *find_model(const struct model *models, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (models[i].name && strcmp(models[i].name, name) == 0)
            return &models[i];
    }
    return NULL;
}

/* Carry out one rewrite. `old` is the file as it was. */
static void rewrite(const struct prune_rewrite *w, const struct model *old, struct model *new,
                    const struct model *base)
{
    *new = (struct model){.name = w->file, .base = base, .size = old->size};
    for (unsigned b = 0; b < BLOCKS; b++) {
        new->blocks[b] = allocated(old, w->depth, b);
    }
}

static void try_random(GRand *rand)
{
    struct file files[MEMBERS];
    struct model before[MEMBERS], after[MEMBERS];
    g_auto(repository) r = {0};
    unsigned stays[MEMBERS];
    struct prune_plan *p;

    make_random(rand, files, before);
    make(&r, files, MEMBERS, stays);
    p = prune_plan_new(&r, stays, NULL);
    g_assert_nonnull(p);
    /* What stays as it is stands on files that stay as they are. */
    for (int i = 0; i < MEMBERS; i++) {
        struct repo_disk *d = repo_member_disk(r.members->pdata[i], "vda");

        after[i] = before[i];
        after[i].name = stays[i] ? d->file : NULL;
        after[i].base = before[i].base ? &after[before[i].base - before] : NULL;
    }
    for (guint i = 0; i < p->rewrites->len; i++) {
        const struct prune_rewrite *w = p->rewrites->pdata[i];
        const struct model *base = w->base ? find_model(after, MEMBERS, w->base) : NULL;

        g_assert_true(!w->base || base);
        rewrite(w, &before[w->member->id], &after[w->member->id], base);
    }
    for (int i = 0; i < MEMBERS; i++) {
        g_assert_true(!stays[i] || !after[i].base || after[i].base->name);
        for (unsigned b = 0; stays[i] && b < after[i].size; b++)
            g_assert_cmpint(read_block(&after[i], b), ==, read_block(&before[i], b));
    }
    prune_plan_free(p);
}

static void test_random(void)
{
    guint32 seed = g_test_rand_int();
    GRand *rand = g_rand_new_with_seed(seed);

    g_test_message("seed %u", seed);
    for (int i = 0; i < 2000; i++)
        try_random(rand);
    g_rand_free(rand);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/client/prune/plan", test_cases);
    g_test_add_func("/client/prune/names", test_names);
    g_test_add_func("/client/prune/figures", test_figures);
    g_test_add_func("/client/prune/broken", test_broken);
    g_test_add_func("/client/prune/random", test_random);
    return g_test_run();
}
