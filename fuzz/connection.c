/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A whole connection: the real server on a socket pair, over disks in memory (fake-registry.h).
 *
 * An input is a script, so that nearly every input gets far. It has three bytes that choose the
 * export and the client's manner; then options that come before GO; then requests until the input
 * ends. At least half of the time a field comes from a short list of meaningful values. Two bits
 * leave the grammar: all bytes that follow are sent as they are.
 *
 * What must hold, beside what talk.h checks: every request before DISC or the end of the input is
 * answered exactly once, unless what we sent made no sense. An option that is refused leaves the
 * stream in sync. If requests are sent one at a time, reads give what is on the disk, and writes
 * are on it. The connection ends, and gives its descriptors and its export back.
 */
#include "fuzz/talk.h"

#include <errno.h>
#include <sys/socket.h>

const char fuzz_name[] = "connection";

/* The most bytes that the requests of one input may transfer. */
#define BYTES_MAX (5u << 20)

/* ---- the server ---- */

static const struct {
    const char *name;
    struct node_info info;
} disks[] = {
    {"disk",
     {.size = 4 << 20,
      .can_trim = true,
      .can_flush = true,
      .can_fua = true,
      .can_fast_zero = true,
      .can_cache = true,
      .can_multi_conn = true}},
    {"blocks", {.size = 1 << 20, .min_block = 4096, .can_flush = true, .can_trim = true}},
    {"readonly", {.size = 65536, .readonly = true, .can_cache = true}},
    {"trimmed", {.size = 65536, .readonly = true, .can_trim = true}},
    {"odd", {.size = 1000, .can_flush = true, .can_fua = true}},
    {"empty", {.size = 0, .can_flush = true}},
    {"broken", {.size = 65536, .can_trim = true, .can_fast_zero = true}},
};
#define N_DISKS G_N_ELEMENTS(disks)

struct stage {
    struct rig rig;
    struct export *exports[N_DISKS];
    unsigned connections; /* so far */
    int highest;          /* descriptor that a connection's client had */
};

static void stage_begin(struct stage *s)
{
    static const struct nbd_options options = {
        .handshake_timeout = 60, .max_connections = 100, .threads = 4, .mask_handshake = 0xffff};

    memset(s, 0, sizeof *s);
    rig_begin(&s->rig, &options);
    fake_remove(s->rig.registry, s->rig.disk, false); /* the rig's own is too large */
    for (unsigned i = 0; i < N_DISKS; i++) {
        struct export *e = fake_add(s->rig.registry, disks[i].name, &disks[i].info);
        s->exports[i] = e;
        fake_add_bitmap(e, "clean", 0);
        struct dirty_bitmap *db = fake_add_bitmap(e, "fine", 512);
        if (i == N_DISKS - 1)
            fake_break_bitmap(db);
        fake_allocation(e, 1536, i % 3);
    }
    fake_fail(s->rig.registry, 8192, EIO);
    fake_fail(s->rig.registry, 12288, ENOSPC);
}

/* All inputs share one stage, because each connection starts with threads and buffers of its own. */
static struct stage *the_stage(void)
{
    static struct stage stage;

    if (stage.rig.nbd == NULL)
        stage_begin(&stage);
    return &stage;
}

/* ---- options ---- */

static void append_u32(GByteArray *out, uint32_t value)
{
    uint8_t be[4];

    store_be32(be, value);
    g_byte_array_append(out, be, sizeof be);
}

static void append_string(GByteArray *out, const char *text, size_t length)
{
    append_u32(out, (uint32_t)length);
    g_byte_array_append(out, (const uint8_t *)text, (guint)length);
}

static void append_some(GByteArray *out, struct supply *s, size_t most)
{
    size_t got;
    const uint8_t *bytes = take_bytes(s, most, &got);

    if (got > 0)
        g_byte_array_append(out, bytes, (guint)got);
}

static const char *export_name(uint8_t i)
{
    return i < N_DISKS ? disks[i].name : i == N_DISKS ? "" : "nobody";
}

