/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/cli/image-open.h"

#include "client/base/error.h"
#include "client/cli/client.h"

#include <errno.h>

void image_tell(void *opaque, const char *sentence)
{
    (void)opaque;
    client_tell(sentence);
}

int image_refused(const struct q2_error *why, GError **err)
{
    return client_fail(err, CLIENT_ERROR_FAILED, "%s%s", why->text,
                       why->number == EXDEV
                           ? ", and a foreign image could name any file. --allow FOLDER allows more"
                           : "");
}
