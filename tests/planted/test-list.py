# SPDX-License-Identifier: BSD-3-Clause
"""The list of planted faults is well-formed and fits the code as it is: see README.md in this
folder."""

import os

import records
from fleece import SOURCE, tmpdir
from tap import main, note, test

# Fewer faults would say little about the tests.
LEAST = 120
# What makes bitmaps survive has so many at least, all found by the simulation of make check; these
# are among them.
LEAST_STATE = 24
STATE = {
    "state-mark-after-write",
    "state-bits-not-synced",
    "state-journal-not-synced",
    "state-catalogue-not-synced",
    "state-closed-before-sync",
    "state-closed-under-a-writer",
    "state-catalogue-before-bits",
    "state-torn-record-accepted",
}


@test
def every_fault_fits_the_code():
    known = records.default_tests(SOURCE)
    wrong = [text for fault in records.load() for text in records.complaints(fault, SOURCE, known)]
    for text in wrong:
        note(text)
    assert not wrong, f"{len(wrong)} complaints"


@test
def every_folder_of_the_product_has_faults():
    faults = records.load()
    note(f"{len(faults)} planted faults")
    assert len(faults) >= LEAST
    without = set(records.folders(SOURCE)) - {fault.folder for fault in faults}
    assert not without, without


@test
def the_simulation_finds_what_loses_bitmaps():
    faults = records.parse(os.path.join(records.HERE, "state.faults"))
    names = {fault.name for fault in faults}
    note(f"{len(names)} planted faults in state.faults")
    assert len(names) >= LEAST_STATE
    assert STATE <= names, STATE - names
    for fault in faults:
        tests = [path for path, _ in fault.found_by]
        assert any(os.path.basename(path).startswith("test-sim") for path in tests), fault.name


GOOD = """# About these.
== wrong-size
file: server/x.c
breaks: the size
found-by: tests/unit/common/test-size tests/nbd/test-sizes.py:a_size_is_seen
limit: 7
     if (a)
-        b();
+        c();

 }
@@
-    d();
+    e();

== other
file: server/y.c
breaks: nothing
found-by: tests/unit/common/test-size
-x
"""


def parsed(text):
    with tmpdir() as d:
        with open(os.path.join(d, "some.faults"), "w") as f:
            f.write(text)
        return records.load(d)


@test
def a_record_is_what_it_says():
    one, other = parsed(GOOD)
    assert (one.name, one.path, one.limit) == ("wrong-size", "server/x.c", 7), one
    assert one.found_by == [("tests/unit/common/test-size", None),
                            ("tests/nbd/test-sizes.py", "a_size_is_seen")], one
    assert one.hunks == [("    if (a)\n        b();\n\n}\n", "    if (a)\n        c();\n\n}\n"),
                         ("    d();\n", "    e();\n")], one
    assert other.hunks == [("x\n", "")] and other.limit is None, other
    text = "    if (a)\n        b();\n\n}\n    d();\n        d();\n"
    assert one.applied(text) == "    if (a)\n        c();\n\n}\n    e();\n        d();\n"


@test
def a_record_that_does_not_fit_is_refused():
    fault = parsed(GOOD)[1]
    for text in "y\n", "x\nx\n", " x\n":
        try:
            fault.applied(text)
        except ValueError as error:
            assert "not once" in str(error)
        else:
            raise AssertionError(f"it fits {text!r}")


@test
def malformed_records_are_refused():
    for old, new in (("breaks: the size\n", ""), ("limit:", "limits:"), ("@@", "!!"),
                     ("+        c();", "+        b();"), ("== other", "== wrong-size"),
                     ("# About", "About"), ("== other", "== Other One"),
                     ("limit: 7", "file: server/z.c")):
        assert old in GOOD
        try:
            parsed(GOOD.replace(old, new, 1))
        except records.Malformed as error:
            note(error)
        else:
            raise AssertionError(f"{new!r} for {old!r} was taken")


@test
def complaints_name_what_is_wrong():
    fault = records.load()[0]
    known = records.default_tests(SOURCE)
    assert records.complaints(fault, SOURCE, known) == []
    for changed, why in (({"path": "tests/lib/tap.py"}, "is not in"),
                         ({"path": "server/no-such.c"}, "No such file"),
                         ({"found_by": [("tests/unit/none", None)]}, "is no test"),
                         ({"found_by": [("tests/planted/test-list.py", "none")]}, "has no test"),
                         ({"hunks": [("no such line\n", "")]}, "occur 0 times")):
        told = records.complaints(fault._replace(**changed), SOURCE, known)
        assert len(told) == 1 and why in told[0], told


main()
