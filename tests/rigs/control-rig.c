/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/control-rig.h"

#include "tests/rigs/fake-backend.h"

#include <string.h>

static bool runs(void *opaque)
{
    return true;
}

static bool runs_not(void *opaque)
{
    return false;
}

static void answered(void *opaque)
{
}

void house_begin(struct house *h)
{
    struct server_options options = {.scratch_dir = g_get_tmp_dir()};
    GError *error = NULL;

    memset(h, 0, sizeof *h);
    h->server = server_new(&options);
    h->backend = fake_backend_new(4 * MIB);
    h->disk = server_add_disk(h->server, "vda", h->backend, &error);
    g_assert_no_error(error);
    h->control =
        (struct control){.server = h->server, .nbd = {.any_running = runs, .started = runs_not}};
    h->client = (struct qmp_client){.commands = control_commands,
                                    .context = &h->control,
                                    .negotiated = true,
                                    .answered = answered};
    h->other = h->third = h->client;
    node_io_open(disk_node(h->disk), true, false, NULL, &h->io, &error);
    g_assert_no_error(error);
}

void house_end(struct house *h)
{
    if (h->io)
        node_io_close(h->io);
    server_free(h->server);
}

void add_vdb(struct house *h)
{
    GError *error = NULL;

    server_add_disk(h->server, "vdb", fake_backend_new(4 * MIB), &error);
    g_assert_no_error(error);
}

static unsigned count_members(const char *text)
{
    unsigned n = 0;

    for (; *text; text++)
        n += *text == ':';
    return n;
}

void command_begin(struct qmp_client *client, const char *command, const char *arguments)
{
    g_autofree char *request =
        g_strdup_printf("{'execute':'%s','arguments':%s}", command, arguments);
    g_autoptr(GString) text = g_string_new(g_strdelimit(request, "'", '"'));
    g_autoptr(GString) id = g_string_new(NULL);

    client->out = g_string_new(NULL);
    qmp_handle(client, text, count_members(text->str), id);
}

void command_waits(struct qmp_client *client, const char *command, const char *arguments)
{
    command_begin(client, command, arguments);
    run_main_loop();
    g_assert_nonnull(client->open);
}

char *command_end(struct qmp_client *client)
{
    while (client->open)
        g_main_context_iteration(NULL, TRUE);
    return g_string_free(g_steal_pointer(&client->out), FALSE);
}

void ends_well(struct qmp_client *client)
{
    g_autofree char *text = command_end(client);

    g_assert_cmpstr(text, ==, "{\"return\": {}}\r\n");
}

void ends_with(struct qmp_client *client, const char *desc)
{
    g_autofree char *text = command_end(client);
    g_autofree char *expected =
        g_strdup_printf("{\"error\": {\"class\": \"GenericError\", \"desc\": \"%s\"}}\r\n", desc);

    g_assert_cmpstr(text, ==, expected);
}

char *reply(struct house *h, const char *command, const char *arguments)
{
    command_begin(&h->client, command, arguments);
    return command_end(&h->client);
}

void succeeds(struct house *h, const char *command, const char *arguments)
{
    command_begin(&h->client, command, arguments);
    ends_well(&h->client);
}

void fails(struct house *h, const char *desc, const char *command, const char *arguments)
{
    command_begin(&h->client, command, arguments);
    ends_with(&h->client, desc);
}

char *everything(struct house *h)
{
    g_autofree char *nodes = reply(h, "query-named-block-nodes", "{}");
    g_autofree char *views = reply(h, "query-views", "{}");
    g_autofree char *exports = reply(h, "query-block-exports", "{}");

    return g_strconcat(nodes, views, exports, NULL);
}
