/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/control/lookup.h"
#include "common/util/error.h"

const struct arg control_bitmap_args[] = {ARG("node", ARG_STRING), ARG("name", ARG_STRING),
                                          ARGS_END};
const struct arg control_bitmap_or_string = {
    .type = ARG_ALTERNATE, .of = control_bitmap_args, .alternate = "BlockDirtyBitmapOrStr"};

struct node *control_lookup_device(struct server *s, const char *device, const char *node_name,
                                   GError **err)
{
    struct node *n = device ? server_find_node(s, device) : NULL;

    if (!n && node_name)
        n = server_find_node(s, node_name);
    if (!n)
        fail(err, "Cannot find device='%s' nor node-name='%s'", device ? device : "",
             node_name ? node_name : "");
    return n;
}

struct disk *control_lookup_bitmap_disk(struct server *s, const char *node, const char *bitmap,
                                        GError **err)
{
    struct node *n = server_find_node(s, node);
    struct disk *d = n ? node_to_disk(n) : NULL;

    if (!n)
        fail(err, "Node '%s' not found", node);
    else if (!d)
        fail(err, "Dirty bitmap '%s' not found", bitmap);
    return d;
}

int control_check_granularity(JsonObject *data, GError **err)
{
    int64_t granularity = arg_int(data, "granularity", BITMAP_MIN_GRANULARITY);

    if (granularity < BITMAP_MIN_GRANULARITY || (granularity & (granularity - 1)) != 0)
        return fail(err, "Granularity must be power of 2 and at least 512");
    return 0;
}
