#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Headers, symbols and files: the header that is installed for those who write plugins, the symbols
that our plugins show and need, the files that are installed, and the header that refuses a build
with small offsets."""

import glob
import os
import shutil
import subprocess
import tempfile

from tap import main, skip, test

BUILD = os.environ["top_builddir"]
SOURCE = os.environ["top_srcdir"]

# A plugin with each function as the header declares it.
PLUGIN = """\
#include <nbdfleece-plugin.h>
int nbdfleece_plugin_disk(const char *name) { return name ? 0 : -1; }
int nbdfleece_plugin_open_ahead(int readonly) { return readonly; }
int nbdfleece_plugin_fd(void *handle) { return handle ? 0 : -1; }
int nbdfleece_plugin_map(void *handle, uint64_t offset, uint64_t length, int writing,
                         struct nbdfleece_segment *segment, size_t size)
{ segment->place = NBDFLEECE_UNKNOWN; return handle && offset && length && size && writing ? 0 : -1; }
int nbdfleece_plugin_resize(void *handle, uint64_t size) { return handle && size ? 0 : -1; }
int nbdfleece_plugin_identity(void *handle, struct nbdfleece_identity *identity, size_t size)
{ identity->modified = 0; return handle && size ? 0 : -1; }
"""


def compiler(*names):
    """The first of these that is installed."""
    for name in names:
        if shutil.which(name):
            return name
    skip("no compiler: " + ", ".join(names))


def compiles(command, name, text):
    """Does `text` compile as a file called `name`? True, or False and what the compiler says."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, name)
        with open(path, "w") as f:
            f.write(text)
        r = subprocess.run([*command, "-c", path, "-o", os.path.join(folder, "out.o")],
                           stderr=subprocess.PIPE, text=True, env={**os.environ, "LC_ALL": "C"})
        return r.returncode == 0, r.stderr


def names(kind, path):
    """The dynamic symbols of an object. kind: "defined" or "undefined"."""
    listing = subprocess.run(["nm", "-D", f"--{kind}-only", path], check=True,
                             stdout=subprocess.PIPE, text=True).stdout
    return {line.split()[-1].split("@")[0] for line in listing.splitlines()}


def symbols(command, name, text):
    """The global symbols that a shared object of `text` shows."""
    with tempfile.TemporaryDirectory() as folder:
        path, out = os.path.join(folder, name), os.path.join(folder, "out.so")
        with open(path, "w") as f:
            f.write(text)
        subprocess.run([*command, "-shared", "-fPIC", path, "-o", out], check=True)
        return names("defined", out)


def installed(folder):
    """Install the headers below `folder`. Returns the folder in which they are."""
    subprocess.run(["make", "-s", "-C", BUILD, "install-includeHEADERS", "DESTDIR=" + folder],
                   check=True, stdout=subprocess.DEVNULL)
    for path, _, files in os.walk(folder):
        if "nbdfleece-plugin.h" in files:
            assert os.path.basename(path) == "include", path
            return path
    raise AssertionError("make install does not install nbdfleece-plugin.h")


@test
def a_plugin_in_C_is_checked_against_the_installed_header():
    cc = [compiler("cc", "gcc", "clang"), "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror"]
    with tempfile.TemporaryDirectory() as folder:
        cc.append("-I" + installed(folder))
        good, said = compiles(cc, "plugin.c", PLUGIN)
        assert good, said
        wrong = PLUGIN.replace("uint64_t size", "int size")
        good, said = compiles(cc, "plugin.c", wrong)
        assert not good and "nbdfleece_plugin_resize" in said, said


@test
def a_plugin_in_Cxx_has_the_names_that_are_looked_up():
    cxx = [compiler("c++", "g++", "clang++"), "-Wall", "-Werror", "-fvisibility=hidden"]
    with tempfile.TemporaryDirectory() as folder:
        cxx.append("-I" + installed(folder))
        good, said = compiles(cxx, "plugin.cc", PLUGIN)
        assert good, said
        shown = symbols(cxx, "plugin.cc", PLUGIN)
    for name in ("disk", "open_ahead", "fd", "resize"):
        assert "nbdfleece_plugin_" + name in shown, shown


@test
def our_plugins_show_and_need_what_nbdkit_has():
    """They run in a stock nbdkit: so they need no GLib, and show no symbol that another object
    could have."""
    if os.environ.get("SANITIZER", "no") != "no":
        skip("sanitizers bring symbols of their own")
    plugins = glob.glob(os.path.join(BUILD, "plugins/*/.libs/nbdkit-*-plugin.so"))
    assert plugins
    for path in plugins:
        shown = {n for n in names("defined", path)
                 if n != "plugin_init" and not n.startswith("nbdfleece_plugin_")}
        assert not shown, f"{path} shows {shown}"
        needed = {n for n in names("undefined", path) if n.startswith("g_")}
        assert not needed, f"{path} needs {needed}"


@test
def a_plugin_is_installed_as_one_file():
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["make", "-s", "-C", BUILD, "install-data", "DESTDIR=" + folder],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        plugins = glob.glob(folder + "/**/nbdfleece/plugins/*", recursive=True)
    assert sorted(os.path.basename(p) for p in plugins) == [
        "nbdkit-file-plugin.so", "nbdkit-qcow2-plugin.so"], plugins


def compiler_of_32_bits(folder):
    """A command that compiles for 32 bits. Where libc's headers for 32 bits are not installed, it
    takes those for 64 bits, which lack only one file; an empty one is put in its place."""
    gcc = compiler("gcc")
    os.mkdir(os.path.join(folder, "gnu"))
    with open(os.path.join(folder, "gnu/stubs-32.h"), "w"):
        pass
    arch = subprocess.run([gcc, "-print-multiarch"], check=True, stdout=subprocess.PIPE,
                          text=True).stdout.strip()
    plain = [gcc, "-m32", "-std=gnu17", "-D_GNU_SOURCE"]
    for cc in (plain, [*plain, "-I" + folder, "-idirafter", "/usr/include/" + arch]):
        if compiles(cc, "empty.c", "#include <sys/types.h>\n")[0]:
            return cc
    skip("the compiler knows nothing of 32 bits")


@test
def a_build_with_small_offsets_is_refused():
    text = '#include "common/base/file-io.h"\n'
    with tempfile.TemporaryDirectory() as folder:
        cc = [*compiler_of_32_bits(folder), "-I" + SOURCE]
        good, said = compiles(cc, "small.c", text)
        assert not good and "off_t has to have 64 bits" in said, said
        good, said = compiles([*cc, "-D_FILE_OFFSET_BITS=64"], "large.c", text)
        assert good, said


main()
