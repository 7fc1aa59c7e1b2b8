/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The manifest of a backup repository: manifest_read, manifest_write.
 *
 * Input: the text of a manifest, without the line of its hash and what follows it; or, if its first
 * byte is '!', all of it behind that.
 */
#include "client/repo/manifest-read.h"
#include "client/repo/manifest-write.h"
#include "client/repo/repository.h"
#include "fuzz/fuzz.h"

#include <string.h>

const char fuzz_name[] = "manifest";

/* A repository that is in no folder. */
static repository *bare(void)
{
    repository *r = g_new0(repository, 1);

    r->members = g_ptr_array_new_with_free_func((GDestroyNotify)repo_member_free);
    return r;
}

static void bare_free(repository *r)
{
    g_ptr_array_unref(r->members);
    g_free(r->uuid);
    g_free(r);
}

/* ---- what must hold of one that was taken ---- */

/* Parents lead to a full one. */
static void check_chain(const repository *r, const struct repo_member *m, const struct repo_disk *d)
{
    int64_t id = m->id;

    while (d->parent >= 0) {
        const struct repo_member *parent = NULL;

        CHECK(d->level != REPO_FULL && d->parent < id);
        for (guint i = 0; i < r->members->len; i++) {
            const struct repo_member *other = r->members->pdata[i];

            if (other->id == d->parent)
                parent = other;
        }
        CHECK(parent);
        id = parent->id;
        d = repo_member_disk(parent, d->disk);
        CHECK(d);
    }
    CHECK(d->level == REPO_FULL);
}

static void check_file(const char *file, GHashTable *files)
{
    g_autofree char *path = g_canonicalize_filename(file, "/repo");

    CHECK(g_str_has_prefix(path, "/repo/") && g_strcmp0(path + strlen("/repo/"), file) == 0);
    CHECK(g_hash_table_add(files, (char *)file));
}

static void check_members(const repository *r)
{
    g_autoptr(GHashTable) files = g_hash_table_new(g_str_hash, g_str_equal);
    int64_t last = -1;

    for (guint i = 0; i < r->members->len; i++) {
        const struct repo_member *m = r->members->pdata[i];

        CHECK(m->id > last && m->id < r->next_id && m->disks->len > 0);
        last = m->id;
        for (guint k = 0; k < m->disks->len; k++) {
            const struct repo_disk *d = m->disks->pdata[k];

            CHECK(repo_member_disk(m, d->disk) == d);
            check_file(d->file, files);
            check_chain(r, m, d);
        }
    }
}

/* One that is written and read again is the same. */
static void check_round_trip(const repository *r)
{
    g_autoptr(GString) text = manifest_write(r), again = NULL;
    repository *copy = bare();

    CHECK(manifest_read(copy, text->str, text->len, NULL) == 0);
    again = manifest_write(copy);
    CHECK(g_string_equal(text, again));
    bare_free(copy);
}

static GString *take_text(const uint8_t *data, size_t size)
{
    GString *text = g_string_new(NULL);
    g_autofree char *hash = NULL;

    if (size > 0 && data[0] == '!')
        return g_string_append_len(text, (const char *)data + 1, (gssize)size - 1);
    g_string_append_len(text, (const char *)data, (gssize)size);
    hash = g_compute_checksum_for_data(G_CHECKSUM_SHA256, data, size);
    g_string_append_printf(text, MANIFEST_SEAL "%s\"\n}\n", hash);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GString) text = take_text(data, size);
    g_autoptr(GError) err = NULL;
    repository *r = bare();

    if (manifest_read(r, text->str, text->len, &err) == 0) {
        CHECK(!err);
        check_members(r);
        check_round_trip(r);
    } else {
        CHECK(err);
    }
    bare_free(r);
    return 0;
}
