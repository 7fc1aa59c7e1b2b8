/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * All commands, and all actions of a transaction.
 */
#include "server/control/control-private.h"

/* clang-format off */
const struct qmp_command control_commands[] = {
    {"qmp_capabilities",            qmp_capabilities_args,        .run = qmp_capabilities},
    {"query-version",               no_args,                      .run = cmd_query_version},
    {"query-commands",              no_args,                      .run = cmd_query_commands},
    {"query-name",                  no_args,                      .run = cmd_query_name},
    {"query-status",                no_args,                      .run = cmd_query_status},
    {"quit",                        no_args,                      .run = cmd_quit},

    {"query-block",                 no_args,                      .run = cmd_query_block},
    {"query-named-block-nodes",     query_named_block_nodes_args, .run = cmd_query_named_block_nodes},
    {"block_resize",                block_resize_args,            .run = cmd_block_resize},

    {"block-dirty-bitmap-add",      bitmap_add_args,              .run = control_run_action},
    {"block-dirty-bitmap-remove",   bitmap_args,                  .run = control_run_action},
    {"block-dirty-bitmap-clear",    bitmap_args,                  .run = control_run_action},
    {"block-dirty-bitmap-enable",   bitmap_args,                  .run = control_run_action},
    {"block-dirty-bitmap-disable",  bitmap_args,                  .run = control_run_action},
    {"block-dirty-bitmap-merge",    bitmap_merge_args,            .run = control_run_action},
    {"x-debug-block-dirty-bitmap-sha256", bitmap_args,            .run = cmd_bitmap_sha256},
    {"transaction",                 transaction_args,             .run = cmd_transaction},

    {"nbd-server-start",            nbd_server_start_args,        .run = cmd_nbd_server_start},
    {"nbd-server-stop",             no_args,                      .run = cmd_nbd_server_stop},
    {"query-nbd-servers",           no_args,                      .run = cmd_query_nbd_servers},
    {"block-export-add",            block_export_add_args,        .run = cmd_block_export_add},
    {"block-export-del",            block_export_del_args,        .run = cmd_block_export_del},
    {"query-block-exports",         no_args,                      .run = cmd_query_block_exports},

    {"view-create",                 view_create_args,             .run = control_run_action},
    {"view-delete",                 view_delete_args,             .run = cmd_view_delete},
    {"query-views",                 no_args,                      .run = cmd_query_views},
    {.name = NULL},
};

const struct action control_actions[] = {
    {"abort",                       no_args,                      stage_abort},
    {"block-dirty-bitmap-add",      bitmap_add_args,              stage_bitmap_add},
    {"block-dirty-bitmap-remove",   bitmap_args,                  stage_bitmap_remove},
    {"block-dirty-bitmap-clear",    bitmap_args,                  stage_bitmap_clear},
    {"block-dirty-bitmap-enable",   bitmap_args,                  stage_bitmap_enable},
    {"block-dirty-bitmap-disable",  bitmap_args,                  stage_bitmap_disable},
    {"block-dirty-bitmap-merge",    bitmap_merge_args,            stage_bitmap_merge},
    {"view-create",                 view_create_args,             stage_view_create},
    {NULL, NULL, NULL},
};
/* clang-format on */
