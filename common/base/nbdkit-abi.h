/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nbdkit's plugin ABI, as this server sees it from the other side: the structure that a plugin's
 * plugin_init() returns, the values that pass through its callbacks, and the functions that a
 * plugin calls back. It is written down here so that the product builds without nbdkit's headers; a
 * test compares every offset and value with the installed header (tests/backend/test-abi.c). Our
 * own plugins are built with it too, so it needs nothing but libc.
 *
 * What the ABI promises: fields are only ever added at the end; a plugin says in struct_size how
 * many bytes of the structure it knows; plugins of versions 0 and 1 fill the _v1 slots, those of
 * version 2 the later ones.
 */
#ifndef COMMON_BASE_NBDKIT_ABI_H
#define COMMON_BASE_NBDKIT_ABI_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define NBDKIT_MAX_API_VERSION 2

#define NBDKIT_PRINTF(text, args) __attribute__((__format__(__printf__, text, args)))

/* struct nbdkit_plugin.thread_model */
enum {
    NBDKIT_SERIALIZE_CONNECTIONS = 0,
    NBDKIT_SERIALIZE_ALL_REQUESTS = 1,
    NBDKIT_SERIALIZE_REQUESTS = 2,
    NBDKIT_PARALLEL = 3,
};

/* flags of data callbacks */
enum {
    NBDKIT_MAY_TRIM = 1,
    NBDKIT_FUA = 2,
    NBDKIT_REQ_ONE = 4,
    NBDKIT_FAST_ZERO = 8,
};

/* answers of can_fua and of can_cache */
enum {
    NBDKIT_SUPPORT_NONE = 0,
    NBDKIT_SUPPORT_EMULATE = 1,
    NBDKIT_SUPPORT_NATIVE = 2,
};

struct nbdkit_extents; /* nbdkit-extents.c */
struct nbdkit_exports; /* nbdkit-exports.c */

struct nbdkit_plugin {
    uint64_t struct_size;
    int api_version;
    int thread_model;
    const char *name, *longname, *version, *description;
    void (*load)(void);
    void (*unload)(void);
    int (*config)(const char *key, const char *value);
    int (*config_complete)(void);
    const char *config_help;
    void *(*open)(int readonly);
    void (*close)(void *handle);
    int64_t (*get_size)(void *handle);
    int (*can_write)(void *handle);
    int (*can_flush)(void *handle);
    int (*is_rotational)(void *handle);
    int (*can_trim)(void *handle);
    int (*pread_v1)(void *handle, void *buf, uint32_t count, uint64_t offset);
    int (*pwrite_v1)(void *handle, const void *buf, uint32_t count, uint64_t offset);
    int (*flush_v1)(void *handle);
    int (*trim_v1)(void *handle, uint32_t count, uint64_t offset);
    int (*zero_v1)(void *handle, uint32_t count, uint64_t offset, int may_trim);
    int errno_is_preserved;
    void (*dump_plugin)(void);
    int (*can_zero)(void *handle);
    int (*can_fua)(void *handle);
    int (*pread)(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags);
    int (*pwrite)(void *handle, const void *buf, uint32_t count, uint64_t offset, uint32_t flags);
    int (*flush)(void *handle, uint32_t flags);
    int (*trim)(void *handle, uint32_t count, uint64_t offset, uint32_t flags);
    int (*zero)(void *handle, uint32_t count, uint64_t offset, uint32_t flags);
    const char *magic_config_key;
    int (*can_multi_conn)(void *handle);
    int (*can_extents)(void *handle);
    int (*extents)(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
                   struct nbdkit_extents *extents);
    int (*can_cache)(void *handle);
    int (*cache)(void *handle, uint32_t count, uint64_t offset, uint32_t flags);
    int (*get_thread_model)(void);
    int (*can_fast_zero)(void *handle);
    int (*preconnect)(int readonly);
    int (*get_ready)(void);
    int (*after_fork)(void);
    int (*list_exports)(int readonly, int is_tls, struct nbdkit_exports *exports);
    const char *(*default_export)(int readonly, int is_tls);
    const char *(*export_description)(void *handle);
    void (*cleanup)(void);
    int (*block_size)(void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum);
};

