/* SPDX-License-Identifier: BSD-3-Clause */
/* The manifest of a repository: what is written is read again; each rule of nbdfleece-repository(5)
 * is broken once, and noticed. */
#include "client/repo/manifest-read.h"
#include "client/repo/manifest-write.h"
#include "client/repo/repository.h"

#include <string.h>

#define HASH "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

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

/* ---- a manifest that is right, and what is done to it ---- */

static const char good[] =
    "{\n"
    "  \"format\": \"nbdfleece-repository\",\n"
    "  \"version\": 1,\n"
    "  \"uuid\": \"0f8fad5b-d9cb-469f-a165-70867728950e\",\n"
    "  \"created\": \"2026-11-01T03:00:00.000000Z\",\n"
    "  \"next-id\": 4,\n"
    "  \"members\": [\n"
    "    {\"id\": 0, \"uuid\": \"7c9e6679-7425-40de-944b-e07fc1f90ae7\",\n"
    "     \"time\": \"2026-11-01T03:00:01.000001Z\", \"level\": \"full\", \"checkpoint\": null,\n"
    "     \"session\": \"s0\", \"disks\": [\n"
    "      {\"disk\": \"vdb\", \"file\": \"vdb/00000-full.qcow2\", \"level\": \"full\",\n"
    "       \"parent\": null, \"since\": null, \"reason\": \"it is the first\", \"size\": 4096,\n"
    "       \"bytes\": 262144, \"read\": 4096, \"sums\": \"" HASH "\"},\n"
    "      {\"disk\": \"vda\", \"file\": \"vda/00000-full.qcow2\", \"level\": \"full\",\n"
    "       \"parent\": null, \"since\": null, \"reason\": null, \"size\": 0, \"bytes\": 196608,\n"
    "       \"read\": 0, \"sums\": \"" HASH "\"}]},\n"
    "    {\"id\": 1, \"uuid\": \"1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed\",\n"
    "     \"time\": \"2026-11-02T03:00:01.999999Z\", \"level\": \"inc\", \"checkpoint\": \"c1\",\n"
    "     \"session\": null, \"disks\": [\n"
    "      {\"disk\": \"vda\", \"file\": \"vda/00001-inc.qcow2\", \"level\": \"inc\",\n"
    "       \"parent\": 0, \"since\": \"c0\", \"reason\": null, \"size\": 8192, \"bytes\": "
    "196608,\n"
    "       \"read\": 512, \"sums\": \"" HASH "\"}]},\n"
    "    {\"id\": 3, \"uuid\": \"6ec0bd7f-11c0-43da-975e-2a8ad9ebae0b\",\n"
    "     \"time\": \"2026-11-03T03:00:01.500000Z\", \"level\": \"diff\", \"checkpoint\": \"c3\",\n"
    "     \"session\": null, \"more\": [1, {}], \"disks\": [\n"
    "      {\"disk\": \"vdb\", \"file\": \"vdb/00003-diff.qcow2\", \"level\": \"diff\",\n"
    "       \"parent\": 0, \"since\": \"c0\", \"reason\": null, \"size\": 4096, \"bytes\": "
    "262144,\n"
    "       \"read\": 512, \"sums\": \"" HASH "\"}]}],\n";

static GString *sealed(const char *text)
{
    GString *out = g_string_new(text);
    g_autofree char *hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, text, -1);

    g_string_append_printf(out, MANIFEST_SEAL "%s\"\n}\n", hash);
    return out;
}

static void refused(const char *text, gsize length, const char *message)
{
    g_autoptr(GError) error = NULL;
    repository *r = bare();
    int result = manifest_read(r, text, length, &error);

    if (result == 0 || !strstr(error->message, message))
        g_error("wanted \"%s\", got \"%s\"", message, error ? error->message : "no error");
    bare_free(r);
}

/* The good one, in which the first `old` is replaced, is refused with a message. */
static void broken(const char *old, const char *new, const char *message)
{
    const char *at = strstr(good, old);
    g_autoptr(GString) text = NULL;
    g_autofree char *changed = NULL;

    g_assert_nonnull(at);
    changed = g_strdup_printf("%.*s%s%s", (int)(at - good), good, new, at + strlen(old));
    text = sealed(changed);
    refused(text->str, text->len, message);
}

