# SPDX-License-Identifier: BSD-3-Clause
"""All lines, and expected.txt, the table of deviations from the specification that are known:

    server | line | part | why

`server` is a name and version, or several with commas. `part` may have * in it; a ~ before it says
that the deviation depends on timing and happens only sometimes. Where `line` is "-", the server
does not offer something, and `part` is the name of that feature. Where `line` is "n/a", `part` has
the lines that do not apply at all because of that.
"""

import os
import re

# In the order of README.md's table.
import handshake  # noqa: F401
import tls  # noqa: F401
import meta  # noqa: F401
import transmission  # noqa: F401
import replies  # noqa: F401
import status  # noqa: F401
import sizes  # noqa: F401
import extended  # noqa: F401
import sessions  # noqa: F401
from lines import FAIL, LINES, NA, outcome

EXPECTED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "expected.txt")
README = os.path.join(os.path.dirname(EXPECTED), "README.md")
OURS = "nbdfleece"
FEATURE, NOWHERE = "-", "n/a"  # instead of a line


class Row:
    """One row of the table. used: some part had the outcome that the row says."""

    def __init__(self, number, server, line, part, why):
        self.number, self.server, self.line, self.why = number, server, line, why
        self.part, self.sometimes = part.removeprefix("~"), part.startswith("~")
        self.used = self.sometimes

    def matches(self, part):
        if self.line == FEATURE:
            return part.result == NA and part.feature == self.part
        # Only * is special, so that parts may have brackets in their names.
        pattern = re.escape(self.part).replace(r"\*", ".*")
        return part.line == self.line and re.fullmatch(pattern, part.name) is not None


def read_expected(path=EXPECTED):
    """[Row], one for each server of each row."""
    rows = []
    with open(path) as f:
        for number, text in enumerate(f, 1):
            if not text.strip() or text.startswith("#"):
                continue
            servers, line, part, why = (field.strip() for field in text.split("|", 3))
            lines = part.split() if line == NOWHERE else [] if line == FEATURE else [line]
            assert set(lines) <= set(LINES), f"{path}:{number}: no such line"
            assert why, f"{path}:{number}: no reason"
            rows += [Row(number, s.strip(), line, part, why) for s in servers.split(",")]
    return rows


def features(expected, server):
    """The features that a server does not offer, as the table says."""
    return {r.part for r in expected if r.server == server and r.line == FEATURE}


def not_applying(expected, server):
    """The lines that do not apply to a server at all, as the table says."""
    return {line for r in expected if r.server == server and r.line == NOWHERE
            for line in r.part.split()}


def compare(results, expected, server, partial=False):
    """The differences between results and the table, as sentences. partial: not all lines were run,
    so rows may stay unused."""
    nowhere = not_applying(expected, server)
    rows = [row for row in expected if row.server == server and row.line != NOWHERE]
    wrong = []
    for name, parts in results:
        if (outcome(parts) == NA) != (name in nowhere):
            wrong.append(f"{name}: {outcome(parts)}, the table says otherwise (n/a)")
        for part in parts:
            if part.result == NA:
                found = [r for r in rows if r.line == FEATURE and r.matches(part)]
            else:
                found = [r for r in rows if r.line != FEATURE and r.matches(part)]
            if part.result in (FAIL, NA):
                for row in found:
                    row.used = True
                if not found:
                    wrong.append(f"{part.line}, {part.name}: {part.result}: {part.why}")
            elif [r for r in found if not r.sometimes]:
                wrong.append(f"{part.line}, {part.name}: passes, but row {found[0].number} of the"
                             f" table says: {found[0].why}")
    if not partial:
        wrong += [f"row {r.number} of the table no longer happens: {r.line} {r.part}: {r.why}"
                  for r in rows if not r.used]
    return wrong


def _cell(expected, server, line):
    """What the table says about a line."""
    if line in not_applying(expected, server):
        return NOWHERE
    mine = [r.why for r in expected if r.server == server and r.line == line]
    return "; ".join(dict.fromkeys(mine)) or "+"


def table(expected):
    """README.md's table: line, what is asked, its file, and how each server does (+: as
    specified)."""
    servers = [OURS] + sorted({r.server for r in expected} - {OURS})
    out = ["| line | what is asked | test | " + " | ".join(servers) + " |",
           "|" + " --- |" * (3 + len(servers))]
    for name, function in LINES.items():
        asked = " ".join(function.__doc__.split()).replace("|", "\\|")
        cells = [_cell(expected, server, name) for server in servers]
        out.append(f"| {name} | {asked} | {function.__module__}.py | " + " | ".join(cells) + " |")
    return "\n".join(out)
