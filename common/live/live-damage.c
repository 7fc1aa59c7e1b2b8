/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/live/live-header.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void tell(struct live_image *image, const char *format, va_list args)
{
    char text[1024];

    if (!image->options.tell)
        return;
    vsnprintf(text, sizeof(text), format, args);
    image->options.tell(image->options.opaque, text);
}

void live_tell(struct live_image *image, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    tell(image, format, args);
    va_end(args);
}

/* What became of the image. */
static void tell_damage(struct live_image *image, const char *why, int marked)
{
    if (!image->head)
        live_tell(image, "%s", why);
    else if (marked < 0)
        live_tell(image, "%s. The image is written no more, but could not be marked as corrupt: %s",
                  why, strerrordesc_np(-marked));
    else
        live_tell(image, "%s. The image is damaged, and is written no more", why);
}

/* Nothing is written any more before the mark is: what comes after it could only spread the damage. */
int live_damaged(struct live_image *image, const char *format, ...)
{
    char why[512];
    va_list args;
    int none = 0, marked = 0;

    if (atomic_exchange(&image->damaged, true))
        return -EIO;
    atomic_compare_exchange_strong(&image->broken, &none, -EIO);
    va_start(args, format);
    vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    if (image->head)
        marked = live_header_set_corrupt(image);
    tell_damage(image, why, marked);
    return -EIO;
}
