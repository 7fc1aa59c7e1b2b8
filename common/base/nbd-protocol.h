/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Numbers of the NBD protocol (github.com/NetworkBlockDevice/nbd, doc/proto.md; for extended
 * headers on its branch extension-ext-header), under its names. Everything on the wire is
 * big-endian: see load_be/store_be in cursor.h.
 */
#ifndef COMMON_BASE_NBD_PROTOCOL_H
#define COMMON_BASE_NBD_PROTOCOL_H

/* ---- handshake ---- */

#define NBD_INIT_MAGIC         0x4e42444d41474943ull /* "NBDMAGIC" */
#define NBD_OPTION_MAGIC       0x49484156454f5054ull /* "IHAVEOPT" */
#define NBD_OPTION_REPLY_MAGIC 0x0003e889045565a9ull

#define NBD_FLAG_FIXED_NEWSTYLE 0x1u /* handshake flags, and the client's answer */
#define NBD_FLAG_NO_ZEROES      0x2u

#define NBD_OPTION_HEADER_SIZE       16u
#define NBD_OPTION_REPLY_HEADER_SIZE 20u

#define NBD_OPT_EXPORT_NAME       1u
#define NBD_OPT_ABORT             2u
#define NBD_OPT_LIST              3u
#define NBD_OPT_STARTTLS          5u
#define NBD_OPT_INFO              6u
#define NBD_OPT_GO                7u
#define NBD_OPT_STRUCTURED_REPLY  8u
#define NBD_OPT_LIST_META_CONTEXT 9u
#define NBD_OPT_SET_META_CONTEXT  10u
#define NBD_OPT_EXTENDED_HEADERS  11u

#define NBD_REP_ACK                 1u
#define NBD_REP_SERVER              2u
#define NBD_REP_INFO                3u
#define NBD_REP_META_CONTEXT        4u
#define NBD_REP_ERR_UNSUP           0x80000001u
#define NBD_REP_ERR_POLICY          0x80000002u
#define NBD_REP_ERR_INVALID         0x80000003u
#define NBD_REP_ERR_PLATFORM        0x80000004u
#define NBD_REP_ERR_TLS_REQD        0x80000005u
#define NBD_REP_ERR_UNKNOWN         0x80000006u
#define NBD_REP_ERR_SHUTDOWN        0x80000007u
#define NBD_REP_ERR_BLOCK_SIZE_REQD 0x80000008u
#define NBD_REP_ERR_TOO_BIG         0x80000009u
#define NBD_REP_ERR_EXT_HEADER_REQD 0x8000000au

#define NBD_INFO_EXPORT      0u
#define NBD_INFO_NAME        1u
#define NBD_INFO_DESCRIPTION 2u
#define NBD_INFO_BLOCK_SIZE  3u

#define NBD_STRING_MAX 4096u /* bytes of any string */

/* ---- transmission ---- */

#define NBD_FLAG_HAS_FLAGS            0x1u
#define NBD_FLAG_READ_ONLY            0x2u
#define NBD_FLAG_SEND_FLUSH           0x4u
#define NBD_FLAG_SEND_FUA             0x8u
#define NBD_FLAG_ROTATIONAL           0x10u
#define NBD_FLAG_SEND_TRIM            0x20u
#define NBD_FLAG_SEND_WRITE_ZEROES    0x40u
#define NBD_FLAG_SEND_DF              0x80u
#define NBD_FLAG_CAN_MULTI_CONN       0x100u
#define NBD_FLAG_SEND_CACHE           0x400u
#define NBD_FLAG_SEND_FAST_ZERO       0x800u
#define NBD_FLAG_BLOCK_STATUS_PAYLOAD 0x1000u

#define NBD_REQUEST_MAGIC          0x25609513u
#define NBD_EXTENDED_REQUEST_MAGIC 0x21e41c71u
#define NBD_SIMPLE_REPLY_MAGIC     0x67446698u
#define NBD_STRUCTURED_REPLY_MAGIC 0x668e33efu
#define NBD_EXTENDED_REPLY_MAGIC   0x6e8a278cu

#define NBD_REQUEST_SIZE          28u
#define NBD_EXTENDED_REQUEST_SIZE 32u
#define NBD_SIMPLE_REPLY_SIZE     16u
#define NBD_STRUCTURED_REPLY_SIZE 20u
#define NBD_EXTENDED_REPLY_SIZE   32u

#define NBD_CMD_READ         0u
#define NBD_CMD_WRITE        1u
#define NBD_CMD_DISC         2u
#define NBD_CMD_FLUSH        3u
#define NBD_CMD_TRIM         4u
#define NBD_CMD_CACHE        5u
#define NBD_CMD_WRITE_ZEROES 6u
#define NBD_CMD_BLOCK_STATUS 7u

#define NBD_CMD_FLAG_FUA         0x1u
#define NBD_CMD_FLAG_NO_HOLE     0x2u
#define NBD_CMD_FLAG_DF          0x4u
#define NBD_CMD_FLAG_REQ_ONE     0x8u
#define NBD_CMD_FLAG_FAST_ZERO   0x10u
#define NBD_CMD_FLAG_PAYLOAD_LEN 0x20u

#define NBD_REPLY_FLAG_DONE 0x1u

#define NBD_REPLY_TYPE_NONE             0u
#define NBD_REPLY_TYPE_OFFSET_DATA      1u
#define NBD_REPLY_TYPE_OFFSET_HOLE      2u
#define NBD_REPLY_TYPE_BLOCK_STATUS     5u
#define NBD_REPLY_TYPE_BLOCK_STATUS_EXT 6u
#define NBD_REPLY_TYPE_ERROR            0x8001u
#define NBD_REPLY_TYPE_ERROR_OFFSET     0x8002u

/* Errors on the wire; nothing else is ever sent. */
#define NBD_EPERM     1u
#define NBD_EIO       5u
#define NBD_ENOMEM    12u
#define NBD_EINVAL    22u
#define NBD_ENOSPC    28u
#define NBD_EOVERFLOW 75u
#define NBD_ENOTSUP   95u
#define NBD_ESHUTDOWN 108u

/* What every server has to take as payload of one request; clients send no more to one that does
 * not advertise more. */
#define NBD_DEFAULT_MAX_PAYLOAD (32u << 20)
/* Our own limit, that of nbdkit and libnbd. */
#define NBD_MAX_PAYLOAD (64u << 20)

#endif
