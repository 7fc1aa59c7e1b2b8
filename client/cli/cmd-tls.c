/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fleecectl tls init: all that TLS between a server and its clients needs, in one folder for both
 * ends: the file names are those of nbdfleece --tls-certificates, of libnbd and of QEMU.
 *
 * Everything is made in memory first, then written into new files. A failure leaves nothing behind.
 */
#include "client/base/error.h"
#include "client/cli/command.h"
#include "client/tls/new-files.h"
#include "client/tls/pki.h"
#include "common/json/value.h"

#include <arpa/inet.h>
#include <string.h>
#include <unistd.h>

#define CA_YEARS   10
#define YEARS      3
#define COMMON_MAX 64 /* X.520's limit of a common name */

struct tls_options {
    char **hosts, **clients;
};

typedef struct plan {
    const char *dir;
    GPtrArray *hosts;   /* strings, ends with NULL */
    GPtrArray *clients; /* names */
    time_t ca_expires, expires;
    struct new_files files;
} plan;

static void plan_clear(struct plan *p)
{
    g_ptr_array_unref(p->hosts);
    g_ptr_array_unref(p->clients);
    new_files_clear(&p->files);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(plan, plan_clear)

/* ---- the names ---- */

/* A name must be plain enough for a file name, and for a subject without escapes. */
static int check_client(const char *name, GError **err)
{
    bool good = *name != '\0' && *name != '.' && *name != '-' && strlen(name) <= COMMON_MAX;

    for (const char *p = name; good && *p != '\0'; p++)
        good = g_ascii_isalnum(*p) || strchr("-._@", *p);
    if (!good)
        return client_fail(err, CLIENT_ERROR_USAGE,
                           "client '%s': a name is 1 to %d letters, digits, '-', '.', '_' and '@', "
                           "and begins with neither '.' nor '-'",
                           name, COMMON_MAX);
    return 0;
}

static int check_host(const char *host, GError **err)
{
    struct in6_addr address;
    bool good = *host != '\0' && *host != '-' && strlen(host) <= 253;

    if (inet_pton(AF_INET, host, &address) == 1 || inet_pton(AF_INET6, host, &address) == 1)
        return 0;
    for (const char *p = host; good && *p != '\0'; p++)
        good = g_ascii_isalnum(*p) || strchr("-.*", *p);
    if (!good)
        return client_fail(err, CLIENT_ERROR_USAGE, "host '%s' is neither a name nor an address",
                           host);
    return 0;
}

static void add_once(GPtrArray *list, const char *text)
{
    if (!g_ptr_array_find_with_equal_func(list, text, g_str_equal, NULL))
        g_ptr_array_add(list, (gpointer)text);
}

static int find_names(struct plan *p, const struct tls_options *o, GError **err)
{
    for (unsigned i = 0; o->hosts && o->hosts[i]; i++) {
        if (check_host(o->hosts[i], err) < 0)
            return -1;
        add_once(p->hosts, o->hosts[i]);
    }
    if (p->hosts->len == 0 && check_host(g_get_host_name(), NULL) == 0)
        g_ptr_array_add(p->hosts, (gpointer)g_get_host_name());
    /* These let the server be tried on its own machine. */
    add_once(p->hosts, "localhost");
    add_once(p->hosts, "127.0.0.1");
    add_once(p->hosts, "::1");
    for (unsigned i = 0; o->clients && o->clients[i]; i++) {
        if (check_client(o->clients[i], err) < 0)
            return -1;
        add_once(p->clients, o->clients[i]);
    }
    if (p->clients->len == 0)
        g_ptr_array_add(p->clients, (gpointer) "client");
    return 0;
}

/* ---- what is to be written ---- */

/* NAME-cert.pem and NAME-key.pem. */
static int add_identity(struct plan *p, const char *dir, const char *name,
                        const struct pki_identity *identity, GError **err)
{
    g_autofree char *cert_name = g_strconcat(name, "-cert.pem", NULL);
    g_autofree char *key_name = g_strconcat(name, "-key.pem", NULL);
    char *cert = pki_certificate(identity, err);

    if (!cert)
        return -1;
    new_files_add(&p->files, dir, cert_name, cert, 0644);
    char *key = pki_key(identity, err);
    if (!key)
        return -1;
    new_files_add(&p->files, dir, key_name, key, 0600);
    return 0;
}

/* The first client's files stand beside the server's. Each other client has a folder, which is
 * taken to its machine as it is. */
static char *client_dir(const struct plan *p, unsigned i)
{
    return i == 0 ? g_strdup(p->dir) : g_build_filename(p->dir, p->clients->pdata[i], NULL);
}

static int add_client(struct plan *p, unsigned i, const struct pki_identity *ca, GError **err)
{
    const char *name = p->clients->pdata[i];
    g_autofree char *dir = client_dir(p, i);
    g_autoptr(pki_identity) client = pki_new(PKI_CLIENT, name, NULL, p->expires, ca, err);

    if (!client || add_identity(p, dir, "client", client, err) < 0)
        return -1;
    if (i == 0)
        return 0;
    new_files_add_folder(&p->files, dir);
    char *ca_cert = pki_certificate(ca, err);
    if (!ca_cert)
        return -1;
    new_files_add(&p->files, dir, "ca-cert.pem", ca_cert, 0644);
    return 0;
}

static int make_all(struct plan *p, GError **err)
{
    const char *host = p->hosts->pdata[0];
    g_autofree char *ca_name = g_strdup_printf("nbdfleece CA of %.45s", host);
    g_autofree char *common = g_strndup(host, COMMON_MAX);
    g_autoptr(pki_identity) ca = pki_new(PKI_CA, ca_name, NULL, p->ca_expires, NULL, err);

    if (!ca || add_identity(p, p->dir, "ca", ca, err) < 0)
        return -1;
    g_ptr_array_add(p->hosts, NULL);
    g_autoptr(pki_identity) server =
        pki_new(PKI_SERVER, common, (const char *const *)p->hosts->pdata, p->expires, ca, err);
    if (!server || add_identity(p, p->dir, "server", server, err) < 0)
        return -1;
    for (unsigned i = 0; i < p->clients->len; i++) {
        if (add_client(p, i, ca, err) < 0)
            return -1;
    }
    return 0;
}

/* Look before the slow part; writing checks again. */
static int check_free(const struct plan *p, GError **err)
{
    static const char *const names[] = {
        "ca-cert.pem",    "ca-key.pem", "server-cert.pem", "server-key.pem", "client-cert.pem",
        "client-key.pem", NULL};

    for (unsigned i = 0; names[i]; i++) {
        g_autofree char *path = g_build_filename(p->dir, names[i], NULL);

        if (g_file_test(path, G_FILE_TEST_EXISTS) || g_file_test(path, G_FILE_TEST_IS_SYMLINK))
            return client_fail(err, CLIENT_ERROR_FAILED, "%s exists: nothing is overwritten", path);
    }
    return 0;
}

/* ---- telling ---- */

static char *date_text(time_t when)
{
    g_autoptr(GDateTime) date = g_date_time_new_from_unix_utc(when);

    return g_date_time_format(date, "%Y-%m-%d");
}

static void tell(struct client *c, const struct plan *p)
{
    const char *host = p->hosts->pdata[0];
    g_autofree char *host_in_uri = g_strdup_printf(strchr(host, ':') ? "[%s]" : "%s", host);
    g_autofree char *ca_until = date_text(p->ca_expires), *until = date_text(p->expires);
    g_autofree char *dir = g_shell_quote(p->dir);

    g_string_append_printf(c->out,
                           "On the server:\n"
                           "  nbdfleece --tls=require --tls-verify-peer "
                           "--tls-certificates %s PLUGIN ...\n",
                           dir);
    for (unsigned i = 0; i < p->clients->len; i++) {
        g_autofree char *from = client_dir(p, i);
        g_autofree char *escaped = g_uri_escape_string(from, "/", FALSE);
        g_autofree char *uri =
            g_strdup_printf("nbds://%s/?tls-certificates=%s", host_in_uri, escaped);
        g_autofree char *quoted = g_shell_quote(uri);

        g_string_append_printf(c->out,
                               "On a client, as %s (tls-authz: \"CN=%s\"), with ca-cert.pem, "
                               "client-cert.pem and\nclient-key.pem of %s:\n  nbdinfo %s\n",
                               (char *)p->clients->pdata[i], (char *)p->clients->pdata[i], from,
                               quoted);
    }
    g_string_append_printf(c->out,
                           "Valid until %s, the CA until %s. Who has %s/ca-key.pem can make more:\n"
                           "keep it elsewhere.\n",
                           until, ca_until, p->dir);
}

static void tell_json(struct client *c, const struct plan *p)
{
    g_autoptr(JsonBuilder) b = json_builder_new();

    json_builder_begin_object(b);
    json_add_string(b, "directory", p->dir);
    json_builder_set_member_name(b, "expires");
    json_builder_add_int_value(b, p->expires);
    json_builder_set_member_name(b, "ca-expires");
    json_builder_add_int_value(b, p->ca_expires);
    json_builder_set_member_name(b, "hosts");
    json_builder_begin_array(b);
    for (unsigned i = 0; p->hosts->pdata[i]; i++)
        json_builder_add_string_value(b, p->hosts->pdata[i]);
    json_builder_end_array(b);
    json_builder_set_member_name(b, "clients");
    json_builder_begin_array(b);
    for (unsigned i = 0; i < p->clients->len; i++) {
        g_autofree char *dir = client_dir(p, i);
        g_autofree char *subject = g_strconcat("CN=", p->clients->pdata[i], NULL);

        json_builder_begin_object(b);
        json_add_string(b, "name", p->clients->pdata[i]);
        json_add_string(b, "subject", subject);
        json_add_string(b, "directory", dir);
        json_builder_end_object(b);
    }
    json_builder_end_array(b);
    json_builder_end_object(b);
    client_print_builder(c, b);
}

/* `years` from now. */
static time_t in_years(int years)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autoptr(GDateTime) then = g_date_time_add_years(now, years);

    return (time_t)g_date_time_to_unix(then);
}

