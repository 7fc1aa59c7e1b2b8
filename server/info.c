/* SPDX-License-Identifier: BSD-3-Clause */
#include "config.h"

#include "server/info.h"

#include "common/log.h"
#include "server/nbd/tls-credentials.h"
#include "server/plugins.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One KEY=VALUE a line, sorted, like nbdkit's; nbdkit-probing(1) says what programs look at. */
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

/* Every plugin of the command line, configured but not completed, to `show`. */
static int show_plugins(const struct options *o, void (*show)(struct backend *b, FILE *out))
{
    g_autoptr(GError) err = NULL;
    g_autoptr(GPtrArray) backends = plugins_load(o, PLUGINS_CONFIGURE, &err);

    if (backends == NULL) {
        log_error("%s", err->message);
        return EXIT_FAILURE;
    }
    for (unsigned i = 0; i < backends->len; i++)
        show(backends->pdata[i], stdout);
    plugins_free(backends);
    return EXIT_SUCCESS;
}

static int show_help(const struct options *o)
{
    options_print_help(stdout);
    if (o->disks->len == 0)
        return EXIT_SUCCESS;
    putchar('\n');
    return show_plugins(o, plugin_help);
}

int info_show(const struct options *o)
{
    int code = EXIT_SUCCESS;

    switch (o->action) {
    case ACTION_HELP:
        code = show_help(o);
        break;
    case ACTION_VERSION:
        printf("%s %s\n", PACKAGE_NAME, PACKAGE_VERSION);
        break;
    case ACTION_DUMP_CONFIG:
        dump_config();
        break;
    case ACTION_DUMP_PLUGIN:
        code = show_plugins(o, plugin_dump);
        break;
    case ACTION_SHORT_OPTIONS:
        options_print_short(stdout);
        break;
    case ACTION_LONG_OPTIONS:
        options_print_long(stdout);
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
