# SPDX-License-Identifier: BSD-3-Clause
"""What a made-up server says of itself, and fleecectl that asks it."""

from fleece import fleecectl

NODES = [
    {"node-name": "vda", "drv": "file", "file": "/srv/vda.raw", "ro": False,
     "image": {"virtual-size": 10 << 30},
     "dirty-bitmaps": [
         {"name": "b0", "count": 65536, "granularity": 65536, "recording": True, "busy": False,
          "persistent": False},
         {"name": "b1", "count": 0, "granularity": 4096, "recording": False, "busy": True,
          "persistent": True, "inconsistent": True, "inconsistent-reason": "torn"}]},
    {"node-name": "v0", "drv": "view", "file": "", "ro": True, "image": {"virtual-size": 1 << 30}},
    {"node-name": "vdb", "drv": "memory", "file": "", "ro": True, "image": {"virtual-size": 512}},
]
VIEWS = [{"name": "v0", "disk": "vda", "size": 1 << 30, "scratch-bytes": 4096, "broken": True,
          "reason": "disk full"}]
CHECKPOINTS = [
    {"name": "mon", "description": "before the update", "time": "2026-11-23T01:00:00.250Z", "disks": [
        {"disk": "vda", "bitmap": "mon", "granularity": 65536, "dirty-bytes": 3 << 20, "valid": True},
        {"disk": "vdb", "bitmap": "mon", "granularity": 4096, "dirty-bytes": 1 << 20,
         "valid": False, "reason": "its bitmap is inconsistent: torn"}]},
    {"name": "tue", "parent": "mon", "time": "2026-11-24T01:00:00.000Z", "disks": [
        {"disk": "vda", "bitmap": "tue", "granularity": 65536, "dirty-bytes": 65536, "valid": True}]}]
SESSION_DISKS = [
    {"disk": "vda", "export": "b1/vda", "uri": "nbd+unix:///b1%2Fvda?socket=/s",
     "context": "qemu:dirty-bitmap:backup-vda", "mode": "incremental", "dirty-bytes": 3 << 20,
     "size": 10 << 30},
    {"disk": "vdb", "export": "b1/vdb", "uri": "nbd+unix:///b1%2Fvdb?socket=/s",
     "context": "qemu:dirty-bitmap:backup-vdb", "mode": "full",
     "reason": "there is no checkpoint 'mon'", "dirty-bytes": 512, "size": 512}]
SESSIONS = [
    {"id": "b0", "state": "aborted", "reason": "its lease of 60 s has ended",
     "time": "2026-11-24T00:00:00.000Z", "lease": 60, "discard": False, "disks": []},
    {"id": "b1", "state": "active", "time": "2026-11-24T01:00:00.000Z", "since": "mon",
     "checkpoint": "tue", "lease": 3600, "lease-left": 3543, "discard": False, "quiesced": False,
     "quiesce-error": "no agent", "scratch-used": 8192,
     "disks": [{**d, "clients": 2, "scratch-bytes": 4096} for d in SESSION_DISKS]},
    {"id": "b2", "state": "active", "time": "2026-11-24T02:00:00.000Z", "lease": 60,
     "discard": True, "resumed": True, "scratch-used": 0, "disks": []}]
GOOD = {
    "query-checkpoints": CHECKPOINTS, "query-backups": SESSIONS, "query-named-block-nodes": NODES,
    "query-views": VIEWS, "query-name": {"name": "lab"},
    "query-status": {"running": True, "status": "running"}, "query-block-exports": [{"id": "e"}],
    "query-nbd-servers": [{"uri": "nbd+unix:///?socket=/s"}],
    "query-blockstats": [
        {"device": "vda", "node-name": "vda", "stats": {
            "rd_bytes": 3 << 20, "wr_bytes": 5 << 10, "zero_bytes": 1, "failed_rd_operations": 1,
            "failed_wr_operations": 20, "failed_zero_operations": 5, "failed_flush_operations": 300,
            "failed_unmap_operations": 4000}},
        {"node-name": "vdb", "stats": {}}]}


def ctl(fake, *args, code=0, **kwargs):
    """Run fleecectl and return its output. If it fails, the output is one line, which begins with
    the name of the program."""
    result = fleecectl("-C", fake.path, *args, check=False, **kwargs)
    assert result.returncode == code, (args, result)
    if code == 0:
        assert result.stderr == "", result
        return result.stdout
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("fleecectl: "), result
    return lines[0]
