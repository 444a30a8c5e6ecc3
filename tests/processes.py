"""What runs on this machine, as the kernel sees it."""

import contextlib
from pathlib import Path


def runs(pid: int) -> bool:
    """Whether a process runs; one that has ended, but that nobody has buried yet, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def processes_at_work_in(directory: Path) -> list[int]:
    """Find the processes whose working directory is this one or below it."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "cwd").readlink().is_relative_to(directory):
                found.append(int(entry.name))
    return found
