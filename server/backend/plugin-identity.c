/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which image a disk has. A plugin with nbdfleece_plugin_identity says so itself. Of others only
 * the name and the configuration are known: whether somebody has written to their images cannot be
 * seen.
 *
 * The words go into the state folder and into messages: so they have no secrets, no control
 * characters, and not more than IMAGE_MAX bytes.
 */
#include "server/backend/plugin-private.h"

#include "common/util/error.h"

#include <string.h>
#include <unistd.h>

#define IMAGE_MAX 1000u
/* What a plugin writes by itself later than this after a change is taken for somebody else's. */
#define LATE_MAX INT64_C(5000000000)

/* Plugins of nbdkit whose bytes end with the process: they keep them in memory, make them at
 * the start, or forget what is written. nbdfleece-plugins(5) has the same list. */
static const char *const transient_plugins[] = {
    "data",         "example1", "example2",      "example3",  "example4", "floppy", "full",
    "info",         "iso",      "linuxdisk",     "memory",    "null",     "ones",   "pattern",
    "partitioning", "random",   "sparse-random", "streaming", "tmpdisk",  "zero",   NULL};

/* ---- configuration, without secrets ---- */

/* Does a key look as if its value were a secret, or the name of a user? */
static bool is_secret(const char *key, size_t length)
{
    static const char *const words[] = {"auth",   "cookie", "cred",  "header", "key", "pass",
                                        "secret", "sig",    "token", "user",   NULL};
    g_autofree char *low = g_ascii_strdown(key, (gssize)length);

    for (const char *const *word = words; *word; word++)
        if (strstr(low, *word))
            return true;
    return false;
}

/* Append the parameters of a URI, "a=b&c=d", without the values of secret ones. */
static void add_query(GString *out, const char *query)
{
    g_auto(GStrv) pairs = g_strsplit(query, "&", -1);

    for (char **pair = pairs; *pair; pair++) {
        const char *equals = strchr(*pair, '=');

        if (equals && is_secret(*pair, (size_t)(equals - *pair)))
            g_string_append_len(out, *pair, equals + 1 - *pair);
        else
            g_string_append(out, *pair);
        if (pair[1])
            g_string_append_c(out, '&');
    }
}

/* Does a number follow the colon in HOST:PORT/IMAGE? */
static bool is_port(const char *colon, const char *authority_end)
{
    return strspn(colon + 1, "0123456789") == (size_t)(authority_end - colon - 1);
}

/* What may be a secret is not kept, and what may be an image must tell it from others: a hash does
 * both. */
static void add_hash(GString *out, const char *text, const char *end)
{
    g_autofree char *hash =
        g_compute_checksum_for_data(G_CHECKSUM_SHA256, (const guchar *)text, (gsize)(end - text));

    g_string_append_printf(out, "sha256:%s", hash);
}

/* The end of USER:PASSWORD, an @. A password with a slash makes it no URI, and is one all the same: what
 * follows the colon is no port. *sure: nothing else can be meant. NULL: nobody logs in. */
static const char *login_end(const char *rest, bool *sure)
{
    const char *end = rest + strcspn(rest, "/?#");
    const char *at = memrchr(rest, '@', (size_t)(end - rest));
    const char *colon = memrchr(rest, ':', (size_t)(end - rest));

    *sure = at;
    if (!at && colon && rest[0] != '[' && !is_port(colon, end))
        at = strrchr(end, '@');
    return at;
}

/* SCHEME://USER:PASSWORD@HOST/PATH?QUERY, without who logs in. `rest` follows "://". */
static void add_uri(GString *out, const char *uri, const char *rest)
{
    bool sure;
    const char *at = login_end(rest, &sure), *query = strchr(at ? at : rest, '?');

    if (at) {
        g_string_append_len(out, uri, rest - uri);
        if (!sure)
            add_hash(out, rest, at);
        uri = sure ? at + 1 : at;
    }
    if (!query) {
        g_string_append(out, uri);
        return;
    }
    g_string_append_len(out, uri, query + 1 - uri);
    add_query(out, query + 1);
}