static void append_query(GByteArray *out, struct supply *s)
{
    static const char *const queries[] = {"base:allocation",
                                          "qemu:dirty-bitmap:fine",
                                          "qemu:dirty-bitmap:clean",
                                          "base:",
                                          "qemu:",
                                          "qemu:dirty-bitmap:",
                                          "qemu:dirty-",
                                          "x-other:leaf"};
    uint8_t which = take_u8(s);

    if (which & 0x80) {
        size_t got;
        const char *own = (const char *)take_bytes(s, which & 31, &got);
        append_string(out, got > 0 ? own : "", got);
    } else {
        const char *query = queries[which % G_N_ELEMENTS(queries)];
        append_string(out, query, strlen(query));
    }
}

/* The data of an option, well formed for it or not. */
static void append_option_data(GByteArray *out, uint32_t option, uint8_t shape, struct supply *s)
{
    const char *name = export_name(shape & 15);

    if (shape & 0x40) {
        append_some(out, s, take_u8(s));
    } else if (option == NBD_OPT_GO || option == NBD_OPT_INFO) {
        append_string(out, name, strlen(name));
        uint8_t n = take_u8(s) & 7, be[2];
        store_be16(be, n);
        g_byte_array_append(out, be, 2);
        for (uint16_t i = 0; i < n; i++) {
            store_be16(be, i);
            g_byte_array_append(out, be, 2);
        }
    } else if (option == NBD_OPT_LIST_META_CONTEXT || option == NBD_OPT_SET_META_CONTEXT) {
        append_string(out, name, strlen(name));
        uint8_t n = take_u8(s) & 7;
        append_u32(out, n);
        for (unsigned i = 0; i < n; i++)
            append_query(out, s);
    } else if (option == NBD_OPT_EXPORT_NAME) {
        g_byte_array_append(out, (const uint8_t *)name, (guint)strlen(name));
    }
    if (shape & 0x20) /* one byte too many, or too few */
        g_byte_array_set_size(out, out->len ^ 1);
}

/* Send an option of the script and take the answer. false: no further option. */
static bool one_option(struct talk *t, struct supply *s)
{
    uint8_t which = take_u8(s), shape = take_u8(s);
    uint32_t option = which & 0x80 ? take_u32(s) : which & 15u;
    GByteArray *data = g_byte_array_new();

    append_option_data(data, option, shape, s);
    talk_say_option(t, option, data->data, data->len);
    bool more = talk_option_replies(t, option, data->data, data->len);
    g_byte_array_unref(data);
    return more;
}

static bool simple_option(struct talk *t, uint32_t option, const GByteArray *data)
{
    const uint8_t *bytes = data != NULL ? data->data : NULL;
    uint32_t length = data != NULL ? data->len : 0;

    talk_say_option(t, option, bytes, length);
    return talk_option_replies(t, option, bytes, length);
}

/* Enter transmission as clients do. Bits of `manner` choose the options. */
static void enter(struct talk *t, unsigned disk, uint8_t manner)
{
    static const char *const queries[] = {"base:allocation", "qemu:dirty-bitmap:fine",
                                          "qemu:dirty-bitmap:clean"};
    const char *name = disks[disk].name;
    GByteArray *data = g_byte_array_new();

    if (manner & 1)
        simple_option(t, NBD_OPT_STRUCTURED_REPLY, NULL);
    if (manner & 2)
        simple_option(t, NBD_OPT_EXTENDED_HEADERS, NULL);
    if (manner & 12) {
        unsigned n = manner >> 2 & 3;
        append_string(data, name, strlen(name));
        append_u32(data, n);
        for (unsigned i = 0; i < n; i++)
            append_string(data, queries[i], strlen(queries[i]));
        simple_option(t, NBD_OPT_SET_META_CONTEXT, data);
        g_byte_array_set_size(data, 0);
    }
    if (manner & 16) {
        g_byte_array_append(data, (const uint8_t *)name, (guint)strlen(name));
        simple_option(t, NBD_OPT_EXPORT_NAME, data);
    } else {
        append_string(data, name, strlen(name));
        g_byte_array_append(data, (const uint8_t *)"\0\1\0\3", 4); /* the block size */
        simple_option(t, NBD_OPT_GO, data);
    }
    g_byte_array_unref(data);
}

/* ---- requests ---- */

