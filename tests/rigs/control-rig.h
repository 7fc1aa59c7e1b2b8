/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * QMP commands on the real registry and disks over memory, with three monitors that have no sockets.
 * The test is the main thread.
 */
#ifndef TESTS_RIGS_CONTROL_RIG_H
#define TESTS_RIGS_CONTROL_RIG_H

#include "server/control/control-private.h"
#include "tests/rigs/main-loop.h"

#define MIB (1u << 20)

/* The command line's listeners run, and nbd-server-start's does not. */
struct house {
    struct server *server;
    struct control control;
    struct qmp_client client;
    struct qmp_client other; /* another monitor */
    struct qmp_client third;
    struct disk *disk;       /* vda, 4 MiB */
    struct backend *backend; /* its backend, a fake one */
    struct node_io *io;      /* a guest's; NULL: gone */
};

void house_begin(struct house *h);
void house_end(struct house *h);
/* Add a second disk, vdb, 4 MiB. */
void add_vdb(struct house *h);

/* Begin a command on one of the monitors. `arguments` is JSON with ' for ". */
void command_begin(struct qmp_client *client, const char *command, const char *arguments);
/* Begin one that is not answered before something else has happened. */
void command_waits(struct qmp_client *client, const char *command, const char *arguments);
/* Wait for the reply of the command that was begun, and return its line; g_free. */
char *command_end(struct qmp_client *client);
/* Wait for it, and check that it is an empty success, or a GenericError with this text. */
void ends_well(struct qmp_client *client);
void ends_with(struct qmp_client *client, const char *desc);

/* The same for a whole command of h->client. */
char *reply(struct house *h, const char *command, const char *arguments);
void succeeds(struct house *h, const char *command, const char *arguments);
void fails(struct house *h, const char *desc, const char *command, const char *arguments);

/* All that the queries show, as one string; g_free. */
char *everything(struct house *h);

#endif
