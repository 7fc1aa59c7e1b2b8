/* SPDX-License-Identifier: BSD-3-Clause */
/* What is in a state folder, as text and as JSON. */
#ifndef CLIENT_CLI_STATE_PRINT_H
#define CLIENT_CLI_STATE_PRINT_H

#include "client/cli/client.h"
#include "client/state/survey.h"

/* Tables of the disks, of the bitmaps, and of checkpoints and sessions where there are some. */
void state_print(struct client *c, const survey *s);
/* Add the members `disks`, `checkpoints` and `sessions` to the object that is being built. */
void state_print_json(JsonBuilder *b, const survey *s);

/* Recover as the next start of a server does. A note on standard error says what that was. -1 and
 * *err: the folder cannot be used. */
int state_recover_told(const offline *o, GError **err);

#endif
