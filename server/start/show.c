/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/start/show.h"

#include "common/util/log.h"
#include "server/nbd/tls-credentials.h"
#include "server/start/command-line.h"
#include "server/start/disks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One KEY=VALUE a line, sorted, as in nbdkit; nbdkit-probing(1) says what programs look at. */
static void dump_config(void)
{
    printf("bindir=%s\n", BINDIR);
    printf("exit_with_parent=yes\n");
    printf("host_cpu=%s\n", HOST_CPU);
    printf("host_os=%s\n", HOST_OS);
    printf("mandir=%s\n", MANDIR);
    printf("max_api_version=2\n");
    printf("name=%s\n", PACKAGE_NAME);
    printf("nbdkit_plugindir=%s\n", NBDKIT_PLUGINDIR);
    printf("plugindir=%s\n", PLUGINDIR);
    printf("root_tls_certificates_dir=%s\n", TLS_CERTIFICATES_OF_ROOT);
    printf("run_default_socket=Unix\n");
    printf("selinux=yes\n");
    printf("soext=so\n");
    printf("timeout_option=yes\n");
    printf("tls=yes\n");
    printf("version=%s\n", PACKAGE_VERSION);
    printf("version_major=%d\n", atoi(PACKAGE_VERSION));
    printf("version_minor=%d\n", atoi(strchr(PACKAGE_VERSION, '.') + 1));
    printf("vsock_option=yes\n");
}

/* Call `show_program` (NULL: do not), then `show` for every plugin of the command line, each taken
 * as far as `until`. If a plugin cannot be had, only the error is told. */
static int show_plugins(const struct options *o, enum disks_until until,
                        void (*show_program)(FILE *out), void (*show)(struct backend *b, FILE *out))
{
    g_autoptr(GError) err = NULL;
    g_autoptr(GPtrArray) backends = disks_load(o, until, &err);

    if (!backends) {
        log_error("%s", err->message);
        return EXIT_FAILURE;
    }
    if (show_program)
        show_program(stdout);
    for (unsigned i = 0; i < backends->len; i++)
        show(backends->pdata[i], stdout);
    disks_free(backends);
    return EXIT_SUCCESS;
}

static void show_plugin_help(struct backend *b, FILE *out)
{
    putc('\n', out);
    plugin_help(b, out);
}

static void show_version(FILE *out)
{
    fprintf(out, "%s %s\n", PACKAGE_NAME, PACKAGE_VERSION);
}

int show_information(const struct options *o)
{
    int code = EXIT_SUCCESS;

    switch (o->action) {
    case ACTION_HELP:
        code = show_plugins(o, DISKS_LOAD, command_line_print_help, show_plugin_help);
        break;
    case ACTION_VERSION:
        code = show_plugins(o, DISKS_LOAD, show_version, plugin_version);
        break;
    case ACTION_DUMP_CONFIG:
        dump_config();
        break;
    case ACTION_DUMP_PLUGIN:
        code = show_plugins(o, DISKS_CONFIGURE, NULL, plugin_dump);
        break;
    case ACTION_SHORT_OPTIONS:
        command_line_print_short(stdout);
        break;
    case ACTION_LONG_OPTIONS:
        command_line_print_long(stdout);
        break;
    case ACTION_SERVE:
        break;
    }
    if (fflush(stdout) == EOF || ferror(stdout)) {
        log_error("standard output: %m");
        code = EXIT_FAILURE;
    }
    return code;
}
