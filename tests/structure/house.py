# SPDX-License-Identifier: BSD-3-Clause
"""The rooms of the tree, and what may need what: docs/ARCHITECTURE.md has the reasons.

A *file* here is X.c and X.h together, named without its suffix ("server/disk/gate"). A *need* is a
symbol that an object file uses and another file defines, or an #include.
"""

import collections
import os
import re
import subprocess

PRODUCT = ("client", "common", "plugins", "server")

# Each room and its floor: a file may need files of its own room and of the rooms on lower floors
# that its room may see. Rooms on one floor do not know each other.
FLOORS = (
    ("server", 11),
    ("server/start", 10),
    ("server/control", 9), ("server/nbd", 9),
    ("server/backup", 8),
    ("server/registry", 7),
    ("server/disk", 6),
    ("server/backend", 5), ("server/state", 5),
    ("plugins/lib", 4), ("server/hooks", 4),
    ("client/cli", 8),
    ("client/repo", 7),
    ("client/pull", 6),
    ("client/qmp", 5), ("client/map", 5), ("client/state", 5), ("client/tls", 5),
    ("client/base", 4),
    ("common/copy", 2), ("common/json", 2), ("common/live", 2), ("common/state", 2),
    ("common/qcow2", 1), ("common/util", 1),
    ("common/base", 0),
    ("plugins", 0),  # nbdfleece-plugin.h, which is installed
)
PLUGIN_FLOOR = 5  # plugins/X

# What each house may see in addition to itself.
SEES = {"server": ("common/", "plugins/nbdfleece-plugin"), "client": ("common/",),
        "plugins": ("common/base/", "common/qcow2/", "common/live/"), "common": ()}

# Which symbols may not be needed, and where: a main loop; in server/disk also sockets, JSON and
# TLS.
MAIN_LOOP = r"g_(main_|timeout_|idle_|source_|unix_fd_|io_|child_watch_|unix_signal_)\w*"
FORBIDDEN = (
    ("server/disk/", re.compile(
        MAIN_LOOP + r"|json_\w+|gnutls_\w+|socket|socketpair|accept4?|bind|listen|connect|send\w*|recv\w*")),
    ("common/base/", re.compile(MAIN_LOOP)),
    ("common/qcow2/", re.compile(r"g_\w+|gnutls_\w+|nbd_\w+|nbdkit_\w+")),
    ("common/live/", re.compile(r"g_\w+|gnutls_\w+|nbd_\w+|nbdkit_\w+")),
    ("common/copy/", re.compile(MAIN_LOOP)),
    ("plugins/", re.compile(MAIN_LOOP)),
)

LONG, TOO_LONG = 500, 600  # lines


class Need(collections.namedtuple("Need", "by of what ties")):
    """`by` needs `of`. `what` is the symbol or the #include. `ties` says whether the need counts in
    a circle. An #include in a .c file does not count: what it really needs from there is a symbol,
    which counts by itself."""

    def __str__(self):
        return f"{self.by} needs {self.what} of {self.of}"


def stem(path):
    return path[:-2] if path.endswith((".c", ".h")) else path


def house(file):
    return file.split("/", 1)[0]


def room(file):
    return file.rpartition("/")[0]


def floor(file):
    """The floor of the room of a file; None if there is no such room."""
    here = room(file)
    if re.fullmatch(r"plugins/\w[\w-]*", here) and here != "plugins/lib":
        return PLUGIN_FLOOR
    return dict(FLOORS).get(here)


# ---- reading what there is ----

def sources(top, folders=PRODUCT):
    """All .c and .h files below the folders, relative to the top."""
    return sorted(os.path.relpath(os.path.join(path, name), top)
                  for folder in folders for path, _, names in os.walk(os.path.join(top, folder))
                  for name in names if name.endswith((".c", ".h")))


def includes(text):
    """The files of this tree that a text includes: their names have a folder."""
    return re.findall(r'^[ \t]*#[ \t]*include[ \t]+"([^"]+/[^"]+)"', text, re.M)


def source_of(object_file, known):
    """The .c file of an object such as server/start/libstart_a-run.o or plugins/x/.libs/x_la-y.o.
    None if the object belongs to no known file: it is left over, or built for a test
    (`tests_...`)."""
    folder, name = os.path.split(object_file)
    if os.path.basename(folder) == ".libs":
        folder = os.path.dirname(folder)
    base = name[:-2]
    if base.startswith("tests_"):
        return None
    for candidate in base, re.sub(r"^\w+?_l?a-", "", base):
        if f"{folder}/{candidate}.c" in known:
            return f"{folder}/{candidate}.c"
    return None


