/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/util/log.h"
#include "server/start/command-line.h"
#include "server/start/run.h"
#include "server/start/show.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { EXIT_USAGE = 2 };

static char *read_file(const char *path, GError **err)
{
    char *text;

    return g_file_get_contents(path, &text, NULL, err) ? text : NULL;
}

/* Where one of these is closed, the next thing opened would take its number: messages would go into
 * a disk's image, and going to the background would close it. */
static void open_standard_descriptors(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDONLY); /* who writes is to hear that it is in vain */
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

/* glibc gives threads heaps of their own, eight a processor, and each keeps what its threads once
 * held for requests: 80 KiB for every client that has become idle. One a processor is enough. */
static void limit_heaps(void)
{
    mallopt(M_ARENA_MAX, (int)CLAMP(g_get_num_processors(), 1, 8));
}

int main(int argc, char **argv)
{
    pid_t parent = getppid();
    g_autoptr(GError) err = NULL;
    struct options *o;
    int code;

    open_standard_descriptors();
    limit_heaps();
    o = command_line_parse(argc, argv, read_file, &err);
    if (!o) {
        bool is_usage = g_error_matches(err, OPTIONS_ERROR, OPTIONS_ERROR_USAGE);

        log_error("%s", err->message);
        if (is_usage)
            fputs("Use 'nbdfleece --help', or read nbdfleece(1).\n", stderr);
        return is_usage ? EXIT_USAGE : EXIT_FAILURE;
    }
    log_setup(o->log, PACKAGE_NAME, o->verbose);
    code = o->action == ACTION_SERVE ? run_server(o, parent) : show_information(o);
    options_free(o);
    return code;
}
