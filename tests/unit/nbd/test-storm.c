/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Several clients at once, each with a queue of random requests, right and wrong, on a disk that
 * sometimes promises not to block and sometimes does not: every request is answered once, with the
 * data that its own client has written.
 */
#include "tests/rigs/nbd-rig.h"

#include <string.h>
#include <sys/socket.h>

#define CLIENTS  4
#define REQUESTS 5000
#define DEPTH    24
#define BLOCK    4096u
#define BLOCKS   256u /* of each client: its own region */

struct slot {
    uint16_t type;
    uint32_t length;
    unsigned block;
    uint8_t expected[4]; /* what each block of a read holds */
    uint32_t error;
    uint32_t got;
    bool used;
};

struct storm {
    struct rig *rig;
    guint32 seed;
    unsigned number;
    bool structured;
    uint8_t content[BLOCKS]; /* each block is filled with one byte */
    bool busy[BLOCKS];       /* a request on it is under way */
    struct slot slots[DEPTH];
    unsigned under_way;
};

/* The number of free blocks from `block` on, up to four: blocks that no request works on. */
static unsigned free_run(const struct storm *s, unsigned block)
{
    unsigned n = 0;

    while (n < 4 && block + n < BLOCKS && !s->busy[block + n])
        n++;
    return n;
}

static void mark(struct storm *s, const struct slot *t, bool busy)
{
    for (unsigned i = 0; i < t->length / BLOCK; i++)
        s->busy[t->block + i] = busy;
}

static uint64_t place(const struct storm *s, unsigned block)
{
    return ((uint64_t)s->number * BLOCKS + block) * BLOCK;
}

static void send_write(struct storm *s, struct client *c, struct slot *t, uint64_t cookie,
                       uint8_t byte)
{
    g_autofree uint8_t *data = g_malloc(t->length);

    memset(data, byte, t->length);
    client_request(c, 0, NBD_CMD_WRITE, cookie, place(s, t->block), t->length);
    client_send(c, data, t->length);
    memset(s->content + t->block, byte, t->length / BLOCK);
}

static void send_one(struct storm *s, struct client *c, GRand *rand, unsigned index)
{
    struct slot *t = &s->slots[index];
    unsigned block = (unsigned)g_rand_int_range(rand, 0, BLOCKS), run = free_run(s, block);
    int kind = g_rand_int_range(rand, 0, 10);
    uint64_t cookie = index;

    *t = (struct slot){.used = true, .block = block, .length = run * BLOCK};
    s->under_way++;
    if (kind == 0 || run == 0) {
        t->length = 0;
        t->type = 99;
        t->error = NBD_EINVAL;
        client_request(c, 0, t->type, cookie, 0, 512);
        return;
    }
    mark(s, t, true);
    if (kind < 5) {
        t->type = NBD_CMD_READ;
        memcpy(t->expected, s->content + block, run);
        client_request(c, 0, t->type, cookie, place(s, block), t->length);
    } else if (kind < 9) {
        t->type = NBD_CMD_WRITE;
        send_write(s, c, t, cookie, (uint8_t)g_rand_int(rand));
    } else {
        t->type = NBD_CMD_WRITE_ZEROES;
        memset(s->content + block, 0, run);
        client_request(c, 0, t->type, cookie, place(s, block), t->length);
    }
}

static void check_data(const struct slot *t, const struct answer *a)
{
    for (uint32_t i = 0; i < a->length; i++)
        g_assert_cmpuint(a->payload[i], ==, t->expected[(t->got + i) / BLOCK]);
}

static void receive_one(struct storm *s, struct client *c)
{
    /* Simple replies to reads have a length that only the cookie tells: peek at it. */
    uint8_t header[16];
    g_assert_cmpint(recv(c->fd, header, sizeof header, MSG_PEEK | MSG_WAITALL), ==, 16);
    uint64_t cookie = load_be64(header + 8);
    g_assert_cmpuint(cookie, <, DEPTH);
    struct slot *t = &s->slots[cookie];
    g_assert_true(t->used);
    struct answer a = client_answer(c, t->type == NBD_CMD_READ ? t->length : 0);

    g_assert_cmpuint(a.error, ==, t->error);
    if (t->type == NBD_CMD_READ && a.error == 0) {
        check_data(t, &a);
        t->got += a.length;
    }
    if (a.simple || (a.flags & NBD_REPLY_FLAG_DONE)) {
        if (t->type == NBD_CMD_READ)
            g_assert_cmpuint(t->got, ==, t->length);
        mark(s, t, false);
        t->used = false;
        s->under_way--;
    }
    g_free(a.payload);
}

static void *storm_client(void *storm)
{
    struct storm *s = storm;
    GRand *rand = g_rand_new_with_seed(s->seed);
    struct client c = rig_go(s->rig, s->structured);

    for (unsigned sent = 0; sent < REQUESTS || s->under_way > 0;) {
        unsigned index = 0;
        while (index < DEPTH && s->slots[index].used)
            index++;
        if (sent < REQUESTS && index < DEPTH) {
            send_one(s, &c, rand, index);
            sent++;
            if (sent % 50 == 0)
                fake_never_promise(s->rig->registry, g_rand_boolean(rand));
        } else {
            receive_one(s, &c);
        }
    }
    client_request(&c, 0, NBD_CMD_DISC, 0, 0, 0);
    client_expect_end(&c);
    client_close(&c);
    g_rand_free(rand);
    return NULL;
}

static void test_storm(void)
{
    struct rig r;
    pthread_t threads[CLIENTS];
    static struct storm storms[CLIENTS];

    rig_begin(&r, NULL);
    for (unsigned i = 0; i < CLIENTS; i++) {
        storms[i] = (struct storm){.rig = &r,
                                   .seed = (guint32)g_test_rand_int(), /* GLib prints its seed */
                                   .number = i,
                                   .structured = i % 2};
        g_assert_cmpint(pthread_create(&threads[i], NULL, storm_client, &storms[i]), ==, 0);
    }
    for (unsigned i = 0; i < CLIENTS; i++)
        pthread_join(threads[i], NULL);
    rig_wait_gone(&r, CLIENTS);
    for (unsigned i = 0; i < CLIENTS; i++) {
        for (unsigned b = 0; b < BLOCKS; b++)
            g_assert_cmpuint(fake_bytes(r.disk)[place(&storms[i], b)], ==, storms[i].content[b]);
    }
    rig_end(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nbd-storm", test_storm);
    return g_test_run();
}