/* ---- tests ---- */

static void test_good(void)
{
    g_autoptr(GString) text = sealed(good);
    g_autoptr(GError) error = NULL;
    repository *r = bare();
    const struct repo_member *m;
    const struct repo_disk *d;

    manifest_read(r, text->str, text->len, &error);
    g_assert_no_error(error);
    g_assert_cmpint(r->next_id, ==, 4);
    g_assert_cmpuint(r->members->len, ==, 3);
    m = r->members->pdata[0];
    g_assert_cmpint(m->time, ==, INT64_C(1793502001000001));
    g_assert_cmpstr(((struct repo_disk *)m->disks->pdata[0])->disk, ==, "vda"); /* by name */
    g_assert_null(m->checkpoint);
    d = repo_member_disk(m, "vdb");
    g_assert_cmpint(d->parent, ==, -1);
    g_assert_cmpstr(d->reason, ==, "it is the first");
    m = r->members->pdata[1];
    g_assert_cmpint(m->time % 1000000, ==, 999999);
    d = m->disks->pdata[0];
    g_assert_cmpint(d->parent, ==, 0);
    g_assert_cmpuint(d->size, ==, 8192);
    g_assert_cmpstr(d->since, ==, "c0");
    g_assert_cmpint(repo_member_level(r->members->pdata[2]), ==, REPO_DIFF);
    bare_free(r);
}

/* What is written says the same as what was read. */
static void test_written(void)
{
    g_autoptr(GString) text = sealed(good), once = NULL, twice = NULL;
    g_autoptr(GError) error = NULL;
    repository *r = bare(), *again = bare();

    manifest_read(r, text->str, text->len, &error);
    g_assert_no_error(error);
    once = manifest_write(r);
    manifest_read(again, once->str, once->len, &error);
    g_assert_no_error(error);
    twice = manifest_write(again);
    g_assert_cmpstr(once->str, ==, twice->str);
    g_assert_nonnull(strstr(once->str, "\n  \"sha256\": \""));
    g_assert_true(g_str_has_suffix(once->str, "\"\n}\n"));
    bare_free(r);
    bare_free(again);
}

static void test_rules(void)
{
    broken("nbdfleece-repository", "other", "its format is \"other\"");
    broken("\"version\": 1", "\"version\": 2", "its version is 2: this program knows version 1");
    broken("0f8fad5b-d9cb", "0f8fad5bd9cb", "\"uuid\" is missing, or is not a UUID");
    broken("\"next-id\": 4", "\"next-id\": -4", "\"next-id\" is missing, or is not a whole number");
    broken("\"next-id\": 4", "\"next-id\": 3", "member 3: its ID is not below \"next-id\", 3");
    broken("\"members\": [", "\"members\": [3,", "number 0 of the array is not an object");
    broken("\"created\": \"2026-11-01T", "\"created\": \"2026-11-31T", "\"created\"");
    broken("\"created\": ", "\"next-id\": 5, \"created\": ", "duplicate key");
    broken("\"id\": 3", "\"id\": 1", "member 1: it stands behind member 1");
    broken("\"id\": 3", "\"id\": 3.0", "\"id\" is missing");
    broken("\"id\": 3", "\"id\": 99999999999999999999", "");
    broken("\"id\": 0", "\"id\": \"0\"", "\"id\" is missing");
    broken("1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed", "7c9e6679-7425-40de-944b-e07fc1f90ae7",
           "member 1: its uuid is another member's, too");
    broken("03:00:01.999999Z", "03:00:01.99999Z", "member 1: \"time\"");
    broken("03:00:01.999999Z", "03:60:01.999999Z", "member 1: \"time\"");
    broken("03:00:01.999999Z", "03:00:01.999999+", "member 1: \"time\"");
    broken("2026-11-02T", "1926-11-02T", "member 1: \"time\"");
    broken("\"level\": \"inc\", \"checkpoint\"", "\"level\": \"full\", \"checkpoint\"",
           "member 1: its level is full, but inc by its disks");
    broken("\"checkpoint\": \"c1\"", "\"checkpoint\": 1", "member 1: \"checkpoint\"");
    broken("\"session\": \"s0\"", "\"session\": \"\"", "member 0: \"session\"");
    broken("\"disk\": \"vda\"", "\"disk\": \"vdb\"", "disk vdb: the member has the disk twice");
    broken("\"sums\": \"00", "\"sums\": \"0G", "disk vdb: \"sums\"");
    broken("\"sums\": \"00", "\"sums\": \"0", "disk vdb: \"sums\"");
    broken("\"bytes\": 262144", "\"bytes\": -1", "disk vdb: \"bytes\"");
    broken("\"size\": 4096", "\"size\": 1e3", "disk vdb: \"size\"");
    broken("\"read\": 0, ", "", "disk vda: \"read\"");
}

