/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdkit_read_password(3): a secret from the command line, a file, a descriptor or the terminal. */
#include "server/backend/plugin-private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

static atomic_bool stdio_taken;

void plugin_set_stdio_taken(void)
{
    atomic_store(&stdio_taken, true);
}

int nbdkit_stdio_safe(void)
{
    struct plugin_call *c = plugin_call_current();

    return c && !c->plugin->configured && !c->plugin->late && !atomic_load(&stdio_taken);
}

/* The first line of `in` without its line feed, malloc'ed. An empty file is an empty password. */
static char *read_line(FILE *in, const char *what)
{
    char *line = NULL;
    size_t allocated = 0;

    errno = 0;
    ssize_t n = getline(&line, &allocated, in);
    if (n < 0 && !feof(in)) {
        nbdkit_error("could not read password from %s: %m", what);
        free(line);
        return NULL;
    }
    if (n < 0) {
        free(line);
        line = strdup("");
        if (!line)
            nbdkit_error("could not read password from %s: %m", what);
        return line;
    }
    if (n > 0 && line[n - 1] == '\n')
        line[n - 1] = '\0';
    return line;
}

/* Takes over `fd`. */
static char *read_from(int fd, const char *what)
{
    FILE *in = fdopen(fd, "r");

    if (!in) {
        nbdkit_error("could not read password from %s: %m", what);
        close(fd);
        return NULL;
    }
    char *line = read_line(in, what);
    fclose(in);
    return line;
}

static char *read_from_terminal(void)
{
    struct termios before, silent;

    if (!nbdkit_stdio_safe()) {
        nbdkit_error("stdin is not available for reading a password");
        return NULL;
    }
    if (tcgetattr(STDIN_FILENO, &before) < 0) {
        nbdkit_error("stdin is not a terminal: cannot ask for a password");
        return NULL;
    }
    printf("password: ");
    fflush(stdout);
    silent = before;
    silent.c_lflag &= ~(tcflag_t)ECHO;
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
    char *line = read_line(stdin, "the terminal");
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
    putchar('\n');
    return line;
}

static char *read_from_number(const char *number)
{
    int fd;

    if (nbdkit_parse_int("password file descriptor", number, &fd) < 0)
        return NULL;
    if (fd <= STDERR_FILENO) {
        nbdkit_error("cannot read a password from file descriptor %d", fd);
        return NULL;
    }
    return read_from(fd, number);
}

static char *read_from_file(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        nbdkit_error("open: %s: %m", path);
        return NULL;
    }
    return read_from(fd, path);
}

int nbdkit_read_password(const char *value, char **password)
{
    if (value[0] == '-' && !value[1])
        *password = read_from_terminal();
    else if (value[0] == '-')
        *password = read_from_number(value + 1);
    else if (value[0] == '+')
        *password = read_from_file(value + 1);
    else if (!(*password = strdup(value)))
        nbdkit_error("password: %m");
    return *password ? 0 : -1;
}
