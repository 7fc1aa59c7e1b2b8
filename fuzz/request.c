/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests: request_parse, request_check, status_filter, and what the handshake tells a client of
 * its export (negotiated_flags, negotiated_block_sizes).
 *
 * Input: the rules (size, block, flags), then the header, then a BLOCK_STATUS's payload.
 */
#include "fuzz/fuzz.h"

#include "common/base/cursor.h"
#include "server/nbd/negotiated.h"
#include "server/nbd/status.h"

#include <string.h>

const char fuzz_name[] = "request";

static bool is_wire_error(uint32_t e)
{
    switch (e) {
    case NBD_EPERM:
    case NBD_EIO:
    case NBD_ENOMEM:
    case NBD_EINVAL:
    case NBD_ENOSPC:
    case NBD_EOVERFLOW:
    case NBD_ENOTSUP:
    case NBD_ESHUTDOWN:
        return true;
    default:
        return false;
    }
}

/* ---- what a client is told of an export ---- */

static struct request_rules take_rules(struct supply *s)
{
    uint8_t shape = take_u8(s), node = take_u8(s), block = take_u8(s);
    struct node_info info = {
        .size = take_u64(s),
        .readonly = node & 1,
        .can_trim = node & 2,
        .can_flush = node & 4,
        .can_fua = node & 8,
        .can_fast_zero = node & 16,
        .can_cache = node & 32,
        .can_multi_conn = node & 64,
        .rotational = node & 128,
        .min_block = 1u << block % 18,
        .pref_block = 1u << (block >> 3),
        .max_block = (uint32_t)block << 20,
    };
    struct agreement agreed = {.extended = shape & 1, .structured = shape & 3};
    unsigned contexts = agreed.structured ? shape >> 2 & 3 : 0;
    struct block_sizes b = negotiated_block_sizes(&info);
    uint16_t eflags = negotiated_flags(&info, agreed, contexts > 0, shape & 16);

    /* NBD_INFO_BLOCK_SIZE */
    CHECK(b.min > 0 && b.min <= 65536 && (b.min & (b.min - 1)) == 0);
    CHECK(b.pref >= 512 && b.pref >= b.min && (b.pref & (b.pref - 1)) == 0);
    CHECK(b.max >= b.pref && b.max % b.min == 0 && b.max <= NBD_MAX_PAYLOAD);
    /* Transmission flags */
    CHECK(eflags & NBD_FLAG_HAS_FLAGS);
    CHECK(!(eflags & NBD_FLAG_SEND_FAST_ZERO) || (eflags & NBD_FLAG_SEND_WRITE_ZEROES));
    CHECK(!(eflags & NBD_FLAG_READ_ONLY) || !(eflags & NBD_FLAG_SEND_WRITE_ZEROES));
    CHECK(!(eflags & NBD_FLAG_SEND_DF) == !agreed.structured);
    CHECK(!(eflags & NBD_FLAG_BLOCK_STATUS_PAYLOAD) || (agreed.extended && contexts > 0));
    return (struct request_rules){.size = info.size,
                                  .min_block = b.min,
                                  .eflags = eflags,
                                  .readonly = info.readonly,
                                  .structured = agreed.structured,
                                  .extended = agreed.extended,
                                  .status_contexts = contexts};
}

/* ---- a request ---- */

static void serialise(const struct request *r, const struct request_rules *rules, uint8_t *header)
{
    store_be32(header, rules->extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC);
    store_be16(header + 4, r->flags);
    store_be16(header + 6, r->type);
    store_be64(header + 8, r->cookie);
    store_be64(header + 16, r->start);
    uint64_t length = r->payload > 0 ? r->payload : r->length;
    if (rules->extended)
        store_be64(header + 24, length);
    else
        store_be32(header + 24, (uint32_t)length);
}

static void check_parsed(const struct request *r, const struct request_rules *rules)
{
    CHECK(r->offset == r->start);
    if (r->type == NBD_CMD_WRITE)
        CHECK(r->payload == r->length);
    else
        CHECK(r->payload == 0 || r->length == 0);
    if (!rules->extended)
        CHECK(r->length <= UINT32_MAX && (r->type == NBD_CMD_WRITE || r->payload == 0));
    CHECK(request_name(r) != NULL);
}

/* A request that was let through lies inside the export and is aligned. */
static void check_range(const struct request *r, const struct request_rules *rules)
{
    CHECK(r->offset <= rules->size && r->length <= rules->size - r->offset);
    CHECK(((r->offset | r->length) & (rules->min_block - 1)) == 0);
}