/*
 * The functions that plugins call (nbdkit.syms exports them). Their meaning is nbdkit's:
 * nbdkit-plugin(3) and a page for each in section 3. Any thread, unless said otherwise.
 */

/* nbdkit-log.c */
void nbdkit_error(const char *format, ...) NBDKIT_PRINTF(1, 2);
void nbdkit_verror(const char *format, va_list args) NBDKIT_PRINTF(1, 0);
void nbdkit_debug(const char *format, ...) NBDKIT_PRINTF(1, 2);
void nbdkit_vdebug(const char *format, va_list args) NBDKIT_PRINTF(1, 0);
void nbdkit_debug_hexdump(const void *buf, size_t length, const char *prefix, uint64_t start);
void nbdkit_set_error(int error);

/* nbdkit-parse.c */
int64_t nbdkit_parse_size(const char *text);
int nbdkit_parse_bool(const char *text);
int nbdkit_parse_int(const char *what, const char *text, int *result);
int nbdkit_parse_unsigned(const char *what, const char *text, unsigned *result);
int nbdkit_parse_int8_t(const char *what, const char *text, int8_t *result);
int nbdkit_parse_uint8_t(const char *what, const char *text, uint8_t *result);
int nbdkit_parse_int16_t(const char *what, const char *text, int16_t *result);
int nbdkit_parse_uint16_t(const char *what, const char *text, uint16_t *result);
int nbdkit_parse_int32_t(const char *what, const char *text, int32_t *result);
int nbdkit_parse_uint32_t(const char *what, const char *text, uint32_t *result);
int nbdkit_parse_int64_t(const char *what, const char *text, int64_t *result);
int nbdkit_parse_uint64_t(const char *what, const char *text, uint64_t *result);
int nbdkit_parse_delay(const char *what, const char *text, unsigned *sec, unsigned *nsec);
int nbdkit_parse_probability(const char *what, const char *text, double *result);

/* nbdkit-string.c */
char *nbdkit_absolute_path(const char *path);
char *nbdkit_realpath(const char *path);
const char *nbdkit_strdup_intern(const char *text);
const char *nbdkit_strndup_intern(const char *text, size_t n);
const char *nbdkit_printf_intern(const char *format, ...) NBDKIT_PRINTF(1, 2);
const char *nbdkit_vprintf_intern(const char *format, va_list args) NBDKIT_PRINTF(1, 0);

/* nbdkit-password.c: main thread, while the plugin is configured */
int nbdkit_stdio_safe(void);
int nbdkit_read_password(const char *value, char **password);

/* nbdkit-client.c */
const char *nbdkit_export_name(void);
int nbdkit_is_tls(void);
int nbdkit_peer_name(struct sockaddr *address, socklen_t *length);
int64_t nbdkit_peer_pid(void);
int64_t nbdkit_peer_uid(void);
int64_t nbdkit_peer_gid(void);
char *nbdkit_peer_security_context(void);
char *nbdkit_peer_tls_dn(void);
char *nbdkit_peer_tls_issuer_dn(void);
void nbdkit_disconnect(int force);
void nbdkit_shutdown(void);
int nbdkit_nanosleep(unsigned sec, unsigned nsec);

/* nbdkit-extents.c, nbdkit-exports.c: in the thread of the callback that was given the object */
struct nbdkit_extents *nbdkit_extents_new(uint64_t start, uint64_t end);
void nbdkit_extents_free(struct nbdkit_extents *e);
int nbdkit_add_extent(struct nbdkit_extents *e, uint64_t offset, uint64_t length, uint32_t type);
struct nbdkit_exports *nbdkit_exports_new(void);
void nbdkit_exports_free(struct nbdkit_exports *e);
int nbdkit_add_export(struct nbdkit_exports *e, const char *name, const char *description);
int nbdkit_use_default_export(struct nbdkit_exports *e);

#endif
