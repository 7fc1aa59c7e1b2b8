/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/nbd/request.h"

#include "common/base/cursor.h"

#include <errno.h>
#include <stdlib.h>

/* With extended headers a flag says what the length means: the length of a payload (any command may
 * bring one, also a command that must not) or a part of the export.
 *
 * A write is an exception. The protocol makes clients set the flag there too, but QEMU (8.2 to 10.0
 * at least) does not, and sends the payload all the same. Taken literally, every guest's first
 * write would end the connection. A write without the flag can mean nothing else, and QEMU's server
 * reads it so too. */
static void parse_extended_length(struct request *r, uint64_t length)
{
    bool is_payload = r->type == NBD_CMD_WRITE || (r->flags & NBD_CMD_FLAG_PAYLOAD_LEN);

    r->payload = is_payload ? length : 0;
    r->length = !is_payload || r->type == NBD_CMD_WRITE ? length : 0;
}

bool request_parse(const uint8_t *header, const struct request_rules *rules, struct request *r)
{
    uint32_t magic = rules->extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC;

    if (load_be32(header) != magic)
        return false;
    r->flags = load_be16(header + 4);
    r->type = load_be16(header + 6);
    r->cookie = load_be64(header + 8);
    r->start = r->offset = load_be64(header + 16);
    if (rules->extended) {
        parse_extended_length(r, load_be64(header + 24));
    } else {
        r->length = load_be32(header + 24);
        r->payload = r->type == NBD_CMD_WRITE ? r->length : 0;
    }
    return true;
}

/* A BLOCK_STATUS whose length and contexts are in its payload. */
static bool is_filtered(const struct request *r)
{
    return r->type == NBD_CMD_BLOCK_STATUS && (r->flags & NBD_CMD_FLAG_PAYLOAD_LEN);
}

/* The flags that the protocol allows for the command with what was agreed. FUA goes with every
 * command: "the server MUST accept all commands with this bit set", if it was offered. */
static uint16_t flags_allowed(const struct request *r, const struct request_rules *rules)
{
    uint16_t flags = rules->eflags & NBD_FLAG_SEND_FUA ? NBD_CMD_FLAG_FUA : 0;

    switch (r->type) {
    case NBD_CMD_READ:
        if (rules->eflags & NBD_FLAG_SEND_DF)
            flags |= NBD_CMD_FLAG_DF;
        break;
    case NBD_CMD_WRITE:
        if (rules->extended)
            flags |= NBD_CMD_FLAG_PAYLOAD_LEN;
        break;
    case NBD_CMD_WRITE_ZEROES:
        flags |= NBD_CMD_FLAG_NO_HOLE;
        if (rules->eflags & NBD_FLAG_SEND_FAST_ZERO)
            flags |= NBD_CMD_FLAG_FAST_ZERO;
        break;
    case NBD_CMD_BLOCK_STATUS:
        flags |= NBD_CMD_FLAG_REQ_ONE;
        if (rules->eflags & NBD_FLAG_BLOCK_STATUS_PAYLOAD)
            flags |= NBD_CMD_FLAG_PAYLOAD_LEN;
        break;
    default:
        break;
    }
    return flags;
}

/* Is the command one that we know and have offered? */
static uint32_t check_command(const struct request *r, const struct request_rules *rules,
                              const char **why)
{
    unsigned needs = 0;

    switch (r->type) {
    case NBD_CMD_READ:
        return 0;
    case NBD_CMD_WRITE:
    case NBD_CMD_WRITE_ZEROES:
        if (rules->readonly) {
            *why = "the export is read-only";
            return NBD_EPERM;
        }
        needs = r->type == NBD_CMD_WRITE ? 0 : NBD_FLAG_SEND_WRITE_ZEROES;
        break;
    case NBD_CMD_TRIM:
        if (rules->readonly && !(rules->eflags & NBD_FLAG_SEND_TRIM)) {
            *why = "the export is read-only";
            return NBD_EPERM;
        }
        needs = NBD_FLAG_SEND_TRIM;
        break;
    case NBD_CMD_FLUSH:
        needs = NBD_FLAG_SEND_FLUSH;
        break;
    case NBD_CMD_CACHE:
        needs = NBD_FLAG_SEND_CACHE;
        break;
    case NBD_CMD_BLOCK_STATUS:
        if (rules->status_contexts == 0) {
            *why = "no metadata context was negotiated for this export";
            return NBD_EINVAL;
        }
        return 0;
    default:
        *why = "unknown command";
        return NBD_EINVAL;
    }
    if ((rules->eflags & needs) != needs) {
        *why = "the command was not offered for this export";
        return NBD_EINVAL;
    }
    return 0;
}

