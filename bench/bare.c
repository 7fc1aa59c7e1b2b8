/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A bare NBD loop, to see how fast this machine can serve one raw file at all: the column
 * "bare loop" of `make bench`. It is no server for anybody.
 *
 *     bare SOCKET IMAGE        serves until SIGTERM; a line on standard output says it is ready
 *
 * A thread a connection, with nothing shared but the file. It receives as much as there is into
 * one buffer, does every whole request in it with an inline pread or pwrite, gathers the replies
 * in another buffer, and sends them together once nothing more is at hand. Nothing is tracked,
 * nothing is locked or handed over to another thread, simple replies only; of options it knows
 * NBD_OPT_GO and NBD_OPT_ABORT, of commands read, write, flush and disc. A client that breaks the
 * protocol loses its connection.
 *
 * The numbers of the protocol are from NetworkBlockDevice/nbd, doc/proto.md.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define OPTION_MAGIC       UINT64_C(0x49484156454F5054)
#define OPTION_REPLY_MAGIC UINT64_C(0x3e889045565a9)
#define REQUEST_MAGIC      UINT32_C(0x25609513)
#define REPLY_MAGIC        UINT32_C(0x67446698)

enum { OPT_ABORT = 2, OPT_GO = 7 };
enum { REP_ACK = 1, REP_INFO = 3 };
#define REP_ERR_UNSUP UINT32_C(0x80000001)
enum { CMD_READ = 0, CMD_WRITE = 1, CMD_DISC = 2, CMD_FLUSH = 3 };
enum { HAS_FLAGS = 1 << 0, SEND_FLUSH = 1 << 2, CAN_MULTI_CONN = 1 << 8 };

enum {
    SOCKET_BUFFER = 4 << 20,    /* takes a large reply at once, if the kernel allows it */
    MAX_PAYLOAD = 1 << 20,      /* more than this in one request ends the connection */
    IN_SIZE = 2 << 20,          /* holds two requests of that size */
    OUT_SIZE = 1 << 17,         /* replies are sent once they are as many bytes */
    OUT_ROOM = MAX_PAYLOAD + 16 /* bytes that always fit behind them */
};

struct request {
    uint32_t magic;
    uint16_t flags;
    uint16_t type;
    uint64_t cookie;
    uint64_t offset;
    uint32_t length;
} __attribute__((packed));

struct reply {
    uint32_t magic;
    uint32_t error;
    uint64_t cookie;
} __attribute__((packed));

struct image {
    int fd;
    uint64_t size;
};

struct connection {
    int fd;
    const struct image *image;
    uint8_t *in; /* bytes [in_at, in_end) have been received and not been used yet */
    size_t in_at, in_end;
    uint8_t *out; /* bytes [0, out_end) are to be sent */
    size_t out_end;
};

static void die(const char *what)
{
    perror(what);
    exit(EXIT_FAILURE);
}

