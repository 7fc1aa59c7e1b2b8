/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What an nbdkit plugin may offer to nbdfleece beside nbdkit's own API: functions that nbdfleece
 * looks up by name when it has loaded the plugin. Each of them is optional, and nbdkit does not
 * look at them. nbdfleece-plugins(5), "WRITING PLUGINS FOR NBDFLEECE", tells what each is for.
 *
 *     #include <nbdkit-plugin.h>
 *     #include <nbdfleece-plugin.h>
 *
 * A plugin defines those that it offers; the compiler checks that they are as nbdfleece calls them.
 * Where nothing else is said, they return 0, or -1 after nbdkit_error(3).
 */
#ifndef NBDFLEECE_PLUGIN_H
#define NBDFLEECE_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A plugin may be compiled with -fvisibility=hidden. */
#define NBDFLEECE_PLUGIN_EXPORT __attribute__((__visibility__("default")))

/* ---- the instance ---- */

/* The name of the disk that this instance is for; the string does not outlive the call. Called
 * once, after config and before config_complete. */
NBDFLEECE_PLUGIN_EXPORT int nbdfleece_plugin_disk(const char *name);

/* Open the image for all handles of this kind to share, until unload. Called once, after get_ready,
 * while the server still is the user that it was started as. No thread may be started here. */
NBDFLEECE_PLUGIN_EXPORT int nbdfleece_plugin_open_ahead(int readonly);

/* ---- a handle ---- */

/* A descriptor that has the disk's bytes at the same offsets, for the server to read (and, where
 * the handle can be written, write) by itself; or -1: there is none. It stays the plugin's, and
 * open until close. Only called where the thread model is parallel. */
NBDFLEECE_PLUGIN_EXPORT int nbdfleece_plugin_fd(void *handle);

/* Where a run of the disk's bytes is. */
enum {
    NBDFLEECE_UNKNOWN, /* not known without waiting, or not readable as it lies: pread, pwrite */
    NBDFLEECE_DATA,    /* in a file */
    NBDFLEECE_ZERO,    /* nowhere: it reads as zeroes */
};

struct nbdfleece_segment {
    uint64_t length; /* bytes, at least 1 */
    uint64_t offset; /* NBDFLEECE_DATA: of the first byte, in that file */
    int fd;          /* NBDFLEECE_DATA: that file; as nbdfleece_plugin_fd's */
    int place;       /* NBDFLEECE_UNKNOWN... */
};

/*
 * For a disk whose bytes lie in files, but not at the same offsets: tell of the first bytes of a
 * range, at most `length`, where they are, so that the server reads (and, with `writing`, writes)
 * them there by itself. 0; anything else is taken for NBDFLEECE_UNKNOWN. *segment is zeroes before;
 * `size` is its size as nbdfleece knows it.
 *
 * What is said stays true until close, for nbdfleece acts on it later: bytes that are written there
 * are the disk's from then on, and the plugin's own flush makes them persistent. But for reading it need
 * only be what the disk read as at some moment of this call: zeroes, and bytes that nobody changes at
 * that place. `writing`: NBDFLEECE_DATA only where writing the bytes is all that there is to do.
 *
 * Called for nearly every request, by many threads at once. It must not block, and must not call nbdkit's
 * functions. Only called where the thread model is parallel, and nbdfleece_plugin_fd gives none.
 */
NBDFLEECE_PLUGIN_EXPORT int nbdfleece_plugin_map(void *handle, uint64_t offset, uint64_t length,
                                                 int writing, struct nbdfleece_segment *segment,
                                                 size_t size);

/* Make the image `size` bytes long. All handles serve the new size from then on. Called on a handle
 * that can be written, while no call that changes the disk is under way, on any handle. Reads, extents,
 * caching and flushes may be, also of bytes behind the new end. */
NBDFLEECE_PLUGIN_EXPORT int nbdfleece_plugin_resize(void *handle, uint64_t size);

/* What is known of an image. All of it is zeroes before the plugin fills it in; strings end with a
 * NUL. The words are the plugin's own: they are compared with those of another time. */
struct nbdfleece_identity {
    /* Which image it is: the same as long as it is the same one, also after a restart of the server
     * or of the machine, and under another name. Never empty. */
    char image[256];
    /* Differs when anybody has written to the image. Empty: that cannot be seen. */
    char content[256];
    /* When the image was last written to, by its own clock: nanoseconds since 1970. 0: not known. */
    int64_t modified;
    /* So long after a change of the disk the plugin may still write to the image by itself:
     * nanoseconds. */
    int64_t late;
};

/* Tell what the image is and looks like. Dirty bitmaps outlive the server only together with the
 * image that they speak of, as it was left. `size` is that of the structure as nbdfleece knows it:
 * it may be larger than the plugin's. Called when the disk is added and, flushed, when it is
 * closed. */
NBDFLEECE_PLUGIN_EXPORT int
nbdfleece_plugin_identity(void *handle, struct nbdfleece_identity *identity, size_t size);

#ifdef __cplusplus
}
#endif

#endif
