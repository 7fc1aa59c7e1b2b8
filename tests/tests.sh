#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# Make tests.mk, which Makefile.am includes, from tests.list (see there). configure.ac runs this when
# `autoreconf` reads it; make runs it when the list has changed. A file that is right stays as it is.
#
#   tests.sh FOLDER      FOLDER has both files

set -eu
trap 'rm -f "$1/tests.mk.new"' EXIT

LC_ALL=C awk '
function complain(what)
{
    printf "tests.list:%d: %s\n", FNR, what >"/dev/stderr"
    failed = 1
}

# A name as automake spells it in variables.
function canonical(name)
{
    gsub(/[^A-Za-z0-9_@]/, "_", name)
    return name
}

# Add a test to a list. It is built if `condition` holds; "" means always.
function add(list, name, condition)
{
    if (condition == "")
        members[list] = members[list] " \\\n\t" name
    else
        conditional = conditional "if " condition "\n" list " += " name "\nendif\n"
}

function say(line)
{
    text = text line "\n"
}

function plugin(name, links,    c)
{
    c = canonical(name) "_la"
    add("listed_plugins", name ".la", "HAVE_NBDKIT_PLUGIN_H")
    say(c "_SOURCES = " name ".c")
    say(c "_CFLAGS = $(test_plugin_cflags)")
    say(c "_LDFLAGS = $(test_plugin_ldflags)")
    if (links != "")
        say(c "_LIBADD = $(links_" links ")")
}

function fuzz_target(name, links,    base, c)
{
    base = name
    sub(/.*\//, "", base)
    c = "fuzz_fuzz_" canonical(base)
    add("listed_fuzz_targets", "fuzz/fuzz-" base, "")
    say(c "_SOURCES = " name ".c")
    say(c "_LDADD = fuzz/libfuzz.a $(links_" links ")")
    say(c "_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)")
    c = "fuzz_replay_" canonical(base)
    add("listed_programs", "fuzz/replay-" base, "")
    add("listed_tests", "fuzz/replay-" base, "")
    say(c "_SOURCES = " name ".c fuzz/replay.c")
    say(c "_LDADD = fuzz/libfuzz.a $(links_" links ")")
}

# A program that loads plugins exports nbdkit_* as the server does.
function host_program(name, exports,    c, i, n, symbols, flags)
{
    c = canonical(name)
    flags = "$(links_backend_ldflags)"
    n = split(exports, symbols, ",")
    for (i = 1; i <= n; i++)
        flags = flags " \\\n\t-Wl,--export-dynamic-symbol=" symbols[i]
    say(c "_LDFLAGS = " flags)
    say(c "_LDADD = $(links_backend)")
    say(c "_DEPENDENCIES = $(links_backend_dependencies)")
}

/^#/ || NF == 0 { next }

{
    name = $1
    links = exports = only = condition = ""
    long = tsan = ldflags = 0
    if (name in seen)
        complain(name " is there twice")
    if (name <= previous)
        complain(name " is not in order: it comes before " previous)
    seen[name] = 1
    previous = name
    for (i = 2; i <= NF; i++) {
        if ($i ~ /^links=./)
            links = substr($i, 7)
        else if ($i ~ /^exports=./)
            exports = substr($i, 9)
        else if ($i == "only=long" || $i == "only=interop")
            only = substr($i, 6)
        else if ($i == "tsan")
            tsan = 1
        else if ($i == "long")
            long = 1
        else if ($i == "ldflags")
            ldflags = 1
        else if ($i == "unsanitized")
            condition = "!HAVE_SANITIZER"
        else if ($i == "nbdkit-header")
            condition = "HAVE_NBDKIT_PLUGIN_H"
        else
            complain("what is " $i "?")
    }

    if (name ~ /^tests\/plugins-src\//) {
        plugin(name, links)
        next
    }
    if (name ~ /^fuzz\//) {
        fuzz_target(name, links)
        next
    }
    if (name ~ /\.py$/)
        add("listed_scripts", name, "")
    else {
        add("listed_programs", name, condition)
        if (name ~ /^tests\/backend\// && links == "")
            host_program(name, exports)
        else {
            if (links == "") {
                links = name
                sub(/\/[^\/]*$/, "", links)
                sub(/.*\//, "", links)
            }
            say(canonical(name) "_LDADD = $(links_" links ")")
            if (ldflags)
                say(canonical(name) "_LDFLAGS = $(AM_LDFLAGS) $(links_" links "_ldflags)")
        }
    }
    add(only == "" ? "listed_tests" : "only_" only "_tests", name, condition)
    if (tsan)
        add("tsan_tests", name, condition)
    if (long)
        add("longer_tests", name, condition)
}

END {
    if (failed)
        exit 1
    print "# Made by tests.sh from tests.list."
    n = split("listed_scripts listed_programs listed_plugins listed_fuzz_targets listed_tests " \
              "tsan_tests longer_tests only_long_tests only_interop_tests", lists, " ")
    for (i = 1; i <= n; i++)
        print lists[i] " =" members[lists[i]]
    printf "%s%s", conditional, text
}' "$1/tests.list" >"$1/tests.mk.new"

cmp -s "$1/tests.mk.new" "$1/tests.mk" || mv -f "$1/tests.mk.new" "$1/tests.mk"
