/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/start/options.h"

#include <string.h>
#include <sys/socket.h>

#define DISK_NAME_MAX 255 /* bytes, as for views */

GQuark options_error_quark(void)
{
    return g_quark_from_static_string("fleece-options-error-quark");
}

int options_usage(GError **err, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (err)
        *err = g_error_new_valist(OPTIONS_ERROR, OPTIONS_ERROR_USAGE, format, args);
    va_end(args);
    return -1;
}

/* ---- disks ---- */

static void clear_word(void *data)
{
    struct backend_word *word = data;

    g_free((char *)word->key);
    g_free((char *)word->value);
}

static void option_disk_free(void *data)
{
    struct option_disk *disk = data;

    g_free(disk->name);
    g_free(disk->plugin);
    g_array_unref(disk->words);
    g_free(disk);
}

static void begin_disk(struct options *o, const char *name)
{
    struct option_disk *disk = g_new0(struct option_disk, 1);

    disk->name = g_strdup(name);
    disk->words = g_array_new(FALSE, FALSE, sizeof(struct backend_word));
    g_array_set_clear_func(disk->words, clear_word);
    g_ptr_array_add(o->disks, disk);
}

static struct option_disk *last_disk(const struct options *o)
{
    return o->disks->len ? o->disks->pdata[o->disks->len - 1] : NULL;
}

int options_check_last_disk(const struct options *o, GError **err)
{
    const struct option_disk *disk = last_disk(o);

    if (disk && !disk->plugin)
        return options_usage(err, "disk '%s': no PLUGIN is given for it", disk->name);
    return 0;
}

int options_check_name(const char *option, const char *argument, const char *name, size_t most,
                       GError **err)
{
    g_autofree char *shown = g_utf8_make_valid(name, -1);

    if (!g_utf8_validate(name, -1, NULL))
        return options_usage(err,
                             "option '--%s': its %s '%s' is not UTF-8: no client could ask for it",
                             option, argument, shown);
    if (strlen(name) > most)
        return options_usage(err, "option '--%s': its %s '%.40s...' has more than %zu bytes",
                             option, argument, shown, most);
    return 0;
}

/* A disk's name is one of NBD and of QMP, a word in messages, and part of names of files. */
static int check_disk_name(const char *name, GError **err)
{
    if (*name == '\0')
        return options_usage(err, "option '--disk': its NAME is empty");
    if (options_check_name("disk", "NAME", name, DISK_NAME_MAX, err) < 0)
        return -1;
    for (const char *p = name; *p; p = g_utf8_next_char(p)) {
        if (g_unichar_iscntrl(g_utf8_get_char(p))) {
            g_autofree char *shown = g_strescape(name, NULL);

            return options_usage(
                err, "option '--disk': its NAME '%s' has a control character in it", shown);
        }
    }
    return 0;
}

int options_add_disk(struct options *o, const char *name, GError **err)
{
    if (check_disk_name(name, err) < 0)
        return -1;
    if (o->bare_form)
        return options_usage(
            err,
            "PLUGIN '%s' comes before '--disk %s': with --disk, each plugin follows "
            "the name of its disk",
            last_disk(o)->plugin, name);
    if (options_check_last_disk(o, err) < 0)
        return -1;
    for (unsigned i = 0; i < o->disks->len; i++) {
        const struct option_disk *other = o->disks->pdata[i];

        if (strcmp(other->name, name) == 0)
            return options_usage(err, "disk '%s' is given twice", name);
    }
    begin_disk(o, name);
    return 0;
}

void options_complete_last_disk(struct options *o)
{
    if (o->disks->len)
        last_disk(o)->complete = true;
}

int options_add_config(struct options *o, const char *key, const char *value, GError **err)
{
    struct backend_word word = {.key = g_strdup(key), .value = g_strdup(value)};

    g_array_append_val(last_disk(o)->words, word);
    return 0;
}

/* nbdkit's grammar of keys: [A-Za-z][A-Za-z0-9._-]* */
static bool is_key(const char *text, size_t length)
{
    if (length == 0 || !g_ascii_isalpha(text[0]))
        return false;
    for (size_t i = 1; i < length; i++) {
        if (!g_ascii_isalnum(text[i]) && !strchr("._-", text[i]))
            return false;
    }
    return true;
}

int options_add_word(struct options *o, const char *word, GError **err)
{
    const char *equals = strchr(word, '=');
    struct option_disk *disk;

    if (o->disks->len == 0) {
        o->bare_form = true;
        begin_disk(o, "disk0");
    }
    disk = last_disk(o);
    if (disk->complete)
        return options_usage(err,
                             "'%s': the disks of --config are complete: further ones, and words "
                             "for them, come behind '--disk NAME'",
                             word);
    if (!disk->plugin) {
        if (*word == '\0')
            return options_usage(err, "disk '%s': its PLUGIN is empty", disk->name);
        disk->plugin = g_strdup(word);
        return 0;
    }
    if (equals && is_key(word, equals - word)) {
        g_autofree char *key = g_strndup(word, equals - word);

        return options_add_config(o, key, equals + 1, err);
    }
    return options_add_config(o, NULL, word, err);
}

/* ---- all of them ---- */

static void debug_free(void *data)
{
    struct option_debug *debug = data;

    g_free(debug->name);
    g_free(debug->flag);
    g_free(debug);
}

struct options *options_new(void)
{
    struct options *o = g_new0(struct options, 1);

    o->disks = g_ptr_array_new_with_free_func(option_disk_free);
    o->debugs = g_ptr_array_new_with_free_func(debug_free);
    o->family = AF_UNSPEC;
    o->threads = OPTIONS_THREADS;
    o->poll_max_ns = 50000;
    o->handshake_timeout = 10;
    o->backup_lease = 3600;
    o->freeze_timeout = 10;
    o->max_connections = 100;
    o->stop_timeout = 30;
    o->mask_handshake = UINT16_MAX;
    o->on_cbw_error = CBW_BREAK_SNAPSHOT;
    o->export_name = g_strdup("");
    return o;
}

void options_free(struct options *o)
{
    if (!o)
        return;
    g_ptr_array_unref(o->disks);
    g_ptr_array_unref(o->debugs);
    g_free(o->unix_path);
    g_free(o->ip_address);
    g_free(o->port);
    g_free(o->selinux_label);
    g_free(o->pid_file);
    g_free(o->user);
    g_free(o->group);
    g_free(o->run);
    g_free(o->export_name);
    g_free(o->control);
    g_free(o->scratch_dir);
    g_free(o->state_dir);
    g_free(o->freeze_hook);
    g_free(o->tls_certificates);
    g_free(o->tls_psk);
    g_free(o);
}

bool options_name_a_socket(const struct options *o)
{
    return o->unix_path || o->ip_address || o->port || o->vsock || o->single;
}