def objects(build, known, source):
    """{object file: its source} of a build. Objects that are older than their source are left out:
    they remain from a time when the source was built into something else."""
    found = {}
    for folder in PRODUCT:
        for path, _, names in os.walk(os.path.join(build, folder)):
            for name in names:
                if name.endswith(".o"):
                    relative = os.path.relpath(os.path.join(path, name), build)
                    made_of = source_of(relative, known)
                    if made_of and os.path.getmtime(os.path.join(build, relative)) >= \
                            os.path.getmtime(os.path.join(source, made_of)):
                        found[relative] = made_of
    return found


def parse_nm(text):
    """{object file: (symbols defined, symbols needed)} from the output of `nm -A -P`."""
    symbols = collections.defaultdict(lambda: (set(), set()))
    for line in text.splitlines():
        place, name, kind = line.split()[:3]
        defined, needed = symbols[place.rstrip(":")]
        if kind in ("U", "w", "v"):
            needed.add(name)
        elif kind.isupper():
            defined.add(name)
    return dict(symbols)


def nm(build, files):
    if not files:
        return {}
    return parse_nm(subprocess.run(["nm", "-A", "-P", "-g", *sorted(files)], cwd=build, text=True,
                                   stdout=subprocess.PIPE, check=True).stdout)


class Tree:
    """What the files of a tree define, need and include.

    texts    {path: text} of the .c and .h files
    symbols  {path of a .c file: (defined, needed)}
    """

    def __init__(self, texts, symbols):
        self.texts = texts
        self.symbols = symbols

    @classmethod
    def read(cls, source, build):
        paths = sources(source)
        texts = {}
        for path in paths:
            with open(os.path.join(source, path), encoding="utf-8") as f:
                texts[path] = f.read()
        found = objects(build, set(paths), source)
        symbols = {}
        for place, (defined, needed) in nm(build, found).items():
            all_defined, all_needed = symbols.setdefault(found[place], (set(), set()))
            all_defined |= defined
            all_needed |= needed
        return cls(texts, symbols)

    def definers(self):
        """{symbol: the files that define it}"""
        found = collections.defaultdict(set)
        for path, (defined, _) in self.symbols.items():
            for name in defined:
                found[name].add(path)
        return found

    def needs(self, abi=frozenset()):
        """All needs between files. An `abi` symbol does not count in a plugin: any server defines
        it."""
        return list(self._by_symbol(abi)) + list(self._by_include())

    def _by_symbol(self, abi):
        definers = self.definers()
        for path, (defined, needed) in sorted(self.symbols.items()):
            for name in sorted(needed - defined):
                if house(path) == "plugins" and name in abi:
                    continue
                givers = definers.get(name, set())
                # Several programs or plugins may define the same name; the nearest definition is
                # meant.
                near = {p for p in givers if room(p) == room(path)} or \
                       {p for p in givers if house(p) == house(path)} or \
                       {p for p in givers if house(p) == "common"} or givers
                for giver in sorted(near):
                    if stem(giver) != stem(path):
                        yield Need(stem(path), stem(giver), name, True)

    def _by_include(self):
        for path, text in sorted(self.texts.items()):
            for included in includes(text):
                if house(included) in PRODUCT and stem(included) != stem(path):
                    yield Need(stem(path), stem(included), f"#include \"{included}\"",
                               path.endswith(".h"))


# ---- the rules: each returns its findings, one line for each ----

def may_see(by, of):
    """True if the rooms of two files allow `by` to need `of`."""
    if room(by) == room(of):
        return True
    if house(by) != house(of) and not of.startswith(SEES[house(by)]):
        return False
    high, low = floor(by), floor(of)
    return high is not None and low is not None and high > low


def upward(needs):
    """(a) Arrows point down."""
    return sorted({str(need) for need in needs if not may_see(need.by, need.of)})


def without_a_room(paths):
    return [f"{path}: {room(path)}/ is no room of the house" for path in sorted(paths)
            if floor(path) is None]


def is_ground(file):
    """A header that a room's files share: it has types and inline functions, and no .c file. What
    it declares counts where the symbol is needed."""
    return file.endswith("-private")