/* Can it be the payload of a BLOCK_STATUS? With more ids than contexts some would be unknown, or
 * there twice. */
static uint32_t check_filter(const struct request *r, const struct request_rules *rules,
                             const char **why)
{
    uint64_t most = STATUS_FILTER_HEAD + (uint64_t)rules->status_contexts * STATUS_FILTER_ID;

    if (r->payload > STATUS_FILTER_HEAD && r->payload <= most && r->payload % STATUS_FILTER_ID == 0)
        return 0;
    *why = "the payload is not a length and some of the negotiated metadata contexts";
    return NBD_EINVAL;
}

uint32_t request_check_range(const struct request *r, const struct request_rules *rules,
                             const char **why)
{
    if (r->type == NBD_CMD_FLUSH) {
        if (r->offset == 0 && r->length == 0)
            return 0;
        *why = "a flush has no offset and no length";
        return NBD_EINVAL;
    }
    if (r->offset > rules->size || r->length > rules->size - r->offset) {
        *why = "the request goes past the end of the export";
        return r->type == NBD_CMD_WRITE || r->type == NBD_CMD_WRITE_ZEROES ? NBD_ENOSPC
                                                                           : NBD_EINVAL;
    }
    if (((r->offset | r->length) & (rules->min_block - 1)) != 0) {
        *why = "the request is not aligned to the minimum block size";
        return NBD_EINVAL;
    }
    if (r->type == NBD_CMD_BLOCK_STATUS && r->length == 0) {
        *why = "a block status request has a length";
        return NBD_EINVAL;
    }
    return 0;
}

uint32_t request_check(const struct request *r, const struct request_rules *rules, const char **why)
{
    uint32_t error = check_command(r, rules, why);
    if (error != 0)
        return error;
    if (r->flags & ~flags_allowed(r, rules)) {
        *why = "a flag is unknown or not allowed for this command";
        return NBD_EINVAL;
    }
    if (is_filtered(r))
        return check_filter(r, rules, why);
    error = request_check_range(r, rules, why);
    if (error != 0)
        return error;
    if (r->type == NBD_CMD_READ && r->length > NBD_MAX_PAYLOAD) {
        *why = "the read is longer than the maximum payload";
        return rules->structured ? NBD_EOVERFLOW : NBD_EINVAL;
    }
    return 0;
}

uint32_t request_error(const struct request *r, int error)
{
    switch (abs(error)) {
    case EPERM:
    case EACCES:
    case EROFS:
        return NBD_EPERM;
    case ENOMEM:
        return NBD_ENOMEM;
    case EINVAL:
        return NBD_EINVAL;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return NBD_ENOSPC;
    case ENOTSUP:
        /* Clients know this error only as the answer to FAST_ZERO. */
        return r->flags & NBD_CMD_FLAG_FAST_ZERO ? NBD_ENOTSUP : NBD_EINVAL;
    case ESHUTDOWN:
        return NBD_ESHUTDOWN;
    default:
        return NBD_EIO;
    }
}

const char *request_error_text(uint32_t nbd_error)
{
    switch (nbd_error) {
    case NBD_EPERM:
        return "operation not permitted";
    case NBD_ENOMEM:
        return "out of memory";
    case NBD_EINVAL:
        return "invalid argument";
    case NBD_ENOSPC:
        return "no space left on device";
    case NBD_EOVERFLOW:
        return "too large";
    case NBD_ENOTSUP:
        return "not supported";
    case NBD_ESHUTDOWN:
        return "the server is shutting down";
    default:
        return "input/output error";
    }
}

const char *request_name(const struct request *r)
{
    static const char *const names[] = {"READ", "WRITE", "DISC",         "FLUSH",
                                        "TRIM", "CACHE", "WRITE_ZEROES", "BLOCK_STATUS"};
    return r->type < sizeof names / sizeof names[0] ? names[r->type] : "unknown command";
}
