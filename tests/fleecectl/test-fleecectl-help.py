#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The help of fleecectl. The manual page must have all commands and options that the help has."""

import os
import re

from fleece import SOURCE, fleecectl
from tap import main, test

COMMANDS = ("status", "disks", "bitmap", "checkpoint", "view", "session", "map", "pull", "backup",
            "list", "verify", "restore", "prune", "diff", "mount", "audit", "report", "state", "image", "tls",
            "qmp", "watch")
LATER = ("job", "push", "serve", "apply", "bitmap export", "bitmap import")


def manual():
    with open(os.path.join(SOURCE, "man", "fleecectl.pod"), encoding="utf-8") as f:
        return f.read()


def help_on(*command):
    result = fleecectl(*command, "--help")
    assert result.stderr == ""
    return result.stdout


def commands_in_help():
    """The commands that the help lists: "status", "bitmap add" ..."""
    listed = help_on().split("Commands:\n")[1].split("\n\n")[0]
    return [re.match(r"  (\S+( \S+)?)  ", line)[1].strip() for line in listed.splitlines()]


def options_in(text):
    """All long and short options of an option list."""
    return set(re.findall(r"^ +(?:-\w, )?(--[\w-]+)", text, re.M)) | \
        set(re.findall(r"^ +(-\w), --", text, re.M))


@test
def help_lists_exactly_the_commands():
    assert {c.split()[0] for c in commands_in_help()} == set(COMMANDS)
    assert "make and restore backups" in help_on()
    # The exit codes are those of the manual.
    codes = re.search(r"^Exit codes: (.*)\.$", help_on(), re.M)[1]
    section = re.search(r"^=head1 EXIT STATUS\n(.*?)^=head1", manual(), re.M | re.S)[1]
    assert re.findall(r"\d", codes) == re.findall(r"^=item C<(\d)>", section, re.M), codes
    result = fleecectl("frobnicate", check=False)
    assert result.returncode == 2, result
    assert result.stderr == ("fleecectl: unknown command 'frobnicate': there is "
                             f"{', '.join(COMMANDS)}\n"), result.stderr


@test
def planned_commands_are_refused_by_name():
    """A clear sentence says that the command is planned, whatever options follow. Help and manual
    list the same commands."""
    for command in LATER:
        for options in ([], ["-o", "repo", "--level", "full"], ["--help"], ["--", "-x"]):
            result = fleecectl("--json", *command.split(), *options, check=False)
            assert result.returncode == 2 and result.stdout == "", result
            assert result.stderr == (f"fleecectl: {command} is not there yet: it is planned, and "
                                     "not in this version\n"), result.stderr
    listed = re.search(r"^Not there yet:\n(.*?)\n\n", help_on(), re.M | re.S)[1]
    listed = re.split(r",\s+", listed.strip())
    assert sorted(listed) == sorted(LATER), listed
    section = re.search(r"^=head1 NOT THERE YET\n(.*?)^=head1", manual(), re.M | re.S)[1]
    assert set(re.findall(r"C<([a-z ]+)>", section)) == set(LATER), section


@test
def manual_has_every_command_and_option():
    text = manual()
    options = options_in(help_on())
    assert {"-C", "--control", "--json", "-h", "--help", "-V", "--version"} <= options, options
    for command in commands_in_help():
        usage = help_on(*command.split()).splitlines()[0]
        synopsis = usage.split("[--json] ")[1]
        # The heading of its section in the manual is the synopsis of its help.
        assert f"\n=head2 {synopsis}\n" in text, synopsis
        options |= options_in(help_on(*command.split()))
    for option in options:
        assert f"B<{option}>" in text, option


@test
def the_synopsis_of_the_manual_has_every_command():
    synopsis = re.search(r"^=head1 SYNOPSIS\n(.*?)^=head1", manual(), re.M | re.S)[1]
    shown = set()
    for line in synopsis.split("\n fleecectl "):
        line = re.sub(r"\[[^]]*\]", "", line).replace(" | ", "|").split()
        for family in line[0].split("|") if line else ():
            shown |= {f"{family} {action}" for action in "".join(line[1:2]).split("|")} | {family}
    missing = set(commands_in_help()) - shown
    assert not missing, missing


@test
def help_has_every_option_of_the_manual():
    known = options_in(help_on())
    for command in commands_in_help():
        known |= options_in(help_on(*command.split()))
    for option in re.findall(r"B<(--?\w[\w-]*)>", manual()):
        assert option in known, option
    sections = re.findall(r"^=head2 (.*)$", manual(), re.M)
    assert len(sections) == len(commands_in_help()), sections


@test
def help_of_families():
    for family in "bitmap", "checkpoint", "view", "session", "state", "image", "tls":
        text = help_on(family)
        for command in commands_in_help():
            assert (f"\n  {command} " in text) == command.startswith(family + " "), command
    assert fleecectl("--version").stdout.startswith("fleecectl ")
    for line in help_on().splitlines():
        assert len(line) <= 80, line


main()
