/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/base/html.h"
#include "client/base/terminal.h"

#include <glib.h>

char *html_escape(const char *text)
{
    g_autofree char *clean = text_clean(text, false);

    return g_markup_escape_text(clean, -1);
}
