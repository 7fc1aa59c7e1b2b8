/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/repo/repo-names.h"
#include "client/base/error.h"

#include <inttypes.h>
#include <string.h>

/* Bytes of a folder's name; a longer one is cut, and gets a hash in place of the rest. */
#define FOLDER_MAX 120
#define HASH_CHARS 16

/* Would a folder of this name be in the way of a file at the top of the repository? */
static bool is_reserved(const char *name)
{
    return strcmp(name, "lock") == 0 || strstr(name, ".json");
}

char *repo_folder_name(const char *disk)
{
    GString *name = g_string_new(NULL);
    bool reserved = is_reserved(disk);

    for (const char *p = disk; *p; p++) {
        bool plain = g_ascii_isalnum(*p) || (strchr("-_.", *p) && p > disk);

        if (plain && !(reserved && p == disk))
            g_string_append_c(name, *p);
        else
            g_string_append_printf(name, "%%%02X", (unsigned char)*p);
    }
    if (name->len == 0)
        g_string_append_c(name, '%');
    if (name->len > FOLDER_MAX) {
        g_autofree char *hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, disk, -1);

        g_string_truncate(name, FOLDER_MAX - HASH_CHARS - 1);
        g_string_append_printf(name, "%%%.*s", HASH_CHARS, hash);
    }
    return g_string_free(name, FALSE);
}

bool repo_folder_is_ours(const char *name)
{
    for (const char *p = name; *p; p++) {
        if (!g_ascii_isalnum(*p) && *p != '%' && (p == name || !strchr("-_.", *p)))
            return false;
    }
    return *name != '\0' && !is_reserved(name);
}

char *repo_file_name(const char *disk, int64_t id, enum repo_level level)
{
    g_autofree char *folder = repo_folder_name(disk);

    return g_strdup_printf("%s/%05" PRId64 "-%s.qcow2", folder, id, repo_level_name(level));
}

static bool is_plain(const char *text)
{
    for (const char *p = text; *p; p++) {
        if (g_ascii_iscntrl(*p) || *p == '\\')
            return false;
    }
    return g_utf8_validate(text, -1, NULL);
}

int repo_file_check(const char *file, GError **err)
{
    const char *slash = strchr(file, '/');
    bool fine = slash && slash > file && !strchr(slash + 1, '/') && file[0] != '.' &&
                slash[1] != '.' && is_plain(file) && strlen(file) < 512 &&
                g_str_has_suffix(slash + 1, ".qcow2") && strlen(slash + 1) > strlen(".qcow2");

    if (fine)
        return 0;
    return client_fail(err, CLIENT_ERROR_FAILED,
                       "\"%s\" is no name for a file of a repository, which is FOLDER/NAME.qcow2",
                       file);
}

/* What follows `prefix` in `text`; NULL if it does not begin so. */
static const char *after(const char *text, const char *prefix)
{
    return g_str_has_prefix(text, prefix) ? text + strlen(prefix) : NULL;
}

static const char *skip_level(const char *text)
{
    static const enum repo_level levels[] = {REPO_FULL, REPO_INC, REPO_DIFF};

    for (unsigned i = 0; i < G_N_ELEMENTS(levels); i++) {
        const char *rest = after(text, repo_level_name(levels[i]));

        if (rest)
            return rest;
    }
    return NULL;
}

/* What follows ".DIGITS" at the beginning of `text`; `text` if there is no such thing. */
static const char *skip_generation(const char *text)
{
    size_t digits = *text == '.' ? strspn(text + 1, "0123456789") : 0;

    return digits > 0 ? text + 1 + digits : text;
}

bool repo_name_is_ours(const char *name, int64_t *id)
{
    static const char *const ends[] = {"", ".partial", REPO_SUMS_SUFFIX,
                                       REPO_SUMS_SUFFIX ".partial"};
    size_t digits = strspn(name, "0123456789");
    const char *rest;

    if (digits < 5 || digits > 18 || name[digits] != '-')
        return false;
    rest = skip_level(name + digits + 1);
    rest = rest ? after(skip_generation(rest), ".qcow2") : NULL;
    for (unsigned i = 0; rest && i < G_N_ELEMENTS(ends); i++) {
        if (strcmp(rest, ends[i]) == 0) {
            *id = g_ascii_strtoll(name, NULL, 10);
            return true;
        }
    }
    return false;
}

char *repo_backing_name(const char *from, const char *of)
{
    const char *slash = strchr(from, '/');
    size_t folder = slash ? (size_t)(slash - from) + 1 : 0;

    if (strncmp(from, of, folder) == 0)
        return g_strdup(of + folder);
    return g_strconcat("../", of, NULL);
}
