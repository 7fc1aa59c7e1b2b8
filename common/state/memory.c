/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The note is five words. It is written with pwrite(2), each word by itself, and never mapped: so a
 * signal handler can write it, and nobody can take the memory from under it.
 */
#include "common/state/memory.h"

#include "common/state/folder.h"
#include "common/state/storage-dir.h"
#include "common/util/error.h"
#include "common/util/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define NOTE       "note"
#define NOTE_MAGIC UINT64_C(0x3365746f4e44424e)

struct memory {
    struct storage *storage;
    int folder; /* the storage's */
    int note;
    atomic_bool incomplete;
};

struct note_words {
    uint64_t magic;
    uint64_t run;
    uint64_t failed, incomplete;
    uint64_t catalogue; /* the number of its last transaction */
};

static const char *shm_folder = "/dev/shm";

void memory_set_folder(const char *shm)
{
    shm_folder = shm ? shm : "/dev/shm";
}

char *memory_path(const char *uuid)
{
    return g_strdup_printf("%s/nbdfleece-%s", shm_folder, uuid);
}

struct storage *memory_storage(struct memory *m)
{
    return m->storage;
}

/* ---- the folder ---- */

static bool is_ours(const struct stat *st)
{
    return (st->st_uid == 0 || st->st_uid == geteuid()) && !(st->st_mode & 022);
}

/* Its descriptor, or a negative errno. */
static int open_folder(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), error = 0;
    struct stat st;

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0)
        error = errno;
    else if (!is_ours(&st))
        error = EPERM;
    if (!error)
        return fd;
    close(fd);
    return -error;
}

/* Earlier versions had a file of this name. */
static void remove_old_note(const char *path)
{
    struct stat st;

    if (lstat(path, &st) == 0 && S_ISREG(st.st_mode) && is_ours(&st))
        (void)unlink(path);
}

static int make_folder(const char *path)
{
    int fd;

    remove_old_note(path);
    fd = open_folder(path);
    if (fd != -ENOENT)
        return fd;
    if (mkdir(path, 0700) < 0)
        return -errno;
    fd = open_folder(path);
    /* The umask may have taken some of the mode away. */
    if (fd >= 0 && fchmod(fd, 0700) < 0) {
        int error = errno;

        close(fd);
        return -error;
    }
    return fd;
}

static void remove_files(struct storage *s, const char *folder, const char *prefix)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    int error = s->ops->list(s, folder, names);

    for (unsigned i = 0; error == 0 && i < names->len; i++) {
        g_autofree char *name = g_strconcat(prefix, names->pdata[i], NULL);

        error = s->ops->unlink(s, name);
        if (error < 0)
            log_error("state: %s/%s: cannot remove it: %s", s->path, name, g_strerror(-error));
    }
}

/* The note goes first: without it the rest counts for nothing. What is in STATE_VIEWS says itself whose it
 * is. */
static void empty(struct storage *s)
{
    (void)s->ops->unlink(s, NOTE);
    remove_files(s, STATE_BITS, STATE_BITS "/");
    remove_files(s, "", "");
}

/* ---- the note ---- */

static int make_note(int folder, uint64_t run)
{
    struct note_words words = {.magic = NOTE_MAGIC, .run = run};
    int fd =
        openat(folder, NOTE, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY, 0600);

    if (fd < 0)
        return -errno;
    if (pwrite(fd, &words, sizeof words, 0) == (ssize_t)sizeof words)
        return fd;
    close(fd);
    return -ENOSPC;
}

/* The system call itself: sanitizers have functions of their own, which no signal handler may call.
 * The page is there, so it needs no memory. */
static void write_word(struct memory *m, size_t offset, uint64_t word)
{
    struct iovec piece = {&word, sizeof word};
    int error = errno;

    if (m && syscall(SYS_pwritev, m->note, &piece, 1L, (long)offset, 0L) != (long)sizeof word)
        (void)syscall(SYS_ftruncate, m->note, 0L); /* not in order either */
    errno = error;
}

void memory_note_failed(struct memory *m)
{
    write_word(m, offsetof(struct note_words, failed), 1);
}

void memory_note_settled(struct memory *m)
{
    write_word(m, offsetof(struct note_words, failed), 0);
}

void memory_note_incomplete(struct memory *m)
{
    write_word(m, offsetof(struct note_words, incomplete), 1);
    if (m)
        atomic_store(&m->incomplete, true);
}

void memory_note_catalogue(struct memory *m, uint64_t number)
{
    write_word(m, offsetof(struct note_words, catalogue), number);
}

bool memory_is_incomplete(struct memory *m)
{
    return m && atomic_load(&m->incomplete);
}

static bool read_note(struct storage *s, struct note_words *words)
{
    struct storage_file *f;
    bool read;

    if (s->ops->open(s, NOTE, false, &f) < 0)
        return false;
    read = s->ops->read(f, words, sizeof *words, 0) == 0;
    s->ops->close(f);
    return read && words->magic == NOTE_MAGIC;
}

/* ---- the life of it ---- */

struct memory *memory_new(const char *uuid, uint64_t run, GError **err)
{
    g_autofree char *path = memory_path(uuid);
    int folder = make_folder(path), note;
    struct storage *s;
    struct memory *m;

    if (folder < 0) {
        fail_errno(err, -folder, "state: %s", path);
        return NULL;
    }
    s = storage_dir_new_memory(path, folder);
    empty(s);
    note = make_note(folder, run);
    if (note < 0) {
        fail_errno(err, -note, "state: %s/" NOTE, path);
        s->ops->free(s);
        (void)rmdir(path);
        return NULL;
    }
    m = g_new0(struct memory, 1);
    *m = (struct memory){.storage = s, .folder = folder, .note = note};
    return m;
}

void memory_remove(struct memory *m)
{
    if (!m)
        return;
    empty(m->storage);
    (void)unlinkat(m->folder, STATE_BITS, AT_REMOVEDIR);
    if (unlinkat(m->folder, STATE_VIEWS, AT_REMOVEDIR) < 0 && errno == ENOTEMPTY)
        return;
    if (rmdir(m->storage->path) < 0 && errno != ENOENT)
        log_error("state: %s: cannot remove it: %m", m->storage->path);
}

void memory_free(struct memory *m)
{
    if (!m)
        return;
    close(m->note);
    m->storage->ops->free(m->storage);
    g_free(m);
}

static enum memory_kind kind_of(const struct note_words *words)
{
    if (words->failed)
        return MEMORY_FAILED;
    return words->incomplete ? MEMORY_INCOMPLETE : MEMORY_WHOLE;
}

struct memory_left memory_find(const char *uuid, uint64_t run)
{
    g_autofree char *path = memory_path(uuid);
    int fd = open_folder(path);
    struct memory_left left = {.kind = MEMORY_GONE};
    struct note_words words;

    if (fd < 0)
        return left;
    left.files = storage_dir_new_memory(path, fd);
    if (run != 0 && read_note(left.files, &words) && words.run == run) {
        left.kind = kind_of(&words);
        left.catalogue = words.catalogue;
    }
    if (left.kind == MEMORY_GONE || words.incomplete) {
        left.files->ops->free(left.files);
        left.files = NULL;
    }
    return left;
}