static uint64_t take_offset(struct talk *t, struct supply *s)
{
    uint8_t which = take_u8(s);

    switch (which) {
    case 0xf0:
        return t->size;
    case 0xf1:
        return t->size - 1;
    case 0xf2:
        return t->size - 4096;
    case 0xf3:
        return UINT64_MAX;
    case 0xf4:
        return (uint64_t)1 << 63;
    case 0xf5:
        return take_u64(s) | (uint64_t)1 << 32; /* far outside */
    case 0xf6:
        return take_u8(s); /* not aligned; only 256 values, as the fake registry remembers each */
    default:
        return (which & 63u) * 4096u;
    }
}

static uint64_t take_length(struct talk *t, struct supply *s)
{
    static const uint64_t some[] = {0,         1,         512,        1000,
                                    4095,      4096,      8192,       65536,
                                    300000,    1u << 20,  (2u << 20), (2u << 20) + 4096,
                                    32u << 20, 65u << 20, UINT32_MAX, (uint64_t)1 << 32};
    uint8_t which = take_u8(s);

    if (which & 0x80)
        return take_u16(s);
    if (which == 0x7f)
        return t->size;
    if (which == 0x7e)
        return take_u64(s);
    return which & 0x40 ? (which & 31u) * 4096u : some[which & 15];
}

/* Note which contexts have to answer a BLOCK_STATUS: those of `ids`, a payload's bytes, or all that
 * are selected (NULL). */
static void note_ids(const struct talk *t, struct asked *a, const uint8_t *ids, unsigned n)
{
    if (ids == NULL)
        memcpy(a->ids, t->contexts, sizeof a->ids);
    a->n_ids = ids == NULL ? t->n_contexts : MIN(n, CONTEXTS_MAX);
    for (unsigned i = 0; ids != NULL && i < a->n_ids; i++)
        a->ids[i] = load_be32(ids + 4 * i);
}

/* Send the filter of a BLOCK_STATUS, which is a length and ids. a->r gets what the server takes from
 * it. */
static void say_filter(struct talk *t, struct asked *a, struct supply *s)
{
    uint8_t payload[8 + 4 * 8] = {0};
    unsigned n = (unsigned)(a->r.payload - 8) / 4;

    a->r.length = take_length(t, s);
    store_be64(payload, a->r.length);
    for (unsigned i = 0; i < n; i++) {
        uint8_t which = take_u8(s);
        store_be32(payload + 8 + 4 * i,
                   which < CONTEXTS_MAX && which < t->n_contexts ? t->contexts[which] : which);
    }
    note_ids(t, a, payload + 8, n);
    talk_say(t, payload, a->r.payload);
}

/* Send a payload. Only that of a write is looked at. */
static void say_payload(struct talk *t, const struct asked *a)
{
    size_t begin = t->out->len;

    g_byte_array_set_size(t->out, (guint)(begin + a->r.payload));
    uint8_t *payload = t->out->data + begin;
    for (uint64_t i = 0; i < MIN(a->r.payload, PATTERN); i++)
        payload[i] = (uint8_t)(a->r.cookie + i);
    for (uint64_t i = PATTERN; i < a->r.payload; i += PATTERN)
        memcpy(payload + i, payload, MIN(PATTERN, a->r.payload - i));
}

static void say_header(struct talk *t, const struct request *r, uint64_t length)
{
    uint8_t header[NBD_EXTENDED_REQUEST_SIZE];

    store_be32(header, t->extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC);
    store_be16(header + 4, r->flags);
    store_be16(header + 6, r->type);
    store_be64(header + 8, r->cookie);
    store_be64(header + 16, r->offset);
    if (t->extended)
        store_be64(header + 24, length);
    else
        store_be32(header + 24, (uint32_t)length);
    talk_say(t, header, t->extended ? NBD_EXTENDED_REQUEST_SIZE : NBD_REQUEST_SIZE);
}

