/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Joins a TCP port to a Unix socket, in a guest that has no other program for it:
 *
 *     relay PORT SOCKET
 *
 * One client after the other; each has a connection of its own to the socket. It goes to the
 * background when clients can connect.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int fail(const char *what)
{
    perror(what);
    return -1;
}

static int listen_on(const char *port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    int s = socket(AF_INET, SOCK_STREAM, 0);

    if (s < 0 || bind(s, (struct sockaddr *)&at, sizeof at) < 0 || listen(s, 1) < 0)
        return fail(port);
    return s;
}

static int connect_to(const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int s = socket(AF_UNIX, SOCK_STREAM, 0);

    strncpy(at.sun_path, path, sizeof at.sun_path - 1);
    if (s < 0 || connect(s, (struct sockaddr *)&at, sizeof at) < 0)
        return fail(path);
    return s;
}

/* Pass on what has come. False: that was the end. */
static int pass(int from, int to)
{
    char piece[4096];
    ssize_t n = read(from, piece, sizeof piece);

    for (ssize_t done = 0, w; done < n; done += w) {
        w = write(to, piece + done, (size_t)(n - done));
        if (w < 0)
            return 0;
    }
    return n > 0;
}

static void join(int a, int b)
{
    struct pollfd ends[2] = {{a, POLLIN, 0}, {b, POLLIN, 0}};

    while (poll(ends, 2, -1) > 0) {
        if (ends[0].revents && !pass(a, b))
            return;
        if (ends[1].revents && !pass(b, a))
            return;
    }
}

int main(int argc, char **argv)
{
    int listener = argc == 3 ? listen_on(argv[1]) : -1;

    if (listener < 0)
        return 1;
    if (fork() > 0)
        return 0;
    for (;;) {
        int client = accept(listener, NULL, NULL), server = connect_to(argv[2]);

        if (client >= 0 && server >= 0)
            join(client, server);
        close(client);
        close(server);
    }
}