static int run_tls_init(struct client *c, const void *options, char **args, GError **err)
{
    g_autofree char *dir = g_canonicalize_filename(args[0], NULL);
    g_auto(plan) p = {
        .dir = dir,
        .hosts = g_ptr_array_new(),
        .clients = g_ptr_array_new(),
        .ca_expires = in_years(CA_YEARS),
        .expires = in_years(YEARS),
    };

    new_files_init(&p.files);
    if (find_names(&p, options, err) < 0 || check_free(&p, err) < 0)
        return -1;
    if (access(dir, F_OK) < 0)
        new_files_add_folder(&p.files, dir);
    if (make_all(&p, err) < 0 || new_files_write(&p.files, err) < 0)
        return -1;
    if (c->json)
        tell_json(c, &p);
    else
        tell(c, &p);
    return 0;
}

static const struct option tls_options[] = {
    {"host", 0, OPTION_LIST, "NAME|IP", offsetof(struct tls_options, hosts),
     "a name or address of the server (default: this machine's)"},
    {"client", 0, OPTION_LIST, "NAME", offsetof(struct tls_options, clients),
     "a client (default: client)"},
    {NULL},
};

const struct command cmd_tls_init = {
    .name = "tls init",
    .synopsis = "DIR [--host NAME|IP]... [--client NAME]...",
    .summary = "make a CA and certificates for a server and its clients",
    .help = "DIR then is for nbdfleece --tls-certificates, and for the tls-certificates of an\n"
            "NBD URI. Nothing is overwritten. No control socket is needed.\n",
    .min_args = 1,
    .max_args = 1,
    .acts = true,
    .options = tls_options,
    .options_size = sizeof(struct tls_options),
    .run = run_tls_init,
};