def circles(needs):
    """(b) No two files need each other, directly or through other files."""
    graph = collections.defaultdict(set)
    needs = [need for need in needs
             if need.ties and not is_ground(need.by) and not is_ground(need.of)]
    for need in needs:
        graph[need.by].add(need.of)
        graph.setdefault(need.of, set())
    found = []
    for component in components(graph):
        if len(component) < 2:
            continue
        ties = sorted({str(need) for need in needs
                       if need.by in component and need.of in component})
        found.append("a circle of " + ", ".join(sorted(component)) + ":\n    " + "\n    ".join(ties))
    return sorted(found)


def components(graph):
    """The strongly connected components of {node: nodes}, by Tarjan's algorithm, without
    recursion."""
    index, low, on_stack, stack, found = {}, {}, set(), [], []
    for start in sorted(graph):
        if start in index:
            continue
        work = [(start, iter(sorted(graph[start])))]
        index[start] = low[start] = len(index)
        stack.append(start)
        on_stack.add(start)
        while work:
            node, others = work[-1]
            for other in others:
                if other not in index:
                    index[other] = low[other] = len(index)
                    stack.append(other)
                    on_stack.add(other)
                    work.append((other, iter(sorted(graph[other]))))
                    break
                if other in on_stack:
                    low[node] = min(low[node], index[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    component = set()
                    while node not in component:
                        component.add(stack.pop())
                    on_stack -= component
                    found.append(component)
    return found


def forbidden(tree):
    """(d) Main loops and sockets are used only where they belong."""
    return [f"{path} needs {name}" for path, (_, needed) in sorted(tree.symbols.items())
            for folder, pattern in FORBIDDEN if path.startswith(folder)
            for name in sorted(needed) if pattern.fullmatch(name)]


def not_built(tree):
    return [f"{path} is built into nothing" for path in sorted(tree.texts)
            if path.endswith(".c") and path not in tree.symbols] + \
           [f"{path} is more than a header" for path in sorted(tree.texts)
            if path.endswith(".c") and is_ground(stem(path))]


def guard(path):
    """The include guard of a header. The header in plugins/ is installed without its folder, so its
    guard does not have the folder either."""
    return re.sub(r"[^A-Z0-9]", "_", re.sub(r"^(server/|plugins/(?!.*/))", "", path).upper())


def badly_headed(texts):
    """(e) The first line names the licence; a header's guard follows from its path."""
    found = []
    for path, text in sorted(texts.items()):
        if not re.match(r"/\* SPDX-License-Identifier: BSD-3-Clause \*/\n", text):
            found.append(f"{path}: the first line has no SPDX-License-Identifier")
        if path.endswith(".h"):
            guards = re.search(r"^#ifndef (\w+)\n#define (\w+)$", text, re.M)
            if not guards or guards[1] != guards[2] or guards[1] != guard(path):
                found.append(f"{path}: its include guard is not {guard(path)}")
    return found


def lengths(texts, limit):
    return [f"{path}: {text.count(chr(10))} lines" for path, text in sorted(texts.items())
            if text.count("\n") > limit]


# Pages that are not in the repository.
ELSEWHERE = re.compile("|".join((r"\b(?:interface|design|house)\.md\b", r"\bshared\s+reference\b",
                                 r"\breference/[\w-]+\.md\b", r"\bchecklist'?s?\s+section\b")))


def references(texts):
    """(f) No text refers to a page that is not there."""
    return [f"{path}: {match[0]!r}" for path, text in sorted(texts.items())
            for match in ELSEWHERE.finditer(text)]


def dead_links(texts):
    """The links between our pages that lead nowhere. texts: {path: text} of pages in Markdown and
    of the files that they may link to."""
    there = set(texts) | {os.path.dirname(path) for path in texts}
    return [f"{path}: {link}" for path, text in sorted(texts.items()) if path.endswith(".md")
            for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
            if os.path.normpath(os.path.join(os.path.dirname(path), link)) not in there]


def headers_alone(compiler, headers, jobs):
    """(c) Each header compiles alone. compiler: the words of a command line without files."""
    import concurrent.futures

    def complaint(path):
        done = subprocess.run([*compiler, "-w", "-fsyntax-only", "-x", "c", path],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        return f"{path} does not compile alone: {done.stdout}" if done.returncode else None
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        return [text for text in pool.map(complaint, headers) if text]
