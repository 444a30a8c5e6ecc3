"""The children of a process, as the kernel sees them."""

from pathlib import Path


def children(pid: int) -> dict[int, str]:
    """Map each child's pid to its state; Z is one that has ended and was not reaped."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == pid:
            found[int(path.parent.name)] = state
    return found