/* A URI may lack its scheme, USER:PASSWORD@HOST: then what follows who logs in. Nobody can tell
 * HOST:PORT/IMAGE@SNAPSHOT from USER:PASSWORD@HOST where the password begins as 80/ does. */
static void add_without_login(GString *out, const char *value)
{
    const char *end = value + strcspn(value, "/?#");
    const char *colon = memchr(value, ':', (size_t)(end - value)), *at = strrchr(value, '@');

    if (!colon || !at || at < colon) {
        g_string_append(out, value);
    } else if (is_port(colon, end)) {
        add_hash(out, value, at);
        g_string_append(out, at);
    } else {
        g_string_append(out, at + 1);
    }
}

static void add_value(GString *out, const char *value)
{
    const char *scheme = strstr(value, "://");

    if (scheme) {
        add_uri(out, value, scheme + 3);
    } else if (value[0] != '/' && access(value, F_OK) == 0) {
        /* The same word would be another file in another folder. */
        g_autofree char *path = g_canonicalize_filename(value, NULL);
        g_string_append(out, path);
    } else {
        add_without_login(out, value);
    }
}

/* A script may hold any secret. It is a value of more than one line, or any of the eval plugin's. */
static bool is_script(const struct plugin *p, const char *value)
{
    return strpbrk(value, "\r\n") || g_str_equal(p->api.name, "eval");
}

void plugin_note_word(struct plugin *p, const char *key, const char *value)
{
    g_autoptr(GString) word = g_string_new(NULL);

    g_string_append_printf(word, "%s=", key);
    if (!is_secret(key, strlen(key)) && is_script(p, value)) {
        g_autofree char *hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, value, -1);

        g_string_append_printf(word, "sha256:%s", hash);
    } else if (!is_secret(key, strlen(key))) {
        add_value(word, value);
    }
    g_autofree char *shown = g_strescape(word->str, NULL);
    g_string_append_printf(p->words, " %s", shown);
}

/* ---- identity ---- */

static bool is_transient(const char *driver)
{
    for (const char *const *name = transient_plugins; *name; name++)
        if (strcmp(*name, driver) == 0)
            return true;
    return false;
}

static void by_configuration(struct plugin *p, struct backend_identity *identity)
{
    g_autofree char *hash = NULL;

    if (p->words->len > IMAGE_MAX)
        hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, p->words->str, -1);
    identity->image = g_strdup_printf("plugin %s%s%s", p->api.name,
                                      hash ? " sha256:" : p->words->str, hash ? hash : "");
    identity->content = g_strdup("");
    identity->transient = is_transient(p->api.name);
}

/* One line of printable characters, as the plugin gave it. */
static char *take_text(char *text, size_t size)
{
    text[size - 1] = '\0';
    return g_strescape(text, NULL);
}

static int by_plugin(struct plugin_handle *h, struct backend_identity *identity, GError **err)
{
    struct nbdfleece_identity said = {.modified = 0};
    struct plugin *p = h->plugin;
    struct plugin_call c;

    plugin_enter(&c, p, h, true);
    int r = p->offered_identity(h->opaque, &said, sizeof said);
    if (plugin_leave_setup(&c, "nbdfleece_plugin_identity", r == 0, err) < 0)
        return -1;
    if (said.image[0] == '\0')
        return fail(err, "disk %s: %s: nbdfleece_plugin_identity has named no image", p->disk,
                    p->api.name);
    identity->image = take_text(said.image, sizeof said.image);
    identity->content = take_text(said.content, sizeof said.content);
    identity->modified = MAX(said.modified - CLAMP(said.late, 0, LATE_MAX), 0);
    return 0;
}

int plugin_identity(struct backend_handle *handle, struct backend_identity *identity, GError **err)
{
    struct plugin_handle *h = (struct plugin_handle *)handle;

    *identity = (struct backend_identity){.image = NULL};
    if (h->plugin->offered_identity)
        return by_plugin(h, identity, err);
    by_configuration(h->plugin, identity);
    return 0;
}
