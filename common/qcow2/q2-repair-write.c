/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/base/file-io.h"
#include "common/qcow2/q2-repair-private.h"

#include <errno.h>
#include <unistd.h>

int q2_repair_write(struct q2_repair *r, const void *bytes, size_t length, uint64_t offset)
{
    int error;

    r->done->changed = true;
    error = pwrite_all(r->image->file.fd, bytes, length, offset);
    return error == 0 ? 0
                      : q2_fail_errno(r->err, -error, "Cannot write %zu bytes at %llu of '%s'",
                                      length, (unsigned long long)offset, r->image->file.path);
}

int q2_repair_sync(struct q2_repair *r)
{
    int result;

    do
        result = fdatasync(r->image->file.fd);
    while (result < 0 && errno == EINTR);
    return result == 0 ? 0 : q2_fail_errno(r->err, errno, "Cannot sync '%s'", r->image->file.path);
}
