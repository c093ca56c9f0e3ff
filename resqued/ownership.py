"""Check that no other user can write to a file that resqued runs, reads as configuration, or writes
to."""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import stat
from pathlib import Path


class Untrusted(Exception):
    """Another user could have created or changed this file. The message names it, the user, and the
    remedy."""


def check_writers(path: str, status: os.stat_result, act: str) -> None:
    """Only its owner may write to a file or folder, and root trusts only what root owns. act: what
    resqued would do with it, for the message: `run it`. A group whose only member is the owner is
    allowed. Raises Untrusted."""
    mode = stat.S_IMODE(status.st_mode)
    if mode & stat.S_IWOTH:
        raise Untrusted(
            f"{path}: everybody may write to it (mode {mode:o}), and resqued would {act}\n"
            f"  chmod o-w {path}"
        )
    if mode & stat.S_IWGRP and not _is_private_group(status):
        raise Untrusted(
            f"{path}: its group may write to it (mode {mode:o}), and resqued would {act}\n"
            f"  chmod g-w {path}"
        )
    if os.geteuid() == 0 and status.st_uid != 0:
        owner = user_name(status.st_uid)
        raise Untrusted(
            f"{path}: it belongs to {owner}, and root would {act}\n"
            f"  chown root {path}, or start resqued as {owner}"
        )


def make_private(path: Path) -> None:
    """Make a folder with mode 0700, and its parents, unless it exists. Raises Untrusted if other
    users could have written to it, OSError if it cannot be made or is no folder."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    for each in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process was faster
            each.mkdir(0o700)
    status = path.stat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "it is no folder", str(path))
    check_writers(str(path), status, "keep data there")
    if status.st_uid != os.geteuid():
        me, owner = user_name(os.geteuid()), user_name(status.st_uid)
        raise Untrusted(
            f"{path}: it belongs to {owner}, and {me} would keep data there\n"
            f"  chown {me} {path}, or start resqued as {owner}"
        )


def check_link(path: str) -> None:
    """A symbolic link that root follows must belong to root. Raises Untrusted, OSError. Checks the
    last part of the path, and the links that it leads to. Links in /dev and /proc belong to the
    system."""
    seen: set[str] = set()
    while path not in seen and Path(path).is_symlink():
        seen.add(path)
        if path.startswith(("/dev/", "/proc/")):
            return
        status = os.lstat(path)
        folder = os.stat(os.path.dirname(path) or ".")  # noqa: PTH116, PTH120
        shared = folder.st_mode & stat.S_IWOTH
        if status.st_uid not in (0, os.geteuid()) and (os.geteuid() == 0 or shared):
            owner = user_name(status.st_uid)
            raise Untrusted(
                f"{path}: it is a symbolic link that belongs to {owner}, and"
                f" {user_name(os.geteuid())} would write to what it leads to\n"
                f"  chown -h {user_name(os.geteuid())} {path}, or name the file itself"
            )
        path = os.path.join(os.path.dirname(path), os.readlink(path))  # noqa: PTH115, PTH118, PTH120


def user_name(uid: int) -> str:
    """`www-data`, or `user 1234` for a uid without a name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _is_private_group(status: os.stat_result) -> bool:
    """Whether the owner is the group's only member: with a umask of 002, all files are
    group-writable."""
    try:
        owner = pwd.getpwuid(status.st_uid)
        members = grp.getgrgid(status.st_gid).gr_mem
    except KeyError:
        return False
    return owner.pw_gid == status.st_gid and set(members) <= {owner.pw_name}
