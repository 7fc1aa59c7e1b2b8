# SPDX-License-Identifier: BSD-3-Clause
"""The shape of the tree: arrows between rooms point down, no two files need each other, headers
compile alone, files have the right first lines and lengths, and no text refers to a page that is
not in the tree. For each rule another test shows that it finds what breaks it."""

import glob
import os
import re
import shlex
import shutil
import subprocess

import house
from fleece import BUILD, SOURCE, SOON, tmpdir
from tap import main, note, test

# Folders of other projects, and folders that are made.
SKIPPED = re.compile(r"\.git|build(-aux)?|m4|autom4te\.cache|interop-root|__pycache__|planted-.*|seeds|clang"
                     r"|corpus|findings")
TEXT = (".c", ".h", ".py", ".md", ".svg", ".pod", ".sh", ".mk", ".am", ".ac", ".in", ".list", ".faults", ".syms")

_tree = []


def tree():
    """The tree as it is, read once."""
    if not _tree:
        _tree.append(house.Tree.read(SOURCE, BUILD))
    return _tree[0]


def abi():
    """The functions that a plugin finds in any nbdkit."""
    with open(os.path.join(SOURCE, "server/backend/nbdkit.syms"), encoding="utf-8") as f:
        return frozenset(re.findall(r"\b(nbdkit_\w+);", f.read()))


def none(findings):
    for text in findings:
        note(text)
    assert not findings, f"{len(findings)} findings"


def every_text():
    """{path: text} of all files that are written by hand."""
    texts = {}
    for path, dirs, names in os.walk(SOURCE):
        dirs[:] = [d for d in dirs if not SKIPPED.fullmatch(d)]
        for name in names:
            if name.endswith(TEXT) or name in ("COPYING", "README", "run"):
                with open(os.path.join(path, name), encoding="utf-8") as f:
                    texts[os.path.relpath(os.path.join(path, name), SOURCE)] = f.read()
    return texts


def made(symbols, texts=()):
    """A Tree from {path: "defined names; needed names"}, and from texts {path: text}."""
    split = {path: tuple(set(side.split()) for side in text.split(";"))
             for path, text in symbols.items()}
    return house.Tree(dict(texts), split)


# ---- (a) floors ----

@test
def nothing_needs_a_higher_room():
    none(house.without_a_room(tree().texts) + house.not_built(tree()) +
         house.upward(tree().needs(abi())))


@test
def what_needs_a_higher_room_is_found():
    needs = made({"server/disk/gate.c": "gate_new; view_new",
                  "server/registry/registry.c": "registry_new; gate_new nbd_new",
                  "server/nbd/nbd.c": "nbd_new; qmp_new size_parse",
                  "server/control/qmp.c": "qmp_new; registry_new",
                  "common/base/size.c": "size_parse; log_line",
                  "common/util/log.c": "log_line; size_parse",
                  "client/cli/main.c": "main; log_line registry_new",
                  "plugins/file/file.c": "plugin_init; log_line nbdkit_error helper size_parse",
                  "plugins/lib/helper.c": "helper; size_parse",
                  "server/backend/nbdkit.c": "nbdkit_error; size_parse"},
                 {"common/base/size.h": '#include "common/json/value.h"\n',
                  "server/backend/backend.h": ' # include "server/disk/disk.h"\n'
                                              '#include "plugins/nbdfleece-plugin.h"\n',
                  "plugins/file/file.c": '#include "server/backend/nbdkit-abi.h"\n'})
    assert house.upward(needs.needs({"nbdkit_error"})) == [
        "client/cli/main needs registry_new of server/registry/registry",
        'common/base/size needs #include "common/json/value.h" of common/json/value',
        "common/base/size needs log_line of common/util/log",
        'plugins/file/file needs #include "server/backend/nbdkit-abi.h" of server/backend/nbdkit-abi',
        "plugins/file/file needs log_line of common/util/log",
        'server/backend/backend needs #include "server/disk/disk.h" of server/disk/disk',
        "server/nbd/nbd needs qmp_new of server/control/qmp",
        "server/registry/registry needs nbd_new of server/nbd/nbd",
    ]
    assert house.without_a_room(["server/new/x.c", "server/nbd/x.c", "plugins/qcow2/x.c", "common/x.c"]) \
        == ["common/x.c: common/ is no room of the house", "server/new/x.c: server/new/ is no room of the house"]
    assert house.not_built(made({}, {"server/disk/x.c": "", "server/disk/x.h": ""})) == \
        ["server/disk/x.c is built into nothing"]


# ---- (b) circles ----

@test
def no_two_files_need_each_other():
    none(house.circles(tree().needs(abi())))


