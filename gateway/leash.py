"""Start a program on a leash: it dies when the process that started it dies, however that happens.

`leashed()` makes the command line, and this file is the script which that command line runs before it becomes the
program. It can also change identity on the way: `namespace` runs the program as an ordinary user of a new user
namespace whose files stay root's; a number runs it as that user. Both exist because Postgres refuses to run as root.
It is a program of its own because the same steps in a forked child of a process with threads can deadlock.
"""

import ctypes
import os
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000
NOBODY = 65534


def leashed(command: Sequence[str | os.PathLike[str]], *, death_signal: int, identity: str = "same") -> list[str]:
    """Return the command line that runs `command` and sends it `death_signal` when this process dies.

    On Linux "this process" is the very thread that starts it: start it from one that lives as long as the program.
    """
    words = [os.fspath(word) for word in command]
    return [sys.executable, "-I", "-S", __file__, str(int(death_signal)), str(os.getpid()), identity, "--", *words]


def become(identity: str) -> None:
    """Change to the identity `same`, `namespace` or a numeric user id; OSError when that is not allowed."""
    if identity == "namespace":
        _enter_namespace()
    elif identity != "same":
        os.setgroups([])
        os.setgid(int(identity))
        os.setuid(int(identity))


def follow_parent_to_death(number: int, parent: int) -> None:
    """Ask the kernel for signal `number` when the parent ends; leave at once when it has already ended."""
    if sys.platform == "linux":
        _check(_libc().prctl(PR_SET_PDEATHSIG, number), "prctl")
    if os.getppid() != parent:
        sys.exit("the parent process is gone")


def _enter_namespace() -> None:
    user, group = os.geteuid(), os.getegid()
    _check(_libc().unshare(CLONE_NEWUSER), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{NOBODY} {user} 1"), ("gid_map", f"{NOBODY} {group} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, call: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), call)


def main(arguments: list[str]) -> None:
    """Change identity first: the kernel forgets the death signal of a process whose credentials change."""
    number, parent, identity, _, *command = arguments
    become(identity)
    follow_parent_to_death(int(number), int(parent))
    os.execvp(command[0], command)  # noqa: S606 (no shell is the point)


if __name__ == "__main__":
    main(sys.argv[1:])
