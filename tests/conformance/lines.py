# SPDX-License-Identifier: BSD-3-Clause
"""The lines of the conformance suite, and running them.

A line is a function whose docstring says what the protocol, or our choice, asks for; README.md has
the table of them. It is made of parts, so that one deviation does not hide what comes after it:

    @line
    def X4(t):
        "A length of 0 never ends the connection."
        with t.part("READ"):
            with t.ready() as c:
                ...                  # an exception fails the part, and the line goes on

A part passes, fails, or does not apply because the server lacks something (NotOffered).
"""

import contextlib
import socket
import struct
import traceback

from client import (
    FIXED_NEWSTYLE, INFO_BLOCK_SIZE, MAX_PAYLOAD, MODES, NO_ZEROES, READ_ONLY, STRUCTURED, Client,
    Closed, NotOffered)

PASS, FAIL, NA = "pass", "FAIL", "n/a"
LINES = {}  # name: function, in the order of README.md's table


def line(function):
    """Decorator: `function` is the test of the line of that name."""
    assert function.__name__ not in LINES and function.__doc__
    LINES[function.__name__] = function
    return function


class Part:
    """The outcome of one part. feature: what the server lacks, if the part does not apply."""

    def __init__(self, line, name):
        self.line, self.name = line, name
        self.result, self.why, self.feature, self.trace = PASS, "", None, ""


def _innermost(error):
    """The line of code of an assertion that has no text."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.line} ({frame.name})"


class Run:
    """One line's run against a target; the `t` of the line's function."""

    def __init__(self, name, target):
        self.name, self.target, self.parts = name, target, []

    @contextlib.contextmanager
    def part(self, name):
        assert name not in (p.name for p in self.parts), f"{self.name}: two parts {name!r}"
        part = Part(self.name, name)
        self.parts.append(part)
        try:
            yield
        except NotOffered as missing:
            part.result, part.feature, part.why = NA, missing.feature, str(missing)
        except AssertionError as error:
            part.result, part.why = FAIL, str(error) or _innermost(error)
            part.trace = traceback.format_exc()
        except socket.timeout:
            part.result, part.why, part.trace = FAIL, "no answer", traceback.format_exc()
        except (Closed, OSError) as error:
            part.result, part.why = FAIL, f"the connection ended: {error}"
            part.trace = traceback.format_exc()
            self.target.suspect()
        except Exception as error:  # such as a string that is no UTF-8, or a field that is missing
            part.result, part.why = FAIL, f"{type(error).__name__}: {error} ({_innermost(error)})"
            part.trace = traceback.format_exc()

    def modes(self, what, modes=MODES):
        """The same part in each mode of replies: for part in t.modes(...): with part as mode:
        ..."""
        return [self._mode(f"{what} [{mode}]", mode) for mode in modes]

    @contextlib.contextmanager
    def _mode(self, name, mode):
        with self.part(name):
            yield mode

    def where(self, role="main"):
        return self.target.export(role)

    def client(self, role="main", flags=FIXED_NEWSTYLE | NO_ZEROES):
        """A client after the greeting, before its first option; .export is the role's."""
        return Client(self.where(role), flags, self.target.patience)

    @contextlib.contextmanager
    def ready(self, role="main", mode=STRUCTURED, contexts=(), infos=(INFO_BLOCK_SIZE,)):
        """A client in the transmission phase."""
        with self.client(role) as c:
            c.negotiate(mode, contexts)
            yield c.go(infos=infos)

    @contextlib.contextmanager
    def writable(self, mode=STRUCTURED, contexts=(), role="main"):
        with self.ready(role, mode, contexts) as c:
            if c.eflags & READ_ONLY:
                raise NotOffered("writable", "the export is read-only")
            yield c

    def needs(self, condition, feature, why=""):
        if not condition:
            raise NotOffered(feature, why)

    def sizes(self, c, advertised=False):
        """The block sizes (minimum, preferred, maximum) of a client after INFO or GO, or the
        defaults; advertised: the server has to tell them."""
        told = c.infos.get(INFO_BLOCK_SIZE)
        self.needs(told or not advertised, "block-size")
        return struct.unpack(">III", told) if told else (1, 4096, MAX_PAYLOAD)

    def ours(self):
        """What follows is our choice; the specification leaves it open."""
        self.needs(self.target.is_ours, "ours", "a choice of nbdfleece")

    def contexts(self, role="main"):
        """All contexts of an export."""
        with self.client(role) as c:
            c.structured()
            return c.list_contexts(c.export)

    def bitmaps(self, role="bitmaps"):
        return [name for name in self.contexts(role) if name.startswith("qemu:dirty-bitmap:")]


def run_lines(target, only=None):
    """Run the lines (all, or those named) and give their parts: [(name, [Part])]."""
    results = []
    for name, function in LINES.items():
        if only and name not in only:
            continue
        run = Run(name, target)
        # An error outside of all parts fails the line as well.
        whole = Part(name, "all")
        try:
            function(run)
        except NotOffered as missing:
            whole.result, whole.feature, whole.why = NA, missing.feature, str(missing)
            run.parts.append(whole)
        except Exception as error:
            whole.result, whole.why = FAIL, str(error) or _innermost(error)
            whole.trace = traceback.format_exc()
            run.parts.append(whole)
        results.append((name, run.parts))
    return results


def outcome(parts):
    """One line's result: it fails if a part fails, and does not apply if no part does."""
    results = {p.result for p in parts}
    return FAIL if FAIL in results else PASS if PASS in results else NA


def summary(parts):
    """The reason for the outcome, in a line of text."""
    told = [f"{p.name}: {p.why}" for p in parts if p.result == FAIL]
    if not told and outcome(parts) == NA:
        told = sorted({p.why for p in parts})
    return "; ".join(told)