@test
def circles_are_found():
    assert house.circles(made({"server/disk/a.c": "a; b", "server/disk/b.c": "b; c x",
                               "server/disk/c.c": "c; a", "server/disk/d.c": "d; a e",
                               "server/disk/e.c": "e; x"}).needs()) == [
        "a circle of server/disk/a, server/disk/b, server/disk/c:\n"
        "    server/disk/a needs b of server/disk/b\n"
        "    server/disk/b needs c of server/disk/c\n"
        "    server/disk/c needs a of server/disk/a"]
    # One need by an include, the other by a symbol. A header and its .c file are one file.
    found = house.circles(made({"server/nbd/a.c": "a; b", "server/nbd/b.c": "b;"},
                               {"server/nbd/b.h": '#include "server/nbd/a.h"\n'}).needs())
    assert len(found) == 1 and '#include "server/nbd/a.h"' in found[0], found
    # A header that a .c file includes without calling anything of it does not count.
    assert house.circles(made({"server/nbd/a.c": "a;", "server/nbd/b.c": "b; a"},
                              {"server/nbd/a.c": '#include "server/nbd/b.h"\n'}).needs()) == []
    # Two circles. A file that needs itself is no circle.
    assert len(house.circles(made({"common/base/a.c": "a; b", "common/base/b.c": "b; a",
                                   "server/nbd/c.c": "c; d c", "server/nbd/d.c": "d; c"}).needs())) == 2
    # A header that a room shares: what it includes does not count, what is called does.
    private = {"server/nbd/x-private.h": '#include "server/nbd/a.h"\n',
               "server/nbd/b.h": '#include "server/nbd/x-private.h"\n'}
    assert house.circles(made({"server/nbd/a.c": "a; b", "server/nbd/b.c": "b;"}, private).needs()) == []
    assert len(house.circles(made({"server/nbd/a.c": "a; b", "server/nbd/b.c": "b; a"},
                                  private).needs())) == 1
    assert house.not_built(made({"server/nbd/x-private.c": ";"}, {"server/nbd/x-private.c": ""})) == \
        ["server/nbd/x-private.c is more than a header"]
    assert house.circles(made({"common/base/a.c": "a; a"}, {"common/base/a.c": '#include "common/base/a.h"'})
                         .needs()) == []


@test
def symbols_of_objects_are_read():
    """nm reads real objects, with names such as a build gives them."""
    with tmpdir() as d:
        for path, text in (("server/nbd/a.c", "int b(void), shown = 1; static int hidden(void) { return b(); }\n"
                                              "int a(void) { return hidden(); }"),
                           ("server/nbd/b.c", "extern int shown; int b(void) { return shown; }"),
                           ("server/nbd/b.h", "")):
            os.makedirs(os.path.dirname(f"{d}/{path}"), exist_ok=True)
            with open(f"{d}/{path}", "w", encoding="ascii") as f:
                f.write(text)
        os.makedirs(f"{d}/server/nbd/.libs")
        for source, name in ("a", "libnbd_a-a"), ("b", ".libs/libnbd_la-b"), ("b", "tests_rigs_libx_a-b"):
            subprocess.run([*make_says("CC"), "-c", f"{d}/server/nbd/{source}.c", "-o",
                            f"{d}/server/nbd/{name}.o"], check=True, timeout=SOON)
        read = house.Tree.read(d, d)
        assert sorted(read.symbols) == ["server/nbd/a.c", "server/nbd/b.c"], read.symbols
        defined, needed = read.symbols["server/nbd/a.c"]
        assert defined == {"a", "shown"} and "b" in needed, read.symbols
        assert len(house.circles(read.needs())) == 1
        shutil.copy(f"{d}/server/nbd/.libs/libnbd_la-b.o", f"{d}/server/nbd/b.o")
        os.utime(f"{d}/server/nbd/b.o", (1, 1))
        assert set(house.objects(d, set(house.sources(d)), d)) == \
            {"server/nbd/libnbd_a-a.o", "server/nbd/.libs/libnbd_la-b.o"}


# ---- (c) headers ----

def make_says(variables):
    """The words of one or several variables of the Makefile."""
    text = "include Makefile\nsay-it: ; @printf '%s\\n' '" + \
        " ".join(f"$({name})" for name in variables.split()) + "'\n"
    done = subprocess.run(["make", "-s", "--no-print-directory", "-f", "-", "say-it"], cwd=BUILD, text=True,
                          input=text, stdout=subprocess.PIPE, check=True, timeout=SOON,
                          env={k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))})
    return shlex.split(done.stdout)


def compiler(source=SOURCE):
    words = make_says("CC DEFS DEFAULT_INCLUDES AM_CPPFLAGS CPPFLAGS AM_CFLAGS CFLAGS LIBNBD_CFLAGS")
    return [word if not word.startswith("-I") else "-I" + os.path.normpath(os.path.join(BUILD, word[2:]))
            for word in words] + [f"-I{source}"]


