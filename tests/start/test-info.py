# SPDX-License-Identifier: BSD-3-Clause
"""Options that print something and exit; the manual page, which must have the same options; and the
errors of a wrong command line."""

import os
import re

from fleece import SOURCE, nbdfleece, require_plugin, require_program, run, tmpdir
from tap import main, test


def long_options():
    return nbdfleece("--long-options").stdout.split()


def short_options():
    return nbdfleece("--short-options").stdout.split()


def manual():
    with open(os.path.join(SOURCE, "man", "nbdfleece.pod")) as f:
        return f.read()


def manual_options():
    """All options that have an =item in the manual."""
    return set(re.findall(r"B<(--?[a-zA-Z0-9-]+)>",
                          "".join(re.findall(r"^=item .*$", manual(), re.M))))


@test
def help_names_every_option():
    text = nbdfleece("--help").stdout
    for option in short_options():
        assert re.search(rf"^  {option}, --", text, re.M), option
    listed = set(re.findall(r"--[a-z0-9-]+", text))
    # All others are second names.
    aliases = {"--read-only", "--ip-addr", "--stdin", "--new-style", "--no-fork", "--pid-file",
               "--export-name", "--export", "--time-out", "--keep-alive", "--print-url", "--show-uri",
               "--show-url", "--no-structured-replies", "--no-meta-contexts",
               "--no-extended-headers"}
    assert set(long_options()) - listed == aliases, set(long_options()) - listed
    assert all(len(line) <= 100 for line in text.splitlines())


@test
def manual_names_every_option_and_no_other():
    options = set(long_options()) | set(short_options())
    assert manual_options() == options, manual_options() ^ options


@test
def options_that_nbdkit_scripts_probe_for():
    for option in ("--exit-with-parent --run --print-uri --show-uri --no-sr --no-mc --mask-handshake "
                   "--timeout --keepalive").split():
        assert option in long_options()
    assert "-U" in short_options()
    assert "--filter" not in long_options()
    assert "-o" not in short_options()
    nbdfleece("--exit-with-parent", "--version")


@test
def version_is_a_name_and_a_number():
    for option in "-V", "--version":
        assert re.fullmatch(r"nbdfleece \d+\.\d+\.\d+\n", nbdfleece(option).stdout)


@test
def version_of_a_plugin_is_its_own():
    own = nbdfleece("--version").stdout
    require_plugin("memory")
    theirs = run(require_program("nbdkit"), "memory", "--version").stdout.splitlines()[1]
    assert theirs.startswith("memory 1.")
    assert nbdfleece("memory", "--version").stdout == f"{own}{theirs}\n"
    # The plugin is not configured, so arguments may be missing or unknown.
    for args in ["--version", "file"], ["file", "--version"], ["-V", "file", "bogus=1"]:
        assert re.fullmatch(re.escape(own) + r"file \d+\.\d+.*\n", nbdfleece(*args).stdout)
    assert nbdfleece("-V", "--disk", "a", "memory", "--disk", "b", "memory").stdout == \
        f"{own}{theirs}\n{theirs}\n"
    assert "no-such-plugin" in refused(1, "no-such-plugin", "--version")
    assert "no-such-plugin" in refused(1, "--help", "no-such-plugin")


@test
def unknown_debug_flags_get_a_warning():
    require_plugin("memory")
    result = nbdfleece("-D", "memory.nosuch=1", "-D", "nobody.flag=1", "-U", "-", "--run", "true",
                       "memory", "1M")
    assert "warning: -D memory.nosuch: " in result.stderr, result.stderr
    assert "warning: debug flag nobody.flag " in result.stderr, result.stderr


@test
def dump_config_is_keys_and_values():
    lines = nbdfleece("--dump-config").stdout.splitlines()
    values = dict(line.split("=", 1) for line in lines)
    assert values["name"] == "nbdfleece"
    assert values["version"].startswith(f"{values['version_major']}.{values['version_minor']}.")
    assert os.path.isabs(values["plugindir"])
    # nbdkit-probing(1) tells programs to look at these.
    assert (values["run_default_socket"], values["timeout_option"], values["vsock_option"],
            values["exit_with_parent"], values["max_api_version"]) == ("Unix", "yes", "yes", "yes", "2")
    assert list(values) == sorted(values)


@test
def dump_plugin_describes_a_plugin():
    lines = nbdfleece("memory", "--dump-plugin").stdout.splitlines()
    values = dict(line.split("=", 1) for line in lines)
    assert values["name"] == "memory"
    assert values["has_pwrite"] == "1"
    assert values["path"].endswith(".so")
    assert nbdfleece("--dump-plugin", "memory").stdout.splitlines() == lines


@test
def help_shows_the_help_of_a_plugin():
    text = nbdfleece("--help", "memory").stdout
    assert "--disk NAME" in text
    assert "size=" in text
    assert nbdfleece("--help", "memory", "bogus=1").stdout == text


def refused(code, *args):
    result = nbdfleece(*args, check=False)
    assert result.returncode == code, (args, result)
    first = result.stderr.splitlines()[0]
    assert first.startswith("nbdfleece: error: "), result.stderr
    assert result.stdout == ""
    return first[len("nbdfleece: error: "):]


@test
def a_wrong_command_line_exits_with_2():
    assert refused(2) == "no PLUGIN is given"
    assert "'--no-such'" in refused(2, "--no-such", "null")
    assert "'-t' needs an argument" in refused(2, "null", "-t")


@test
def what_is_not_offered_exits_with_1():
    assert "nbdkit --filter" in refused(1, "--filter", "cow", "memory", "1M")
    assert "oldstyle" in refused(1, "-o", "null")


@test
def what_cannot_start_exits_with_1_and_names_it():
    with tmpdir() as d:
        unix = ("-f", "-U", f"{d}/s")
        assert "no-such-plugin" in refused(1, *unix, "no-such-plugin")
        assert "/no/such.so" in refused(1, *unix, "/no/such.so")
        assert "frobnicate" in refused(1, *unix, "memory", "1M", "frobnicate=1")
        assert "1X" in refused(1, *unix, "memory", "1X")
        message = refused(1, *unix, "--disk", "vda", "file", "/no/such/file")
        assert "vda" in message and "/no/such/file" in message, message
        assert "there is no user 'nobody-of-this-name'" == \
            refused(1, *unix, "-u", "nobody-of-this-name", "null")
        assert "there is no group 'nobody-of-this-name'" == \
            refused(1, *unix, "-g", "nobody-of-this-name", "null")
        message = refused(1, *unix, "-u", "54321", "null")
        assert message == "user '54321' has no name, and so no groups: say one with --group"
        assert "/no/such/pid" in refused(1, *unix, "-P", "/no/such/pid", "null")
        message = refused(1, "-f", "-U", f"{d}/no/such", "null")
        assert f"{d}/no/such" in message, message
        message = refused(1, *unix, "-C", f"{d}/no/such", "null")
        assert f"{d}/no/such" in message, message


@test
def a_start_that_failed_in_the_background_is_told_to_the_caller():
    with tmpdir() as d:
        message = refused(1, "-U", f"{d}/s", "-P", f"{d}/no/such", "null")
        assert f"{d}/no/such" in message, message


@test
def options_of_a_file_that_cannot_be_read():
    with tmpdir() as d:
        assert f"{d}/none" in refused(1, "--config", f"{d}/none")
        with open(f"{d}/bad", "w") as f:
            f.write("[nbdfleece]\nno-such = 1\n")
        assert refused(2, "--config", f"{d}/bad") == \
            f"{d}/bad: [nbdfleece]: there is no option 'no-such'"


main()