static void check_allowed(const struct request *r, const struct request_rules *rules)
{
    static const uint16_t offered_by[] = {[NBD_CMD_FLUSH] = NBD_FLAG_SEND_FLUSH,
                                          [NBD_CMD_TRIM] = NBD_FLAG_SEND_TRIM,
                                          [NBD_CMD_CACHE] = NBD_FLAG_SEND_CACHE,
                                          [NBD_CMD_WRITE_ZEROES] = NBD_FLAG_SEND_WRITE_ZEROES,
                                          [NBD_CMD_BLOCK_STATUS] = 0};
    bool filtered = r->type == NBD_CMD_BLOCK_STATUS && (r->flags & NBD_CMD_FLAG_PAYLOAD_LEN);

    CHECK(r->type <= NBD_CMD_BLOCK_STATUS && r->type != NBD_CMD_DISC);
    CHECK((rules->eflags & offered_by[r->type]) == offered_by[r->type]);
    CHECK(!rules->readonly || (r->type != NBD_CMD_WRITE && r->type != NBD_CMD_WRITE_ZEROES));
    CHECK(r->type != NBD_CMD_BLOCK_STATUS || rules->status_contexts > 0);
    CHECK(!(r->flags & NBD_CMD_FLAG_FUA) || (rules->eflags & NBD_FLAG_SEND_FUA));
    CHECK(!(r->flags & NBD_CMD_FLAG_FAST_ZERO) ||
          (r->type == NBD_CMD_WRITE_ZEROES && (rules->eflags & NBD_FLAG_SEND_FAST_ZERO)));
    CHECK(!(r->flags & NBD_CMD_FLAG_PAYLOAD_LEN) || rules->extended);
    CHECK(!(r->flags & NBD_CMD_FLAG_DF) || r->type == NBD_CMD_READ);
    CHECK(r->type != NBD_CMD_READ || r->length <= NBD_MAX_PAYLOAD);
    CHECK(r->payload == 0 || r->type == NBD_CMD_WRITE || filtered);
    if (filtered)
        CHECK(r->payload <= STATUS_FILTER_HEAD + rules->status_contexts * STATUS_FILTER_ID);
    else if (r->type != NBD_CMD_FLUSH)
        check_range(r, rules);
}

/* Every errno with which a request may end becomes an error of the protocol. */
static void check_errors(const struct request *r, uint8_t error)
{
    uint32_t e = request_error(r, error == 0 ? 5 : error);

    CHECK(is_wire_error(e) && request_error(r, -(error == 0 ? 5 : error)) == e);
    CHECK(e != NBD_ENOTSUP || (r->flags & NBD_CMD_FLAG_FAST_ZERO));
    CHECK(*request_error_text(e) != '\0');
}

/* The payload of an allowed BLOCK_STATUS, if the input has all of it. */
static void check_filter(struct request r, const struct request_rules *rules, struct supply *s)
{
    struct meta_context list[3] = {{.id = 0}, {.id = 2}, {.id = 5}};
    struct negotiated negotiated = {.rules = *rules, .contexts = {.list = list}};
    size_t got;
    const char *why = NULL;
    const uint8_t *payload = take_bytes(s, r.payload, &got);

    if (got < r.payload)
        return;
    negotiated.contexts.n = rules->status_contexts;
    uint32_t error = status_filter(&negotiated, &r, payload, &why);
    CHECK(error == 0 || (is_wire_error(error) && why != NULL));
    if (error != 0)
        return;
    CHECK(r.length == load_be64(payload) && r.length > 0);
    check_range(&r, rules);
    for (size_t at = STATUS_FILTER_HEAD; at < r.payload; at += STATUS_FILTER_ID) {
        uint32_t id = load_be32(payload + at);
        unsigned hits = 0;
        for (unsigned i = 0; i < rules->status_contexts; i++)
            hits += list[i].id == id;
        CHECK(hits == 1);
        for (size_t other = STATUS_FILTER_HEAD; other < at; other += STATUS_FILTER_ID)
            CHECK(load_be32(payload + other) != id);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct supply s = supply_on(data, size);
    struct request_rules rules = take_rules(&s);
    uint8_t again[NBD_EXTENDED_REQUEST_SIZE], error = take_u8(&s);
    struct request r;
    const char *why = NULL;
    size_t n = request_header_size(&rules), got;
    const uint8_t *header = take_bytes(&s, n, &got);

    if (got < n || !request_parse(header, &rules, &r))
        return 0;
    serialise(&r, &rules, again);
    CHECK(memcmp(again, header, n) == 0);
    check_parsed(&r, &rules);
    check_errors(&r, error);
    if (r.type == NBD_CMD_DISC)
        return 0;
    uint32_t refused = request_check(&r, &rules, &why);
    CHECK(refused == 0 || (is_wire_error(refused) && why != NULL));
    if (refused == 0) {
        check_allowed(&r, &rules);
        if (r.type == NBD_CMD_BLOCK_STATUS && r.payload > 0)
            check_filter(r, &rules, &s);
    }
    return 0;
}