def headers(*folders):
    return [os.path.join(SOURCE, path) for path in house.sources(SOURCE, folders) if path.endswith(".h")]


@test
def headers_of_the_server_compile_alone():
    none(house.headers_alone(compiler(), headers("server"), os.cpu_count()))


@test
def other_headers_compile_alone():
    none(house.headers_alone(compiler(), headers("client", "common", "plugins", "fuzz", "tests"),
                             os.cpu_count()))


@test
def a_header_that_needs_others_is_found():
    with tmpdir() as d:
        with open(f"{d}/bad.h", "w", encoding="ascii") as f:
            f.write("uint64_t twice(struct unknown u);\nsize_t length(GBytes *b);\n")
        with open(f"{d}/good.h", "w", encoding="ascii") as f:
            f.write('#include "common/base/size.h"\n')
        found = house.headers_alone(compiler(), [f"{d}/bad.h", f"{d}/good.h"], 2)
        assert len(found) == 1 and "bad.h does not compile alone" in found[0], found


# ---- (d) main loops ----

@test
def no_main_loop_below_the_registry():
    none(house.forbidden(tree()))


@test
def main_loops_are_found():
    assert house.forbidden(made({"server/disk/x.c": "; g_timeout_add g_list_append json_node_new socket",
                                 "server/nbd/x.c": "; g_main_loop_new socket",
                                 "common/base/x.c": "; g_idle_add socket", "common/util/x.c": "; g_idle_add",
                                 "plugins/lib/x.c": "; g_source_remove"})) == [
        "common/base/x.c needs g_idle_add", "plugins/lib/x.c needs g_source_remove",
        "server/disk/x.c needs g_timeout_add", "server/disk/x.c needs json_node_new",
        "server/disk/x.c needs socket"]


# ---- (e) files ----

@test
def files_are_headed_as_they_should_be():
    none(house.badly_headed({path: text for path, text in every_text().items()
                             if path.endswith((".c", ".h"))}))


@test
def files_have_a_size_that_can_be_read():
    for text in house.lengths(tree().texts, house.LONG):
        note(f"long: {text}")
    none(house.lengths(tree().texts, house.TOO_LONG))


@test
def bad_heads_and_long_files_are_found():
    spdx = "/* SPDX-License-Identifier: BSD-3-Clause */\n"
    good = spdx + "#ifndef DISK_X_Y_H\n#define DISK_X_Y_H\n#endif\n"
    assert house.badly_headed({"server/disk/x-y.h": good, "common/base/x.c": spdx}) == []
    assert len(house.badly_headed({"server/disk/z.h": good, "common/disk/x-y.h": good, "a.c": "\n" + spdx,
                                   "server/disk/x-y.h": good.replace("#define D", "#define A")})) == 4
    assert house.lengths({"a": "\n" * 600, "b": "\n" * 601}, 600) == ["b: 601 lines"]


# ---- (f) pages ----

@test
def texts_refer_only_to_pages_that_exist():
    texts = every_text()
    none(house.references({path: text for path, text in texts.items()
                           if not path.startswith("tests/structure/")}) +
         house.dead_links(texts))


@test
def references_to_elsewhere_are_found():
    found = house.references({"a": "see interface.md", "b": "see docs/ARCHITECTURE.md", "c": "reference/qmp.md",
                              "d": "the shared\n reference", "e": "the checklist's section M"})
    assert [text[0] for text in found] == ["a", "c", "d", "e"], found
    pages = {"docs/a.md": "[b](b.md) [c](../tests/c.py) [c](c.md) [web](https://x.y/z.md) [it](#it)",
             "docs/b.md": "[a](a.md#part) [all](../tests)", "tests/c.py": "[no](link)"}
    assert house.dead_links(pages) == ["docs/a.md: c.md"], house.dead_links(pages)


# ---- the list of tests ----

@test
def every_test_is_declared():
    with open(os.path.join(SOURCE, "tests/tests.list"), encoding="utf-8") as f:
        listed = {line.split()[0] for line in f if line.strip() and not line.startswith("#")}
    there = {re.sub(r"\.c$", "", os.path.relpath(path, SOURCE))
             for pattern in ("tests/*/test-*", "tests/unit/*/test-*", "tests/plugins-src/*.c")
             for path in glob.glob(os.path.join(SOURCE, pattern)) if path.endswith((".c", ".py"))}
    none([f"{name} is in tests/tests.list and not there" for name in sorted(listed - there)
          if not name.startswith("fuzz/")] +
         [f"{name} is not in tests/tests.list" for name in sorted(there - listed)])


main()