static void test_files(void)
{
    static const char *const names[] = {"/etc/00000-full.qcow2",
                                        "../vda/00000-full.qcow2",
                                        "vda/../00000-full.qcow2",
                                        "00000-full.qcow2",
                                        "vda/.qcow2",
                                        "./00000-full.qcow2",
                                        "vda/x/00000-full.qcow2",
                                        "vda/00000-full.raw",
                                        "vda/\\u000a.qcow2",
                                        ".vda/00000-full.qcow2",
                                        "vda/.00000-full.qcow2",
                                        "vda\\\\00000-full.qcow2",
                                        "json:{}/00000-full.qcow2\\t"};

    for (gsize i = 0; i < G_N_ELEMENTS(names); i++)
        broken("vda/00000-full.qcow2", names[i], "disk vda: \"");
    broken("vda/00001-inc.qcow2", "vda/00000-full.qcow2",
           "member 1: disk vda: its file, vda/00000-full.qcow2, is another disk's, too");
}

static void test_parents(void)
{
    broken("\"parent\": 0", "\"parent\": null", "disk vda: it is not full, and has no parent");
    broken("\"parent\": 0", "\"parent\": 1", "its parent, member 1, is not older than it");
    broken("\"parent\": 0", "\"parent\": 3", "its parent, member 3, is not older than it");
    broken("\"parent\": 0", "\"parent\": -1", "\"parent\" is missing, or is not a whole number");
    broken("\"parent\": null", "\"parent\": 0", "disk vdb: it is full, and has a parent");
    broken("\"parent\": 0, \"since\": \"c0\", \"reason\": null, \"size\": 4096",
           "\"parent\": 1, \"since\": \"c0\", \"reason\": null, \"size\": 4096",
           "member 3: disk vdb: its parent, member 1, does not have the disk");
    broken("\"parent\": 0, \"since\": \"c0\", \"reason\": null, \"size\": 4096",
           "\"parent\": 2, \"since\": \"c0\", \"reason\": null, \"size\": 4096",
           "member 3: disk vdb: its parent, member 2, is not in the manifest");
    broken("\"disk\": \"vdb\", \"file\": \"vdb/00003-diff.qcow2\", \"level\": \"diff\",\n"
           "       \"parent\": 0",
           "\"disk\": \"vda\", \"file\": \"vda/00003-diff.qcow2\", \"level\": \"diff\",\n"
           "       \"parent\": 1",
           "member 3: disk vda: it is a diff, and its parent, member 1, is not full");
}

/* Whatever bit is changed, and wherever it is cut, it is noticed. */
static void test_damage(void)
{
    g_autoptr(GString) text = sealed(good);

    for (gsize i = 0; i < text->len; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            text->str[i] ^= (char)(1 << bit);
            refused(text->str, text->len, "");
            text->str[i] ^= (char)(1 << bit);
        }
    }
    for (gsize length = 0; length < text->len; length++) {
        g_autofree char *cut = g_strndup(text->str, length);

        refused(cut, length, "it is");
    }
    g_string_append_c(text, '\n');
    refused(text->str, text->len, "its \"sha256\" does not fit it");
    refused("{}\n", 3, "it is cut short, or was edited");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/manifest/good", test_good);
    g_test_add_func("/manifest/written", test_written);
    g_test_add_func("/manifest/rules", test_rules);
    g_test_add_func("/manifest/files", test_files);
    g_test_add_func("/manifest/parents", test_parents);
    g_test_add_func("/manifest/damage", test_damage);
    return g_test_run();
}
