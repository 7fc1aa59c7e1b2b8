/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/repository-rig.h"

#define HASH "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define TIME INT64_C(1793502000000000) /* 2026-11-01T03:00:00Z */

void rig_set_up(struct rig *rig, gconstpointer unused)
{
    (void)unused;
    rig->path = g_dir_make_tmp("fleece-XXXXXX", NULL);
    g_assert_nonnull(rig->path);
}

void rig_tear_down(struct rig *rig, gconstpointer unused)
{
    const char *command[] = {"rm", "-rf", rig->path, NULL};

    (void)unused;
    g_spawn_sync(NULL, (char **)command, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL,
                 NULL);
    g_free(rig->path);
}

repository *rig_open(struct rig *rig, enum repo_access access)
{
    GError *error = NULL;
    repository *r = repository_open(rig->path, access, &error);

    g_assert_no_error(error);
    return r;
}

void rig_save(repository *r)
{
    g_autoptr(GError) error = NULL;

    repository_save(r, &error);
    g_assert_no_error(error);
}

static void add_disk(struct repo_member *m, const char *disk, enum repo_level level, int64_t parent)
{
    struct repo_disk *d = repo_disk_new();

    d->disk = g_strdup(disk);
    d->level = level;
    d->parent = parent;
    d->file = repo_file_name(disk, m->id, level);
    d->sums = g_strdup(HASH);
    g_ptr_array_add(m->disks, d);
}

struct repo_member *rig_add_member(repository *r)
{
    struct repo_member *m = repo_member_new();

    m->id = r->next_id++;
    m->uuid = g_uuid_string_random();
    m->time = TIME + m->id * RIG_DAY + 500000;
    if (m->id % 2 == 0)
        add_disk(m, "vdb", REPO_FULL, -1);
    add_disk(m, "vda", m->id == 0 ? REPO_FULL : REPO_INC, m->id - 1);
    g_ptr_array_add(r->members, m);
    return m;
}

char *rig_path(const struct rig *rig, const char *name)
{
    return g_build_filename(rig->path, name, NULL);
}

void rig_put(const struct rig *rig, const char *name, const char *text)
{
    g_autofree char *path = rig_path(rig, name), *folder = g_path_get_dirname(path);

    g_mkdir_with_parents(folder, 0700);
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

bool rig_has(const struct rig *rig, const char *name)
{
    g_autofree char *path = rig_path(rig, name);

    return g_file_test(path, G_FILE_TEST_EXISTS);
}
