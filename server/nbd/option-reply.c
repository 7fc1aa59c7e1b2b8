/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/nbd/option-reply.h"

#include "common/base/cursor.h"

static void append_header(GByteArray *out, uint32_t option, uint32_t type, size_t length)
{
    uint8_t header[NBD_OPTION_REPLY_HEADER_SIZE];

    store_be64(header, NBD_OPTION_REPLY_MAGIC);
    store_be32(header + 8, option);
    store_be32(header + 12, type);
    store_be32(header + 16, (uint32_t)length);
    g_byte_array_append(out, header, sizeof header);
}

static void append_text(GByteArray *out, const char *text, size_t length)
{
    if (length > 0)
        g_byte_array_append(out, (const uint8_t *)text, (guint)length);
}

void option_reply(GByteArray *out, uint32_t option, uint32_t type)
{
    append_header(out, option, type, 0);
}

void option_reply_error(GByteArray *out, uint32_t option, uint32_t type, const char *why)
{
    size_t length = MIN(strlen(why), NBD_STRING_MAX);
    append_header(out, option, type, length);
    append_text(out, why, length);
}

void option_reply_server(GByteArray *out, uint32_t option, const char *name,
                         const char *description)
{
    uint8_t be[4];
    size_t name_length = strlen(name), length = description ? strlen(description) : 0;

    append_header(out, option, NBD_REP_SERVER, sizeof be + name_length + length);
    store_be32(be, (uint32_t)name_length);
    g_byte_array_append(out, be, sizeof be);
    append_text(out, name, name_length);
    append_text(out, description, length);
}

void option_reply_info_export(GByteArray *out, uint32_t option, uint64_t size, uint16_t eflags)
{
    uint8_t data[12];

    store_be16(data, NBD_INFO_EXPORT);
    store_be64(data + 2, size);
    store_be16(data + 10, eflags);
    append_header(out, option, NBD_REP_INFO, sizeof data);
    g_byte_array_append(out, data, sizeof data);
}

void option_reply_info_text(GByteArray *out, uint32_t option, uint16_t info, const char *text)
{
    uint8_t be[2];
    size_t length = strlen(text);

    append_header(out, option, NBD_REP_INFO, sizeof be + length);
    store_be16(be, info);
    g_byte_array_append(out, be, sizeof be);
    append_text(out, text, length);
}

void option_reply_info_block_size(GByteArray *out, uint32_t option, uint32_t min, uint32_t pref,
                                  uint32_t max)
{
    uint8_t data[14];

    store_be16(data, NBD_INFO_BLOCK_SIZE);
    store_be32(data + 2, min);
    store_be32(data + 6, pref);
    store_be32(data + 10, max);
    append_header(out, option, NBD_REP_INFO, sizeof data);
    g_byte_array_append(out, data, sizeof data);
}

void option_reply_meta_context(GByteArray *out, uint32_t option, uint32_t id, const char *name)
{
    uint8_t be[4];
    size_t length = strlen(name);

    append_header(out, option, NBD_REP_META_CONTEXT, sizeof be + length);
    store_be32(be, id);
    g_byte_array_append(out, be, sizeof be);
    append_text(out, name, length);
}
