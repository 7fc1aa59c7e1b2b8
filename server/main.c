/* SPDX-License-Identifier: BSD-3-Clause */
#include "config.h"

#include "common/log.h"
#include "server/info.h"
#include "server/options.h"
#include "server/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { EXIT_USAGE = 2 };

static char *read_file(const char *path, GError **err)
{
    char *text;

    return g_file_get_contents(path, &text, NULL, err) ? text : NULL;
}

int main(int argc, char **argv)
{
    pid_t parent = getppid();
    g_autoptr(GError) err = NULL;
    struct options *o = options_parse(argc, argv, read_file, &err);
    int code;

    if (o == NULL) {
        bool is_usage = g_error_matches(err, OPTIONS_ERROR, OPTIONS_ERROR_USAGE);

        log_error("%s", err->message);
        if (is_usage)
            fputs("Use 'nbdfleece --help', or read nbdfleece(1).\n", stderr);
        return is_usage ? EXIT_USAGE : EXIT_FAILURE;
    }
    log_setup(o->log, PACKAGE_NAME, o->verbose);
    code = o->action == ACTION_SERVE ? run_server(o, parent) : info_show(o);
    options_free(o);
    return code;
}