static bool send_out(struct connection *c)
{
    for (size_t at = 0; at < c->out_end;) {
        ssize_t sent = send(c->fd, c->out + at, c->out_end - at, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return false;
        at += (size_t)sent;
    }
    c->out_end = 0;
    return true;
}

static void put_out(struct connection *c, const void *data, size_t length)
{
    memcpy(c->out + c->out_end, data, length);
    c->out_end += length;
}

/* Receive until `length` bytes are there, at most MAX_PAYLOAD and a request. Pending replies are
 * sent first, because the client may wait for them. */
static bool want(struct connection *c, size_t length)
{
    if (c->in_end - c->in_at >= length)
        return true;
    if (!send_out(c))
        return false;
    if (c->in_at == c->in_end) {
        c->in_at = c->in_end = 0;
    } else if (IN_SIZE - c->in_at < length) {
        memmove(c->in, c->in + c->in_at, c->in_end - c->in_at);
        c->in_end -= c->in_at;
        c->in_at = 0;
    }
    while (c->in_end - c->in_at < length) {
        ssize_t got = recv(c->fd, c->in + c->in_end, IN_SIZE - c->in_end, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        c->in_end += (size_t)got;
    }
    return true;
}

static const void *take(struct connection *c, size_t length)
{
    const void *data = c->in + c->in_at;
    c->in_at += length;
    return data;
}

static void put_option_reply(struct connection *c, uint32_t option, uint32_t type, const void *data,
                             uint32_t length)
{
    struct {
        uint64_t magic;
        uint32_t option, type, length;
    } __attribute__((packed))
    head = {htobe64(OPTION_REPLY_MAGIC), option, htobe32(type), htobe32(length)};
    put_out(c, &head, sizeof head);
    put_out(c, data, length);
}

/* The fixed newstyle handshake; the name of the export does not matter. */
static bool negotiate(struct connection *c)
{
    put_out(c, "NBDMAGICIHAVEOPT\0\3", 18); /* fixed newstyle, no zeroes */
    if (!want(c, 4))
        return false;
    take(c, 4);
    for (;;) {
        struct {
            uint64_t magic;
            uint32_t option, length;
        } __attribute__((packed)) head;
        if (!want(c, sizeof head))
            return false;
        memcpy(&head, take(c, sizeof head), sizeof head);
        uint32_t length = be32toh(head.length);
        if (be64toh(head.magic) != OPTION_MAGIC || length > MAX_PAYLOAD || !want(c, length))
            return false;
        take(c, length);
        switch (be32toh(head.option)) {
        case OPT_GO: {
            struct {
                uint16_t info;
                uint64_t size;
                uint16_t flags;
            } __attribute__((packed))
            info = {0, htobe64(c->image->size), htobe16(HAS_FLAGS | SEND_FLUSH | CAN_MULTI_CONN)};
            put_option_reply(c, head.option, REP_INFO, &info, sizeof info);
            put_option_reply(c, head.option, REP_ACK, "", 0);
            return send_out(c);
        }
        case OPT_ABORT:
            put_option_reply(c, head.option, REP_ACK, "", 0);
            send_out(c);
            return false;
        default:
            put_option_reply(c, head.option, REP_ERR_UNSUP, "", 0);
            if (c->out_end >= OUT_SIZE && !send_out(c))
                return false;
        }
    }
}

/* Do one request, whose payload is at `data`; a read's data goes to `out`. Returns its error in the
 * protocol's numbers, which for EIO and EINVAL are those of Linux. */
static uint32_t perform(const struct image *image, unsigned type, uint64_t offset, uint32_t length,
                        const void *data, void *out)
{
    if (type == CMD_FLUSH)
        return fdatasync(image->fd) < 0 ? EIO : 0;
    if (type > CMD_WRITE || offset > image->size || length > image->size - offset)
        return EINVAL;
    for (uint32_t done = 0; done < length;) {
        ssize_t n = type == CMD_READ ? pread(image->fd, (char *)out + done, length - done,
                                             (off_t)(offset + done))
                                     : pwrite(image->fd, (const char *)data + done, length - done,
                                              (off_t)(offset + done));
        if (n <= 0)
            return EIO;
        done += (uint32_t)n;
    }
    return 0;
}

static void transmit(struct connection *c)
{
    struct request request;
    while (want(c, sizeof request)) {
        memcpy(&request, take(c, sizeof request), sizeof request);
        unsigned type = be16toh(request.type);
        uint32_t length = be32toh(request.length);
        if (be32toh(request.magic) != REQUEST_MAGIC || length > MAX_PAYLOAD || type == CMD_DISC)
            return;
        uint32_t payload = type == CMD_WRITE ? length : 0;
        if (!want(c, payload))
            return;

        struct reply reply = {htobe32(REPLY_MAGIC), 0, request.cookie};
        uint8_t *out = c->out + c->out_end + sizeof reply;
        uint32_t error =
            perform(c->image, type, be64toh(request.offset), length, take(c, payload), out);
        reply.error = htobe32(error);
        put_out(c, &reply, sizeof reply);
        if (type == CMD_READ && error == 0)
            c->out_end += length;
        if (c->out_end >= OUT_SIZE && !send_out(c))
            return;
    }
}

static void *serve(void *opaque)
{
    struct connection *c = opaque;
    int size = SOCKET_BUFFER;
    if (setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size) < 0)
        die("SO_SNDBUF");
    if (negotiate(c))
        transmit(c);
    close(c->fd);
    free(c->in);
    free(c->out);
    free(c);
    return NULL;
}

static int listen_at(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        die(path);
    }
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 64) < 0)
        die(path);
    return fd;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: bare SOCKET IMAGE\n");
        return 2;
    }
    struct image image = {.fd = open(argv[2], O_RDWR | O_CLOEXEC)};
    struct stat st;
    if (image.fd < 0 || fstat(image.fd, &st) < 0)
        die(argv[2]);
    image.size = (uint64_t)st.st_size;
    int listener = listen_at(argv[1]);
    puts("ready");
    if (fflush(stdout) == EOF)
        die("standard output");
    for (;;) {
        struct connection *c = calloc(1, sizeof *c);
        if (!c || !(c->in = malloc(IN_SIZE)) || !(c->out = malloc(OUT_SIZE + OUT_ROOM)))
            die("memory");
        c->image = &image;
        c->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        pthread_t thread;
        if (c->fd < 0 || (errno = pthread_create(&thread, NULL, serve, c)) != 0)
            die("accept");
        pthread_detach(thread);
    }
}