/* Put one request into the buffer. false: it is the last. */
static bool say_request(struct talk *t, struct supply *s, size_t *budget)
{
    struct asked *a = &t->asked[t->n_asked];
    uint8_t type = take_u8(s), flags = take_u8(s);
    struct request *r = &a->r;

    *r = (struct request){.cookie = COOKIE + t->n_asked, .type = type & 7, .flags = flags & 63};
    if (type & 0x40)
        r->type = take_u16(s);
    r->offset = r->start = take_offset(t, s);
    uint64_t length = take_length(t, s);
    bool says_payload = t->extended && (r->flags & NBD_CMD_FLAG_PAYLOAD_LEN);
    bool filter = says_payload && r->type == NBD_CMD_BLOCK_STATUS && (type & 0x20) == 0;
    if (filter)
        length = 8 + 4 * (length & 7);
    else if (!t->extended)
        length = (uint32_t)length;
    if (!filter && length > *budget && length <= NBD_MAX_PAYLOAD)
        length = 512;
    bool has_payload = r->type == NBD_CMD_WRITE || says_payload;
    r->payload = has_payload ? length : 0;
    r->length = !has_payload || r->type == NBD_CMD_WRITE ? length : 0;
    if (r->type == NBD_CMD_DISC) {
        say_header(t, r, 0);
        return false;
    }
    t->n_asked++;
    say_header(t, r, length);
    if (r->payload > NBD_MAX_PAYLOAD) { /* the server ends the connection, and takes no payload */
        t->out_of_sync = true;
        return false;
    }
    *budget -= MIN(*budget, length <= NBD_MAX_PAYLOAD ? length : 0);
    note_ids(t, a, NULL, 0);
    if (filter)
        say_filter(t, a, s);
    else
        say_payload(t, a);
    return true;
}

static void transmission_script(struct talk *t, struct supply *s, bool one_at_a_time)
{
    size_t budget = BYTES_MAX;
    bool more = true;

    while (more && supply_left(s) > 0 && t->n_asked < REQUESTS_MAX) {
        if (*s->at == 0xff) { /* leave the grammar */
            talk_say(t, s->at + 1, supply_left(s) - 1);
            t->out_of_sync = supply_left(s) > 1;
            break;
        }
        more = say_request(t, s, &budget);
        while (more && one_at_a_time && !t->asked[t->n_asked - 1].done)
            CHECK(talk_reply(t));
    }
}

static void check_all_answered(const struct talk *t)
{
    for (unsigned i = 0; i < t->n_asked; i++)
        CHECK(t->asked[i].done);
}

/* ---- the whole ---- */

/* Receive all that still comes. */
static void drain(struct talk *t)
{
    talk_finish(t);
    if (t->in_transmission && !t->out_of_sync) {
        while (talk_reply(t))
            ;
        check_all_answered(t);
    }
    while (talk_wait(t, 1) != NULL)
        ;
}

static void play(struct talk *t, struct stage *stage, struct supply *s)
{
    unsigned disk = take_u8(s) % N_DISKS;
    uint8_t manner = take_u8(s), more = take_u8(s);
    bool one_at_a_time = manner & 0x80;

    fake_never_promise(stage->rig.registry, manner & 0x40);
    talk_greet(t, NBD_FLAG_FIXED_NEWSTYLE | (manner & 0x20 ? NBD_FLAG_NO_ZEROES : 0));
    if (more & 0x80) { /* leave the grammar at once */
        talk_say(t, s->at, supply_left(s));
        t->out_of_sync = true;
        return;
    }
    for (unsigned i = more & 7; i > 0; i--) {
        if (!one_option(t, s))
            return;
    }
    enter(t, disk, manner);
    if (!t->in_transmission)
        return;
    CHECK(t->size == disks[disk].info.size);
    /* A client that enters with EXPORT_NAME has not asked for block sizes. */
    t->min_block = manner & 16 ? 1 : MAX(disks[disk].info.min_block, 1);
    t->bytes = one_at_a_time ? fake_bytes(stage->exports[disk]) : NULL;
    transmission_script(t, s, one_at_a_time);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct stage *stage = the_stage();
    struct supply s = supply_on(data, size);
    struct talk t;

    struct client client = rig_connect(&stage->rig);
    /* The lowest free descriptor is no higher than it ever was: none is lost. */
    CHECK(stage->connections == 0 || client.fd <= stage->highest);
    stage->highest = MAX(stage->highest, client.fd);
    talk_begin(&t, client.fd);
    play(&t, stage, &s);
    drain(&t);
    talk_end(&t);
    rig_wait_gone(&stage->rig, ++stage->connections);
    struct fake_counts counts = fake_counts(stage->rig.registry);
    CHECK(counts.opens == counts.closes);
    return 0;
}
