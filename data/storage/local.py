"""Storage in a folder of a local or shared file system, with atomic and durable writes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from data.errors import UserError
from data.storage.base import Changed, Missing, Stat, checked_path

PARTIAL = ".partial"
LOCK = ".lock"


class LocalStorage:
    """A folder. A tag is size, time of change in nanoseconds and inode, so every replacement has a new one."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser().absolute()
        self.url = str(self.root)

    def __repr__(self) -> str:
        return f"LocalStorage({self.url!r})"

    def read(self, path: str, *, start: int = 0, length: int | None = None, etag: str | None = None) -> bytes:
        if start < 0 or (length is not None and length < 0):
            raise ValueError(f"start {start} and length {length} must not be negative")
        with self._opened(path) as file:
            found = _tag(os.fstat(file.fileno()))
            if etag is not None and found != etag:
                raise Changed(f"{self._name(path)} was replaced while in use: tag {found}, expected {etag}")
            file.seek(start)
            return file.read() if length is None else file.read(length)

    def write(self, path: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        def fill(file: BinaryIO) -> None:
            file.write(data)

        return self._put(path, fill, if_absent=if_absent, if_match=if_match)

    def upload(self, path: str, local: Path) -> None:
        def fill(file: BinaryIO) -> None:
            with open(local, "rb") as source:
                shutil.copyfileobj(source, file, 1 << 20)

        self._put(path, fill)

    def stat(self, path: str) -> Stat:
        with self._opened(path) as file:
            status = os.fstat(file.fileno())
        return Stat(status.st_size, _tag(status))

    def stats(self, prefix: str = "") -> dict[str, Stat]:
        found = {}
        for path in self.list(prefix):
            # An object deleted since the listing is simply no longer there.
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(self.root / path)
                found[path] = Stat(status.st_size, _tag(status))
        return found

    def list(self, prefix: str = "") -> list[str]:
        folder, _, _ = prefix.rpartition("/")
        if folder:
            checked_path(folder)
        found = []
        for parent, _, names in os.walk(self.root / folder):
            relative = Path(parent).relative_to(self.root).as_posix()
            for name in names:
                path = name if relative == "." else f"{relative}/{name}"
                if path.startswith(prefix) and name != LOCK and not _is_partial(name):
                    found.append(path)
        return sorted(found)

    def delete(self, path: str) -> None:
        target = self.root / checked_path(path)
        with self._locked(target.parent, create=False), contextlib.suppress(FileNotFoundError):
            target.unlink()
            _sync_folder(target.parent)

    def _name(self, path: str) -> str:
        return str(self.root / path)

    @contextlib.contextmanager
    def _opened(self, path: str) -> Iterator[BinaryIO]:
        target = self.root / checked_path(path)
        try:
            file = open(target, "rb")  # noqa: SIM115 - errors of the block below are not errors of opening
        except (FileNotFoundError, NotADirectoryError):
            raise Missing(f"{target} does not exist") from None
        except IsADirectoryError:
            raise Missing(f"{target} is a folder, not a file") from None
        except PermissionError:
            raise UserError(f"{target} may not be read by this user: change its permissions") from None
        with file:
            yield file

    def _put(
        self, path: str, fill: Callable[[BinaryIO], None], *, if_absent: bool = False, if_match: str | None = None
    ) -> str:
        target = self.root / checked_path(path)
        _make_folders(target.parent)
        partial = target.parent / f".{target.name[:100]}.{secrets.token_hex(8)}{PARTIAL}"
        try:
            with open(partial, "xb") as file:
                fill(file)
                file.flush()
                os.fsync(file.fileno())
                tag = _tag(os.fstat(file.fileno()))
            if if_absent:
                try:
                    os.link(partial, target)
                except FileExistsError:
                    raise Changed(f"{target} exists already") from None
                partial.unlink()
            else:
                with self._locked(target.parent, create=if_match is not None):
                    self._check_match(path, if_match)
                    os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)
        _sync_folder(target.parent)
        return tag

    def _check_match(self, path: str, if_match: str | None) -> None:
        if if_match is None:
            return
        try:
            found = self.stat(path).etag
        except Missing:
            raise Changed(f"{self._name(path)} is gone, expected tag {if_match}") from None
        if found != if_match:
            raise Changed(f"{self._name(path)} was replaced: tag {found}, expected {if_match}")

    @contextlib.contextmanager
    def _locked(self, folder: Path, *, create: bool) -> Iterator[None]:
        """Hold the folder's lock; without `create`, only where some conditional write has made one."""
        try:
            lock = os.open(folder / LOCK, os.O_RDWR | (os.O_CREAT if create else 0), 0o666)
        except (FileNotFoundError, NotADirectoryError):
            yield
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _tag(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}"


def _is_partial(name: str) -> bool:
    return name.startswith(".") and name.endswith(PARTIAL)


def _make_folders(folder: Path) -> None:
    """Make the folder and what it lies in, and make each new name durable."""
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    try:
        folder.mkdir(exist_ok=True)
    except FileExistsError:
        raise UserError(f"{folder} is a file where a folder is needed: choose another place") from None
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
