#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The inputs that fuzzing starts from, and that the default tests replay: seeds.py FOLDER.

Each target has a function, which gives (name, bytes). The head of fuzz/NAME.c describes the form
of the bytes. An input that a target has failed on gets a line here, as `found-...`, before the
fault is mended.
"""
import os
import shutil
import struct
import sys
import zlib

GO, INFO, LIST, LIST_META, SET_META = 7, 6, 3, 9, 10
READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, STATUS = range(8)
FUA, NO_HOLE, DF, REQ_ONE, FAST, PAYLOAD = (1 << i for i in range(6))


def string(text):
    data = text.encode()
    return struct.pack(">I", len(data)) + data


def go(name, *infos):
    return string(name) + struct.pack(f">H{len(infos)}H", len(infos), *infos)


def meta(name, *queries):
    return string(name) + struct.pack(">I", len(queries)) + b"".join(map(string, queries))


# ---- the pure parsers ----

def option():
    texts = ["", "disk", "\u00e4\u20ac\U0001f4be", "a" * 4096, "a" * 4097, "x\x01\x7fy"]
    for i, text in enumerate(texts):
        yield f"go-{i}", b"\0" + go(text, 0, 1, 2, 3, 99)
        yield f"name-{i}", b"\2" + text.encode()
    yield "go-none", b"\0" + go("disk")
    yield "go-count", b"\0" + go("disk", 3)[:-1]
    yield "go-length", b"\0" + b"\xff\xff\xff\xff" + go("disk", 3)[4:]
    yield "name-utf8", b"\2\xc3\x28\xed\xa0\x80"
    yield "name-nul", b"\2a\0b"
    queries = ["base:allocation", "qemu:dirty-bitmap:b0", "qemu:dirty-bitmap:\u00e4:b",
               "qemu:", "base:", "qemu:dirty-bitmap:", "", "x:y"]
    for i in range(len(queries)):
        yield f"meta-{i}", b"\1" + meta("disk", *queries[i:])
        yield f"meta-one-{i}", b"\1" + meta("disk", queries[i])
    yield "meta-none", b"\1" + meta("disk")
    yield "meta-count", b"\1" + string("disk") + b"\xff\xff\xff\xff" + string("base:")
    yield "meta-same", b"\1" + meta("disk", *["base:allocation"] * 50)
    yield "header", b"\3IHAVEOPT" + struct.pack(">II", GO, 12)
    yield "header-unknown", b"\3IHAVEOPT" + struct.pack(">II", 99, 2**32 - 1)


def request_header(shape, kind, flags, offset, length):
    extended = shape & 1
    magic = 0x21e41c71 if extended else 0x25609513
    return struct.pack(">IHHQQ" + ("Q" if extended else "I"), magic, flags, kind, 7, offset,
                       length)


def request():
    # shape: 1 extended, 2 structured, contexts in bits 2-3, 16 several connections
    for shape in (0, 2, 2 + 12, 1 + 8, 1 + 12 + 16):
        for kind in list(range(8)) + [99]:
            for node, flags in ((0xfe, 0), (0xff, FUA), (0, FAST), (0xfe, REQ_ONE), (0xfe, DF)):
                rules = struct.pack(">BBBQB", shape, node, 0, 1 << 20, 28)
                offset = 0 if kind == FLUSH else 4096
                length = 0 if kind == FLUSH else 512
                yield (f"{shape}-{kind}-{node}-{flags}",
                       rules + request_header(shape, kind, flags, offset, length))
    rules = struct.pack(">BBBQB", 13, 0xfe, 9, 1 << 40, 95)
    for name, payload in (("all", struct.pack(">QIII", 4096, 0, 2, 5)),
                          ("one", struct.pack(">QI", 1 << 33, 5)),
                          ("twice", struct.pack(">QII", 512, 2, 2)),
                          ("unknown", struct.pack(">QI", 512, 3)),
                          ("zero", struct.pack(">QI", 0, 0)),
                          ("beyond", struct.pack(">QI", 1 << 63, 0))):
        yield (f"filter-{name}",
               rules + request_header(1, STATUS, PAYLOAD, 0, len(payload)) + payload)
    for name, offset, length in (("end", (1 << 40) - 1, 1), ("over", (1 << 40) - 1, 2),
                                 ("wrap", 2**64 - 1, 2**64 - 1), ("all", 0, 1 << 40)):
        for kind in (READ, TRIM, ZEROES):
            yield f"range-{name}-{kind}", rules + request_header(1, kind, 0, offset, length)


def extents():
    pairs = bytes([3, 1, 130, 0, 1, 2, 1, 3, 255, 1, 7, 0, 7, 0, 200, 3])
    for shape in range(0, 64, 3):
        yield f"shape-{shape}", struct.pack(">BH", shape, 100 * shape) + pairs
    yield "many", struct.pack(">BH", 9 + 16, 600) + bytes([1, 0, 1, 1] * 500)


JSON = [
    '{"execute": "qmp_capabilities"}',
    '{"execute": "query-block", "id": [1, 2.5e3, -0, null, true, {"a": "b"}]}',
    "{'execute':'query-status', 'id': 'it\\'s'}\r\n{\"execute\"",
    '{"a": "\\u00e4\\ud83d\\udcbe\\"\\\\\\/\\b\\f\\n\\r\\t"}',
    '{"a": "\\ud83d"} {"b": "\\u0000"}',
    '{"a": 1, "a": 2} [1, 2, ] {,} {"x" 1} nul true false null',
    '[' * 30 + ']' * 30 + '[' * 5 + '}' * 5,
    '9223372036854775807 -9223372036854775808 9223372036854775808 1e400 1E-400 0.1 -0.0 01 1. .5',
    '{"execute": \x01 {"execute": "ok"} \x7f\n{"id": 1}',
    '[' + '1,' * 60 + '2]',
]


def json():
    yield "found-exponent", b"\0\0[1e41,1e400,1e-9]"
    for limits in range(5):
        for i, text in enumerate(JSON):
            yield f"{limits}-{i}", bytes([limits, i]) + text.encode("utf-8", "surrogatepass")
    yield "latin1", b"\0\3\"\xe4\" \"\xf0\x9f\x92\xbe\" \"\xed\xa0\x80\" \xff \xc3\xa4"


QMP = [
    "'block-dirty-bitmap-add','arguments':{'node':'a','name':'b','granularity':65536}",
    "'block-dirty-bitmap-merge','arguments':{'node':'a','target':'t',"
    "'bitmaps':['x',{'node':'n','name':'y'}]}",
    "'transaction','arguments':{'actions':[{'type':'block-dirty-bitmap-clear',"
    "'data':{'node':'a','name':'b'}},{'type':'abort','data':{}}],"
    "'properties':{'completion-mode':'grouped'}}",
    "'transaction','arguments':{'actions':[{'type':'nonsense','data':{}}]}",
    "'nbd-server-start','arguments':{'addr':{'type':'unix','data':{'path':'/s'}},"
    "'max-connections':3}",
    "'nbd-server-start','arguments':{'addr':{'type':'inet','data':{'host':'::1','port':'1'}}}",
    "'block-export-add','arguments':{'type':'nbd','id':'e','node-name':'a','writable':true,"
    "'bitmaps':['b']}",
    "'block-export-del','arguments':{'id':'e','mode':'hard'}",
    "'view-create','arguments':{'disk':'a','name':'v','scratch-limit':-1}",
    "'block_resize','arguments':{'node-name':'a','size':1048576}",
    "'query-named-block-nodes','arguments':{'flat':true}",
    "'nonsense','arguments':{}", "'quit','arguments':[]", "7",
]


def qmp():
    for i, text in enumerate(QMP):
        yield f"{i}", f"\n{{'execute':{text},'id':{i}}}".encode()
    yield "unready", b"{'execute':'query-block'}{'execute':'qmp_capabilities','id':'\xc3\xa4'}"
    yield "session", b"{'execute':'qmp_capabilities','arguments':{'enable':[]}}" + "".join(
        f"{{'execute':{text}}}\n" for text in QMP).encode()
    for i, text in enumerate(JSON):
        yield f"json-{i}", b"\n" + text.encode("utf-8", "surrogatepass")


def options():
    for i, words in enumerate([
            ["memory", "1G"], ["-r", "file", "disk.img", "cache=none", "2x=3", "=", "x.y_z-1=="],
            ["--disk", "vda", "memory", "size=2G", "--disk=vdb", "null"],
            ["-f", "--", "sh", "-", "--disk", "a=b"], ["--handshake-timeout", "4294967296", "x"],
            ["-t", "0x10", "--unix", "s", "-D", "a.b=1", "memory", "1"], ["--dis", "a"],
            ["--scratch-limit", "10M", "--on-cbw-error", "break-guest-write", "memory", "1"],
            ["-s", "-U", "x", "memory"], ["--filter", "x", "memory"], ["--nonsense"], ["-é"], [""],
            ["memory", ""], ["--disk", "", "memory"], ["--log=null", "--run", "x", "memory"]]):
        yield f"words-{i}", b"\0" + "\n".join(words).encode()
    for i, text in enumerate([
            "[nbdfleece]\nunix = /s\nreadonly = true\n[disk vda]\nplugin = file\n"
            "arguments = 'a b.raw' x=1\ncache = none\n", "[nbdfleece]\ndisk = x\n",
            "[nbdfleece]\nreadonly = maybe\n", "[nbdfleece]\nunix = found\\\n",
            "[disk a]\n", "[other]\n", "x = 1\n", "",
            "[disk a]\nplugin = m\narguments = \"\n", "[disk a]\nplugin=m\n[disk a]\nplugin=n\n"]):
        yield f"file-{i}", b"\1" + text.encode()
    for i, text in enumerate([
            "0", "1k", "10M", "7E", "8E", "9223372036854775807", "9223372036854775808", "-0", "-1",
            "+5s", " 12", "12 ", "1kk", "0x10", "077", "255", "256", "-128", "-129", "1.5ms", "2s",
            "50%", "1:3", "0/0", "1e308%", "inf", "nan", "true", "off", "18446744073709551615",
            "\v5s"]):
        yield f"number-{i}", b"\2" + text.encode()


def client():
    yield "found-exponent", b"\0[1e41,1e-9]"
    yield "found-control", b'\0["\\u001f"]'
    yield "found-escaped-control", b'\0["\\\x1f"]'
    yield "found-octal", b'\0["\\333"]'
    for i, text in enumerate(JSON):
        yield f"json-{i}", b"\0" + text.encode("utf-8", "surrogatepass")
    for i, words in enumerate(["a=1", "a.b.c=x\na.b.d=[1,2]", "a=\"x\"\na.b=1", "a=1\na=2",
                               "a={\"b\":1}\na.c=true", "=x", "a", "a..b=1", "n=010", "n=-1.5e3",
                               "j={\"a\"", "s=trueish\nt=nothing"]):
        yield f"words-{i}", b"\1" + words.encode()
    for i, text in enumerate(["nbd://host\nvda", "nbd+unix:///?socket=/s/t\na b/c?d",
                              "nbd://[::1]:10809/\n\u00e4", "nbd://host/old\nnew", "\n", "x?y\nz",
                              "nbds://u@h:1?a=://b\nn"]):
        yield f"uri-{i}", b"\2" + text.encode()
    for i, size in enumerate([0, 1, 511, 1 << 20, 1000000007, 1 << 50, (1 << 63) - 1]):
        pieces = bytes([129, 3, 1, 2, 0, 64, 0, 0, 1, 255, 7, 130, 255, 3, 9, 9])
        yield f"map-{i}", bytes([3, i, 20 * i, 9 * i]) + struct.pack(">Q", size << 1) + pieces * 9


# ---- connections ----

# Offsets and lengths as connection.c has them.
SIZE, LAST, OUTSIDE = 0xf0, 0xf1, 0xf3
L0, L1, L512, L1000, L4096, L65536, L1M, L2M, L2M4K, L33M = 0, 1, 2, 3, 5, 7, 9, 10, 11, 13


def ask(kind, flags=0, offset=1, length=L4096):
    return bytes([kind, flags, offset, length])


def connection():
    everything = b"".join([
        ask(WRITE), ask(READ), ask(READ, DF, 0, L65536), ask(FLUSH, 0, 0, L0), ask(TRIM),
        ask(CACHE), ask(ZEROES, NO_HOLE), ask(ZEROES, FAST), ask(STATUS), ask(STATUS, REQ_ONE),
        ask(WRITE, FUA, 9, L65536), ask(READ, 0, SIZE, L1), ask(READ, 0, LAST, L1),
        ask(WRITE, 0, OUTSIDE, L512), ask(READ, 0, 2), ask(WRITE, 0, 3), ask(READ, 0xff),
        ask(READ, 0, 0, L0), ask(9), ask(DISC), ask(READ)])
    # manner: 1 structured, 2 extended, contexts in bits 2-3, 16 EXPORT_NAME, 32 no zeroes,
    # 64 never without blocking, 128 one request at a time
    for disk in range(7):
        for manner in (0, 1, 13, 2, 14, 16 + 32, 64 + 13, 128 + 14, 128 + 64 + 1):
            yield f"all-{disk}-{manner}", bytes([disk, manner, 0]) + everything
    large = ask(WRITE, 0, 0, L2M4K) + ask(READ, 0, 0, L1M) + ask(WRITE, 0, 1, L2M) + ask(STATUS)
    for manner in (0, 13, 14, 64 + 14, 128):
        yield f"large-{manner}", bytes([0, manner, 0]) + large
        yield f"too-large-{manner}", bytes([0, manner, 0]) + ask(READ, 0, 0, L33M) + ask(
            WRITE, 0, 0, L33M)
    filtered = b"".join(ask(STATUS, PAYLOAD, 0, 0x80) + b"\0" + bytes([n]) + bytes([L65536]) + ids
                        for n, ids in ((1, b"\0"), (2, b"\0\1"), (2, b"\1\1"), (1, b"\x63"),
                                       (0, b"")))
    yield "filter", (bytes([0, 14, 0]) + filtered + ask(READ, PAYLOAD) + ask(TRIM, PAYLOAD)
                     + ask(READ))
    # options first: their number is the third byte
    options = b"".join([
        bytes([LIST, 0]), bytes([INFO, 0, 4]), bytes([LIST_META, 0, 0]),
        bytes([8, 0]), bytes([LIST_META, 0, 3, 3, 4, 0x83]) + b"x:y",
        bytes([SET_META, 0, 2, 0, 1]), bytes([99 & 15, 0])])
    yield "options", bytes([0, 13, 7]) + options + everything
    yield "options-wrong", bytes([0, 1, 6, LIST, 0x20, INFO, 0x28, 3, SET_META, 0x60, 9]) + (
        b"\0\0\0\4disk\0" + bytes([GO, 15, 0, 0x80, 0, 0, 0, 99, 0x40, 2]) + b"??"
        + bytes([5, 0])) + everything
    yield "abort", bytes([0, 0, 1, 2, 0])
    yield "other-export", bytes([0, 14, 3, 8, 0, SET_META, 1, 2, 0, 1, GO, 0, 0])
    yield "garbage", bytes([0, 0, 0]) + ask(READ) + b"\xff" + b"not a request at all" * 3
    yield "garbage-at-once", bytes([0, 0, 0x80]) + b"GET / HTTP/1.1\r\n\r\n"
    data = go("disk", 3)
    wire = b"IHAVEOPT" + struct.pack(">II", GO, len(data)) + data
    wire += struct.pack(">IHHQQI", 0x25609513, 0, READ, 1, 0, 512)
    yield "wire", bytes([0, 32, 0x80]) + wire
    yield "wire-long-option", bytes([0, 32, 0x80]) + b"IHAVEOPT" + struct.pack(">II", 99, 65537)


# ---- the intent journal ----

def journal():
    raw, batch, foreign, broken = 1, 2, 4, 8

    def entry(disk, first, count, opens=True):
        return bytes([disk - 1 + 4 * opens, first, count])

    def sector(how, at, generation, snapshot, *entries):
        return bytes([how, at, generation, snapshot, len(entries)]) + b"".join(entries)

    first = sector(0, 0, 1, 1)
    one = sector(batch, 1, 1, 1, entry(1, 5, 3), entry(2, 0, 255))
    two = sector(batch, 2, 1, 1, entry(1, 6, 1, False), entry(2, 9, 9, False))
    yield "snapshot", first
    yield "batches", first + one + two
    yield "hole", first + two
    yield "second-half", first + one + sector(0, 128, 2, 1, entry(3, 1, 1))
    torn = sector(0, 1, 3, 2, entry(4, 4, 4))
    yield "torn", first + sector(0, 128, 2, 1, entry(3, 1, 1)) + torn
    yield "third", sector(0, 0, 3, 2) + torn + sector(0, 128, 2, 1)
    yield "not-whole", torn
    yield "foreign", first + sector(batch | foreign, 1, 1, 1, entry(1, 5, 3))
    yield "broken", first + sector(batch | broken, 1, 1, 1, entry(1, 5, 3)) + b"\x64\0"
    yield "largest", first + sector(batch, 1, 1, 1, bytes([4 + 8 + 16, 0, 0]) + struct.pack(
        ">QQ", 2**41 - 1, 1))
    yield "too-large", first + sector(batch, 1, 1, 1, bytes([4 + 8 + 16, 0, 0]) + struct.pack(
        ">QQ", 2**41, 2**63))
    yield "raw", bytes([raw, 0]) + b"NBNFInt1" + b"\xff" * 504


# ---- qcow2 ----

COPIED, COMPRESSED = 1 << 63, 1 << 62


def qcow2_header(version=3, bits=9, size=1 << 20, l1=32, incompatible=0, extensions=(), backing=b"",
                 snapshots=(0, 0), order=4):
    """Cluster 0; the table of counts is cluster 1, its block cluster 2, the L1 table cluster 3."""
    cluster, name = 1 << bits, 0
    rest = b"".join(struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8)
                    for kind, data in extensions) + bytes(8)
    length = 112 if version == 3 else 72
    if backing:
        name = length + len(rest)
    fixed = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", version, name, len(backing), bits, size, 0, l1,
                        3 * cluster, cluster, 1, *snapshots)
    if version == 3:
        autoclear = int(any(kind == 0x23852875 for kind, _ in extensions))
        fixed += struct.pack(">QQQIIB7x", incompatible, 0, autoclear, order, 112,
                             incompatible >> 3 & 1)
    return fixed + rest + backing


def qcow2_file(header, clusters, bits=9, sectors=0, order=4, block=2):
    """Its pieces: how many there are, and the bytes: the header, and {number of the cluster: bytes}. Each that
    there is counts once; `block` is the cluster of the counts."""
    used = {0, 1, block, 3, *clusters}
    counts = sum(1 << (n << order) for n in used).to_bytes((64 << order) // 8, "little")
    width = (1 << order) // 8
    if width > 1:
        counts = b"".join(struct.pack(f">{'..H.I...Q'[width]}", n in used) for n in range(64))
    content = {0: header, 1: struct.pack(">Q", block << bits), block: counts, **clusters}
    scale = 1 << bits >> 9
    sectors = sectors or (max(content) + 1) * scale
    return len(content), struct.pack(">H", sectors) + b"".join(
        struct.pack(">HH", n * scale, len(data)) + data for n, data in sorted(content.items()))


def qcow2_image(*args, **kwargs):
    """An input of the target qcow2."""
    return b"\1" + qcow2_file(*args, **kwargs)[1]


def qcow2_entries(*words):
    return b"".join(struct.pack(">Q", word) for word in words)


def qcow2_at(cluster, bits=9):
    return COPIED | cluster << bits


def qcow2():
    entries, at = qcow2_entries, qcow2_at
    plain = qcow2_header()
    yield "header", b"\0" + plain
    yield "header-2", b"\0" + qcow2_header(version=2, backing=b"base")
    yield "header-names", b"\0" + qcow2_header(incompatible=1 << 9, extensions=[
        (0x6803f857, b"\0\x09a feature" + bytes(37))])
    tables = {3: entries(at(4), at(5)), 4: entries(at(6), 1, at(7) | 1, 0, at(8)),
              5: entries(0, 0, at(9)), **{n: bytes([n]) * 512 for n in range(6, 10)}}
    yield "plain", qcow2_image(plain, tables)
    yield "version-2", qcow2_image(qcow2_header(version=2), {**tables, 4: entries(at(6), 0, at(7))})
    yield "empty", qcow2_image(plain, {3: bytes(256)})
    for i, word in enumerate((at(6) + 2, at(6) + 512 - 1, at(99), 6 << 9, COMPRESSED | 6 << 9,
                              COMPRESSED | COPIED | 6 << 9, COMPRESSED | 1 << 60, at(4), 2**64 - 1)):
        yield f"entry-{i}", qcow2_image(plain, {**tables, 4: entries(word, word)})
        yield f"table-{i}", qcow2_image(plain, {**tables, 3: entries(word, word)})
    squeezed = zlib.compress(b"abcd" * 128)[2:-4]
    packed = COMPRESSED | 6 << 9
    yield "zlib", qcow2_image(plain, {**tables, 4: entries(packed, at(7), packed | 1 << 61),
                                      6: squeezed})
    yield "zlib-short", qcow2_image(plain, {**tables, 4: entries(packed), 6: zlib.compress(b"x")[2:]})
    # A frame without a checksum, of one raw block of 512 bytes.
    frame = b"\x28\xb5\x2f\xfd\x60\x00\x01" + struct.pack("<I", 512 << 3 | 1)[:3] + b"z" * 512
    yield "zstd", qcow2_image(qcow2_header(incompatible=8), {
        **tables, 4: entries(packed | 1 << 61), 6: frame[:512], 7: frame[512:]})
    over = [(0xe2792aca, b"raw")]
    for name in b"b", b"./b", b"../b", b"i", b"nothing", b"json:{}", b"/etc/passwd":
        yield f"over-{name.decode().replace('/', '-')}", qcow2_image(
            qcow2_header(extensions=over, backing=name), tables)
    yield "over-itself", qcow2_image(qcow2_header(extensions=[(0xe2792aca, b"qcow2")], backing=b"i"),
                                     tables)
    yield "over-unknown", qcow2_image(qcow2_header(backing=b"b"), tables)
    data = [(0x44415441, b"d")]
    yield "data-file", qcow2_image(qcow2_header(incompatible=4, extensions=data), {
        3: entries(at(4)), 4: entries(COPIED, at(1), 1, 0, COPIED | 1 << 20)})
    yield "subclusters", qcow2_image(
        qcow2_header(bits=14, l1=2, incompatible=16),
        {3: entries(COPIED | 4 << 14), 4: entries(
            COPIED | 5 << 14, 0xffffffff, COPIED | 6 << 14, 0x0000ff00000000ff, 0, 1 << 40,
            COPIED | 7 << 14, 3 << 32 | 1, 0, 1), 5: b"five", 6: b"six"}, 14)
    one = struct.pack(">QIHHIIQII", 10 << 9, 32, 1, 1, 0, 0, 0, 0, 0) + b"1s"
    yield "snapshot", qcow2_image(qcow2_header(snapshots=(1, 11 << 9)), {
        **tables, 10: entries(4 << 9), 11: one})
    directory = struct.pack(">QIIBBHI", 13 << 9, 1, 2, 1, 16, 1, 0) + b"b"
    bitmaps = [(0x23852875, struct.pack(">IIQQ", 1, 0, 32, 12 << 9))]
    for i, word in enumerate((14 << 9, 1, 3, 99 << 9)):
        yield f"bitmap-{i}", qcow2_image(qcow2_header(extensions=bitmaps), {
            **tables, 12: directory, 13: entries(word), 14: b"bits"})


# ---- live images ----

def sound_images():
    """Images that a check calls clean: (name, flags of the input, their pieces)."""
    entries, at, folder = qcow2_entries, qcow2_at, 1
    data = {n: bytes([n]) * 512 for n in range(6, 10)}
    tables = {3: entries(at(4), at(5)), 4: entries(at(6), 1, at(7) | 1, 0, at(8)), 5: entries(0, 0, at(9)), **data}
    old = {**tables, 4: entries(at(6), 0, at(7), 0, at(8))}
    over = [(0xe2792aca, b"raw")]
    yield "plain", 0, qcow2_file(qcow2_header(), tables)
    yield "empty", 0, qcow2_file(qcow2_header(), {3: bytes(256)})
    yield "nothing", 0, qcow2_file(qcow2_header(size=0, l1=0), {3: bytes(8)})
    yield "odd-size", 0, qcow2_file(qcow2_header(size=33 * 512, l1=1), {3: entries(at(4)), 4: entries(at(6)), 6: b"6"})
    yield "version-2", 0, qcow2_file(qcow2_header(version=2), old)
    yield "old-over", folder, qcow2_file(qcow2_header(version=2, backing=b"b", extensions=over), old)
    yield "over", folder, qcow2_file(qcow2_header(backing=b"b", extensions=over), tables)
    for order in range(7):
        yield f"counts-{order}", 0, qcow2_file(qcow2_header(order=order), tables, order=order)
    yield "far-tables", 0, qcow2_file(qcow2_header(), {3: entries(at(60)), 60: entries(at(40), 0, at(41)),
                                                      40: b"40", 41: b"41"}, block=50)
    yield "gap", 0, qcow2_file(qcow2_header(), tables, sectors=900)
    squeezed = zlib.compress(b"abcd" * 128)[2:-4]
    packed = COMPRESSED | 6 << 9
    yield "zlib", 0, qcow2_file(qcow2_header(), {**tables, 4: entries(packed, at(7), 0, at(8)), 6: squeezed})
    frame = b"\x28\xb5\x2f\xfd\x60\x00\x01" + struct.pack("<I", 512 << 3 | 1)[:3] + b"z" * 512
    yield "zstd", 0, qcow2_file(qcow2_header(incompatible=8), {
        3: entries(at(4)), 4: entries(packed | 1 << 61, at(8)), 6: frame[:512], 7: frame[512:], 8: b"8"})
    yield "data-file", folder, qcow2_file(qcow2_header(incompatible=4, extensions=[(0x44415441, b"d")]), {
        3: entries(at(4)), 4: entries(COPIED, at(1), 1, 0, at(4))})
    yield "subclusters", 0, qcow2_file(
        qcow2_header(bits=14, l1=2, incompatible=16), {
            3: entries(at(4, 14)), 4: entries(at(5, 14), 0xffffffff, at(6, 14), 0x0000ff00000000ff, 0, 1 << 40,
                                              at(7, 14), 3 << 32 | 4), 5: b"five", 6: b"six", 7: b"seven"}, 14)
    yield "subclusters-over", folder, qcow2_file(
        qcow2_header(bits=14, l1=2, incompatible=16, backing=b"b", extensions=over), {
            3: entries(at(4, 14)), 4: entries(at(5, 14), 0xf0f), 5: b"five"}, 14)
    yield "large-clusters", 0, qcow2_file(qcow2_header(bits=16, l1=1), {
        3: entries(at(4, 16)), 4: entries(at(5, 16), 1), 5: b"five"}, 16)


def live():
    def step(what, place=0, length=0, value=b"", flags=0):
        return struct.pack(">BHH", flags << 4 | what, place, length) + value

    flush, reopen, grow = b"\0", b"\1", b"\2\5"
    zero, trim, extent, cache, inline, read, write = 3, 5, 7, 9, 10, 11, 12
    programs = {
        "look": step(extent, 0, 60000) + step(cache, 0, 9000) + step(read, 0, 60000) + step(inline, 3, 200, b"i"),
        "write": b"".join(step(write, n * 5, 1 + n * 999, bytes([n + 1])) for n in range(9)) + flush +
        step(read, 0, 60000) + step(inline, 0, 900, b"i") + reopen + step(write, 700, 60000, b"w", 1),
        "clear": step(write, 0, 65535, b"x") + step(zero, 3, 40) + step(zero, 30, 100, flags=2) + step(trim, 1, 999) +
        reopen + step(zero, 0, 999, flags=7) + step(write, 9, 5000, b"y") + step(trim, 0, 65535) + flush,
        "grow": grow + step(write, 8191, 65535, b"g") + grow + step(zero, 8000, 65535, flags=2) + reopen + grow,
    }
    for name, flags, (pieces, image) in sound_images():
        for i, (what, program) in enumerate(programs.items()):
            yield f"{name}-{what}", bytes([flags | i << 1 & 6, pieces]) + image + program
    # What is not sound, with a program all the same.
    entries, at, run = qcow2_entries, qcow2_at, programs["write"] + programs["clear"]
    tables = {3: entries(at(4), at(5)), 4: entries(at(6), 1, at(7)), 5: entries(0, 0, at(9)), 6: b"6", 7: b"7", 9: b"9"}
    broken = {
        "l2-on-header": {4: entries(at(0), at(6))}, "l2-on-counts": {4: entries(at(2), at(6))},
        "l2-on-l1": {4: entries(at(3))}, "l2-on-itself": {4: entries(at(4))}, "same-twice": {4: entries(at(6), at(6))},
        "outside": {4: entries(at(9999), at(6))}, "far": {4: entries(COPIED | 0xfffffffffffe00, at(6))},
        "unaligned": {4: entries(at(6) + 128)}, "not-copied": {4: entries(6 << 9, 7 << 9)},
        "l1-outside": {3: entries(at(9999), at(5))}, "l1-twice": {3: entries(at(4), at(4))},
        "l1-on-header": {3: entries(at(0))}, "l1-on-counts": {3: entries(at(2))}, "l1-on-itself": {3: entries(at(3))},
        "counts-outside": {1: entries(9999 << 9)}, "counts-on-l1": {1: entries(3 << 9)},
        "counts-nowhere": {1: entries(0)}, "counts-on-table": {1: entries(1 << 9)}, "counts-zero": {2: bytes(512)},
        "counts-most": {2: b"\xff" * 512}, "counts-unaligned": {1: entries((2 << 9) + 1)},
        "packed-on-header": {4: entries(COMPRESSED)}, "packed-outside": {4: entries(COMPRESSED | 9999 << 9)},
        "packed-far": {4: entries(COMPRESSED | 2**61 - 1)}, "packed-long": {4: entries(COMPRESSED | 1 << 61 | 9 << 9)},
    }
    for name, change in broken.items():
        pieces, image = qcow2_file(qcow2_header(), {**tables, **change})
        yield f"broken-{name}", bytes([2, pieces]) + image + run
    headers = {
        "dirty": qcow2_header(incompatible=1), "corrupt": qcow2_header(incompatible=2),
        "large": qcow2_header(size=2**62), "l1-long": qcow2_header(l1=1 << 22), "l1-short": qcow2_header(l1=1),
        "snapshots": qcow2_header(snapshots=(1, 6 << 9)), "no-snapshots": qcow2_header(snapshots=(9, 99 << 9)),
        "counts-long": qcow2_header()[:56] + struct.pack(">I", 16384) + qcow2_header()[60:],
        "counts-far": qcow2_header()[:48] + struct.pack(">Q", 9999 << 9) + qcow2_header()[56:],
        "counts-first": qcow2_header()[:48] + bytes(8) + qcow2_header()[56:],
        "l1-first": qcow2_header()[:40] + bytes(8) + qcow2_header()[48:],
        "autoclear": qcow2_header()[:88] + b"\xff" * 8 + qcow2_header()[96:],
        "bits-0": qcow2_header(bits=9)[:20] + struct.pack(">I", 0) + qcow2_header()[24:],
        "bits-63": qcow2_header(bits=9)[:20] + struct.pack(">I", 63) + qcow2_header()[24:],
    }
    for name, header in headers.items():
        pieces, image = qcow2_file(header, tables)
        yield f"header-{name}", bytes([0, pieces]) + image + run
    # It was refused, and an unknown bit had been cleared before.
    unknown = qcow2_header()[:88] + b"\x7a" + bytes(7) + qcow2_header()[96:]
    pieces, image = qcow2_file(unknown, {**tables, 3: entries(2**64 - 1)})
    yield "found-refused-but-changed", bytes([0, pieces]) + image


# ---- manifests ----

def manifest():
    def disk(name, member, level, parent):
        return {"disk": name, "file": f"{name}/{member:05}-{level}.qcow2", "level": level, "parent": parent,
                "since": "c", "reason": None, "size": 1 << 30, "bytes": 65536, "read": 1, "sums": "ab" * 32}

    members = [(0, "full", [disk("vda", 0, "full", None), disk("vdb", 0, "full", None)]),
               (1, "inc", [disk("vda", 1, "inc", 0)]),
               (4, "diff", [disk("vda", 4, "inc", 1), disk("vdb", 4, "diff", 0)])]
    whole = {"format": "nbdfleece-repository", "version": 1, "uuid": "0f8fad5b-d9cb-469f-a165-70867728950e",
             "created": "2026-11-01T03:00:00.000000Z", "next-id": 5, "members": [
                 {"id": i, "uuid": f"0f8fad5b-d9cb-469f-a165-70867728950{i}", "level": level,
                  "time": "2026-11-01T03:00:00.250000Z", "checkpoint": "c", "session": None, "disks": disks}
                 for i, level, disks in members]}
    # This module has a function json().
    text = repr(whole).replace("'", '"').replace("None", "null")[:-1] + ",\n"
    yield "whole", text.encode()
    yield "none", text.encode()[:text.index("{\"id\"")] + b"],\n"
    yield "unsealed", b"!" + text.encode()
    yield "empty", b""
    for i, (old, new) in enumerate((("vda/", "../"), ('"parent": 1', '"parent": 4'), ('"id": 4', '"id": 1'),
                                    ("-inc", "-full"), ("03:00:00.25", "25:00:00.25"), ("65536", "-1"),
                                    ('"vdb"', '"vda"'), (": null", ": 0"))):
        yield f"wrong-{i}", text.replace(old, new).encode()


def main():
    folder = sys.argv[1]
    shutil.rmtree(folder, ignore_errors=True)
    for target in (client, connection, extents, journal, json, live, manifest, option, options, qcow2, qmp,
                   request):
        os.makedirs(os.path.join(folder, target.__name__))
        for name, data in target():
            with open(os.path.join(folder, target.__name__, name), "xb") as out:
                out.write(data)


if __name__ == "__main__":
    main()
