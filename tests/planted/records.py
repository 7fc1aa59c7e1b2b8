# SPDX-License-Identifier: BSD-3-Clause
"""The list of planted faults: reading the *.faults files, and checking that they still fit the
code.

README.md in this folder describes the format.
"""

import collections
import glob
import os
import random
import re

HERE = os.path.dirname(os.path.abspath(__file__))
# The folders of the product. A fault anywhere else would prove nothing.
PRODUCT = ("client", "common", "plugins", "server")


class Malformed(Exception):
    """A *.faults file is not what README.md says."""


class Fault(collections.namedtuple("Fault", "name path breaks found_by limit hunks where")):
    """One planted fault.

    name      unique over all files
    path      the file it is in, relative to the source tree
    breaks    what a user would lose
    found_by  [(test program, what in it or None)]
    limit     seconds that a test may take; None: a multiple of what it takes without the fault
    hunks     [(old text, new text)], each whole lines
    where     FILE:LINE of the record
    """

    @property
    def folder(self):
        return os.path.dirname(self.path)

    def applied(self, text):
        """Put the fault into `text`, which is the file as it is. ValueError if it does not fit."""
        for old, new in self.hunks:
            count = len(re.findall("^" + re.escape(old), text, re.M))
            if count != 1:
                raise ValueError(f"{self.where}: {self.name}: its old lines occur {count} times in "
                                 f"{self.path}, not once:\n{old}")
            text = re.sub("^" + re.escape(old), lambda _: new, text, count=1, flags=re.M)
        return text


def _hunks(lines):
    """The hunks [(old text, new text)] of a record's body, whose lines begin with their signs."""
    pieces = [[]]
    for line in lines:
        if line == "@@":
            pieces.append([])
        else:
            pieces[-1].append(line or " ")
    def side(piece, signs):
        return "".join(line[1:] + "\n" for line in piece if line[0] in signs)
    return [(side(p, " -"), side(p, " +")) for p in pieces]


def _record(where, name, lines):
    """Make a Fault of the lines below its "==" line."""
    fields, body = {}, []
    for line in lines:
        match = re.fullmatch(r"([a-z-]+): +(\S.*)", line)
        if match and not body:
            if match[1] in fields:
                raise Malformed(f"{where}: {match[1]}: is there twice")
            fields[match[1]] = match[2].rstrip()
        elif body or line:
            body.append(line)
    while body and not body[-1]:
        body.pop()
    wrong = [line for line in body if line and line != "@@" and line[0] not in " -+"]
    if wrong:
        raise Malformed(f"{where}: neither a field nor a line of a hunk: {wrong[0]!r}")
    unknown = set(fields) - {"file", "breaks", "found-by", "limit"}
    missing = {"file", "breaks", "found-by"} - set(fields)
    if unknown or missing:
        raise Malformed(f"{where}: fields unknown: {sorted(unknown)}, missing: {sorted(missing)}")
    hunks = _hunks(body)
    if any(not old or old == new for old, new in hunks):
        raise Malformed(f"{where}: {name}: a hunk changes nothing")
    found_by = [(test, inside or None) for test, _, inside in
                (word.partition(":") for word in fields["found-by"].split())]
    limit = int(fields["limit"]) if "limit" in fields else None
    return Fault(name, fields["file"], fields["breaks"], found_by, limit, hunks, where)


def parse(path):
    """The faults of one file. Raises Malformed."""
    with open(path, encoding="utf-8") as f:
        lines = f.read().split("\n")
    faults, name, start, record = [], None, 0, []
    for number, line in enumerate(lines + ["== "], 1):
        if not line.startswith("== "):
            if name is not None:
                record.append(line)
            elif line and not line.startswith("#"):
                raise Malformed(f"{path}:{number}: before the first record: {line!r}")
            continue
        if name is not None:
            faults.append(_record(f"{os.path.basename(path)}:{start}", name, record))
        name, start, record = line[3:].strip(), number, []
    return faults


def load(folder=HERE):
    """All faults of the *.faults files in `folder`. Raises Malformed, also if a name is used
    twice."""
    faults = [fault for path in sorted(glob.glob(os.path.join(glob.escape(folder), "*.faults")))
              for fault in parse(path)]
    seen = {}
    for fault in faults:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*", fault.name):
            raise Malformed(f"{fault.where}: a name is letters, digits and dashes: "
                            f"{fault.name!r}")
        if fault.name in seen:
            raise Malformed(f"{fault.where}: {fault.name}: {seen[fault.name]} has this name, too")
        seen[fault.name] = fault.where
    return faults


def default_tests(source):
    """The names of all tests that `make check` runs, from tests.list."""
    with open(os.path.join(source, "tests", "tests.list"), encoding="utf-8") as f:
        lines = [line.split() for line in f if not line.startswith("#")]
    return {words[0] for words in lines if words and words[0].startswith("tests/") and
            not any(word.startswith("only=") for word in words)}


def _test_source(source, test):
    """The source of a test program, "" if it does not exist."""
    path = os.path.join(source, test if test.endswith(".py") else test + ".c")
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as f:
        return f.read()


def _has(text, test, inside):
    """Does a test program's source have the test `inside`? A program may put a path of GLib's
    together from pieces; then the first piece must be there."""
    if test.endswith(".py"):
        return re.search(rf"^def {re.escape(inside)}\(", text, re.M) is not None
    return f'"{inside}' in text or f'"/{inside.split("/")[1]}/' in text


def complaints(fault, source, tests):
    """What is no longer true of a fault, as sentences. tests: default_tests()."""
    if not fault.path.startswith(tuple(f"{folder}/" for folder in PRODUCT)):
        return [f"{fault.where}: {fault.path} is not in {', '.join(PRODUCT)}"]
    try:
        with open(os.path.join(source, fault.path), encoding="utf-8") as f:
            fault.applied(f.read())
    except (OSError, ValueError) as error:
        return [f"{fault.where}: {error}" if isinstance(error, OSError) else str(error)]
    wrong = []
    for test, inside in fault.found_by:
        if test not in tests:
            wrong.append(f"{fault.where}: {fault.name}: {test} is no test of `make check`")
        elif inside is not None and not _has(_test_source(source, test), test, inside):
            wrong.append(f"{fault.where}: {fault.name}: {test} has no test {inside}")
    return wrong


def folders(source):
    """The folders of the product that have C code beside a main.c."""
    return sorted({os.path.relpath(path, source) for top in PRODUCT
                   for path, _, names in os.walk(os.path.join(source, top))
                   if any(name.endswith(".c") and name != "main.c" for name in names)})


def sample(faults, number, seed):
    """Choose `number` faults by chance, from as many folders as possible."""
    chance = random.Random(seed)
    mixed = chance.sample(faults, len(faults))
    first = {fault.folder: fault for fault in reversed(mixed)}
    spread = [fault for fault in mixed if first[fault.folder] is fault]
    return (spread + [fault for fault in mixed if first[fault.folder] is not fault])[:number]
