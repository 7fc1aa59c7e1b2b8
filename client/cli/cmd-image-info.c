/* SPDX-License-Identifier: BSD-3-Clause */
/* fleecectl image info: what a qcow2 image says of itself. */
#include "client/cli/command.h"
#include "client/cli/image-print.h"

struct info_options {
    gboolean chain;
};

static int run_image_info(struct client *c, const void *options, char **args, GError **err)
{
    const struct info_options *io = options;

    return c->json ? image_print_json(c, args[0], io->chain, err)
                   : image_print_text(c, args[0], io->chain, err);
}

static const struct option info_options[] = {
    {"backing-chain", 0, OPTION_FLAG, NULL, offsetof(struct info_options, chain),
     "and of each backing file below it"},
    {NULL},
};

const struct command cmd_image_info = {
    .name = "image info",
    .synopsis = "FILE [--backing-chain]",
    .summary = "what a qcow2 image is: sizes, features, snapshots, bitmaps",
    .help = "With --json the fields are those of `qemu-img info --output=json`. An image that\n"
            "is in use may be changed meanwhile. No control socket is needed.\n",
    .min_args = 1,
    .max_args = 1,
    .options = info_options,
    .options_size = sizeof(struct info_options),
    .run = run_image_info,
};
