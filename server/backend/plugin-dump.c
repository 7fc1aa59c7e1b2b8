/* SPDX-License-Identifier: BSD-3-Clause */
/* What people are shown of a plugin: --dump-plugin, --help and --version, line by line as nbdkit
 * prints them. */
#include "server/backend/plugin-private.h"

#include "common/util/log.h"

#include <stdlib.h>

static const char *thread_model_name(int model)
{
    static const char *const names[] = {"serialize_connections", "serialize_all_requests",
                                        "serialize_requests", "parallel"};
    return names[model];
}

static void dump_callbacks(const struct nbdkit_plugin *api, FILE *out)
{
    const struct {
        const char *name;
        bool there;
    } fields[] = {
        {"longname", api->longname},
        {"description", api->description},
        {"load", api->load},
        {"unload", api->unload},
        {"dump_plugin", api->dump_plugin},
        {"config", api->config},
        {"config_complete", api->config_complete},
        {"config_help", api->config_help},
        {"thread_model", api->get_thread_model},
        {"get_ready", api->get_ready},
        {"after_fork", api->after_fork},
        {"cleanup", api->cleanup},
        {"preconnect", api->preconnect},
        {"list_exports", api->list_exports},
        {"default_export", api->default_export},
        {"open", api->open},
        {"close", api->close},
        {"export_description", api->export_description},
        {"get_size", api->get_size},
        {"block_size", api->block_size},
        {"can_write", api->can_write},
        {"can_flush", api->can_flush},
        {"is_rotational", api->is_rotational},
        {"can_trim", api->can_trim},
        {"can_zero", api->can_zero},
        {"can_fast_zero", api->can_fast_zero},
        {"can_extents", api->can_extents},
        {"can_fua", api->can_fua},
        {"can_multi_conn", api->can_multi_conn},
        {"can_cache", api->can_cache},
        {"pread", api->pread},
        {"pwrite", api->pwrite},
        {"flush", api->flush},
        {"trim", api->trim},
        {"zero", api->zero},
        {"extents", api->extents},
        {"cache", api->cache},
        {"_pread_v1", api->pread_v1},
        {"_pwrite_v1", api->pwrite_v1},
        {"_flush_v1", api->flush_v1},
        {"_trim_v1", api->trim_v1},
        {"_zero_v1", api->zero_v1},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
        if (fields[i].there)
            fprintf(out, "has_%s=1\n", fields[i].name);
    }
}

void plugin_dump(struct backend *b, FILE *out)
{
    struct plugin *p = plugin_of(b);
    g_autofree char *path = g_canonicalize_filename(p->path, NULL);
    struct plugin_call c;

    plugin_ensure_loaded(p);
    if (!p->configured) {
        g_autoptr(GError) err = NULL;
        if (plugin_settle_thread_model(p, &err) < 0)
            log_error("%s", err->message);
    }
    char *real = nbdkit_realpath(path);
    fprintf(out, "path=%s\n", real ? real : path);
    free(real);
    fprintf(out, "name=%s\n", p->api.name);
    if (p->api.version)
        fprintf(out, "version=%s\n", p->api.version);
    fprintf(out, "api_version=%d\n", p->api.api_version);
    fprintf(out, "struct_size=%" G_GUINT64_FORMAT "\n", p->api.struct_size);
    fprintf(out, "max_thread_model=%s\n", thread_model_name(p->api.thread_model));
    fprintf(out, "thread_model=%s\n", thread_model_name(p->thread_model));
    fprintf(out, "errno_is_preserved=%d\n", p->api.errno_is_preserved != 0);
    if (p->api.magic_config_key)
        fprintf(out, "magic_config_key=%s\n", p->api.magic_config_key);
    dump_callbacks(&p->api, out);
    fflush(out); /* the plugin prints to stdout by itself */
    if (p->api.dump_plugin) {
        plugin_enter(&c, p, NULL, true);
        p->api.dump_plugin();
        plugin_leave_setup(&c, "dump_plugin", true, NULL);
        fflush(stdout);
    }
}

static void print_paragraph(const char *text, FILE *out)
{
    if (text && *text)
        fprintf(out, "%s%s", text, g_str_has_suffix(text, "\n") ? "" : "\n");
}

void plugin_help(struct backend *b, FILE *out)
{
    struct plugin *p = plugin_of(b);

    plugin_ensure_loaded(p);
    fprintf(out, "plugin: %s", p->api.name);
    if (p->api.longname)
        fprintf(out, " (%s)", p->api.longname);
    fprintf(out, "\n(%s)\n", p->path);
    print_paragraph(p->api.description, out);
    print_paragraph(p->api.config_help, out);
}

void plugin_version(struct backend *b, FILE *out)
{
    const struct nbdkit_plugin *api = &plugin_of(b)->api;

    fprintf(out, "%s%s%s\n", api->name, api->version ? " " : "", api->version ? api->version : "");
}
