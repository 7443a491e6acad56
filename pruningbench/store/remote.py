"""Run folders at URLs that fsspec knows, such as ``s3://bucket/folder``: their files, and errors in one line."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pruningbench.base.reading import one_line
from pruningbench.errors import RemoteError, UsageError
from pruningbench.store.lease import LARGEST, LEASE

T = TypeVar("T")
_URL = re.compile(r"([a-z][a-z0-9+.-]+)://(.*)", re.DOTALL)
_CUT = re.compile(r"([a-z][a-z0-9+.-]+):/[^/].*", re.DOTALL)
_PASSWORD = re.compile(r"//[^/@]*@")
_NAMES = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")
PACKAGES = {
    "abfs": "adlfs", "abfss": "adlfs", "az": "adlfs", "gcs": "gcsfs", "gs": "gcsfs", "s3": "s3fs", "s3a": "s3fs",
    "sftp": "paramiko", "ssh": "paramiko", "hdfs": "pyarrow", "http": "aiohttp requests", "https": "aiohttp requests",
}  # fmt: skip
"""The package behind a scheme."""
WITHOUT_FOLDERS = {"abfs", "abfss", "az", "gcs", "gs", "oci", "oss", "s3", "s3a", "tos", "memory"}
"""Schemes whose files need no folders; to make one could make a bucket."""
IN_MEMORY = {"memory"}
"""Schemes whose files end with their process."""
ON_THIS_MACHINE = {"file", "local"}
"""Schemes of folders of this machine."""
ONLY_READ = {
    "data", "gist", "git", "github", "http", "https", "libarchive", "pyscript", "reference", "tar", "zip",
}  # fmt: skip
"""Schemes with which a folder cannot be kept: nothing can be written there, replaced, or listed."""
ADVICE = "give a path, or the URL of a folder in a store such as s3://bucket/folder"
SETTLE = 0.5
"""Seconds after which a lease is read back: of two processes that wrote one at the same time, the later one has it."""
_TAGS = (
    "ETag", "etag", "md5Hash", "md5", "content_md5", "checksum", "mtime", "LastModified", "last_modified", "updated",
    "modified", "created",
)  # fmt: skip
"""What file systems tell about a file's content or age, the most reliable first."""


def is_url(text: object) -> bool:
    """Whether a text is a URL such as ``s3://bucket/folder``, and no path."""
    return isinstance(text, str) and _URL.fullmatch(text) is not None


def check_no_cut_url(path: Path) -> None:
    """Refuse a path that was a URL.

    Raises:
        UsageError: if it is one, and no such folder exists.
    """
    found = _CUT.fullmatch(path.as_posix())
    if found and not Path(f"{found[1]}:").exists():
        raise UsageError(f"{one_line(path)}: a URL must be given as text, not as a Path, which removes a slash")


def shown(url: str) -> str:
    """Return a URL for messages, without names and passwords of users."""
    return one_line(_PASSWORD.sub("//***@", url))


def check_lasting(url: str) -> None:
    """Refuse a URL of files that end with this process, for commands: who asks from Python may still read them.

    Raises:
        UsageError: if it is one.
    """
    if _scheme(url) in IN_MEMORY:
        raise UsageError(f"{shown(url)}: is in the memory of this command only, and lost when it ends; {ADVICE}")


def check_writable(url: str) -> None:
    """Refuse a URL at which no run can be kept, without asking it.

    Raises:
        UsageError: if its scheme cannot write, or it is a path of this machine that is not absolute.
    """
    scheme = _scheme(url)
    if scheme in ONLY_READ:
        raise UsageError(f"{shown(url)}: a run cannot be written with {scheme}; {ADVICE}")
    if scheme in ON_THIS_MACHINE and not re.match(r"/|[A-Za-z]:[/\\]", url.partition("://")[2]):
        raise UsageError(
            f"{shown(url)}: the path after {scheme}:// must be absolute, such as {scheme}:///folder/run; or give the "
            "path alone"
        )


def _scheme(url: str) -> str:
    return url.partition("://")[0]


class RemoteFolder:
    """The files below a URL.

    Args:
        url: of a scheme that fsspec knows.

    Raises:
        UsageError: if the URL names no folder, its scheme is unknown, or a package is missing.
    """

    def __init__(self, url: str) -> None:
        self.shown = shown(url)
        found = _URL.fullmatch(url)
        if found is None or not found[2].strip("/") or "::" in url:
            raise UsageError(f"{self.shown}: must be the URL of a folder, such as s3://bucket/folder")
        self.scheme = found[1]
        self._given, self._process = url, os.getpid()
        self._opened, self._root = self._open(url)
        self.url = f"{self.scheme}://{self._root.lstrip('/')}"

    @property
    def name(self) -> str:
        """The name of the folder."""
        return re.sub(r"[^A-Za-z0-9_.-]", "_", self._root.rpartition("/")[2]).lstrip(".") or "run"

    @property
    def _files(self) -> Any:
        """The file system; each process needs its own."""
        if self._process != os.getpid():
            self._opened, self._root = self._open(self._given)
            self._process = os.getpid()
        return self._opened

    def _open(self, url: str) -> tuple[Any, str]:
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise UsageError(f"{self.shown}: needs fsspec: pip install 'pruningbench[remote]'") from None
        try:
            files, root = url_to_fs(url)
        except ImportError as error:
            package = PACKAGES.get(self.scheme)
            advice = f"pip install 'pruningbench[remote]' {package}" if package else one_line(error)
            raise UsageError(f"{self.shown}: needs a package that is not installed: {advice}") from None
        except ValueError as error:
            raise UsageError(f"{self.shown}: cannot be used as a URL ({one_line(error)}); {ADVICE}") from None
        except Exception as error:  # noqa: BLE001 - a third-party file system may raise anything
            raise self._explained(error) from None
        return files, str(root).rstrip("/")

    def _asked(self, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except Exception as error:  # noqa: BLE001 - errors of third-party file systems and their HTTP libraries
            raise self._explained(error) from None

    def _explained(self, error: Exception) -> RemoteError:
        said = one_line(_PASSWORD.sub("//***@", str(error))) or type(error).__name__
        if isinstance(error, OSError) and self.scheme in ON_THIS_MACHINE:
            why = error.strerror or said
            return RemoteError(f"{self.shown}: cannot be read or written ({why}); check the path and its permissions")
        if isinstance(error, PermissionError) or "credential" in said.lower():
            return RemoteError(f"{self.shown}: access is refused ({said}); check the credentials of {self.scheme}")
        if isinstance(error, FileNotFoundError):
            return RemoteError(f"{self.shown}: cannot be found ({said}); check the bucket or folder in the URL")
        if isinstance(error, NotImplementedError):
            return RemoteError(f"{self.shown}: {self.scheme} cannot do this ({said})")
        return RemoteError(f"{self.shown}: cannot be reached ({said}); check the URL and the network")

    def listing(self) -> dict[str, str]:
        """Return the files: name within the folder -> a tag that changes with the content.

        Files with unusual names are left out: whoever can write there must not choose places on this machine.

        Raises:
            RemoteError: if they cannot be listed.
        """

        def ask() -> Mapping[str, Mapping[str, Any]]:
            self._files.invalidate_cache()
            found: Mapping[str, Mapping[str, Any]] = self._files.find(self._root, detail=True)
            if not found:
                self._check_bucket()
            return found

        start = self._root + "/"
        named = {path.removeprefix(start): info for path, info in self._asked(ask).items() if path.startswith(start)}
        return {
            name: _tag(info) for name, info in named.items() if _NAMES.fullmatch(name) and ".." not in name.split("/")
        }

    def _check_bucket(self) -> None:
        """Raise what the file system raises if there is no such bucket: listing nothing in no bucket is no error."""
        if self.scheme in WITHOUT_FOLDERS - {"memory"}:
            self._files.ls(self._root.partition("/")[0], detail=False)

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, with one request; None if there is no such file."""

        def ask() -> bytes | None:
            self._files.invalidate_cache()
            try:
                return bytes(self._files.cat_file(f"{self._root}/{name}"))
            except FileNotFoundError:
                return None

        return self._asked(ask)

    def write(self, name: str, content: bytes) -> None:
        """Write a whole file, so that readers find the old content or the new one.

        Stores of objects replace them whole. Elsewhere, the content is written beside the file and moved over it.
        """
        path = f"{self._root}/{name}"

        def ask() -> None:
            if self.scheme in WITHOUT_FOLDERS:
                self._files.pipe_file(path, content)
                return
            self._make_folders([name])
            self._files.pipe_file(f"{path}.tmp", content)
            self._files.mv(f"{path}.tmp", path)

        self._asked(ask)

    def remove(self, names: Iterable[str]) -> None:
        """Remove files; those that are gone are ignored."""

        def ask(name: str) -> None:
            try:
                self._files.rm_file(f"{self._root}/{name}")
            except FileNotFoundError:
                return

        for name in names:
            self._asked(lambda name=name: ask(name))  # type: ignore[misc]

    def download(self, names: Sequence[str], folder: Path) -> None:
        """Copy files into a folder, under the same names; several at a time if the file system can."""
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if names:
            sources, targets = [f"{self._root}/{name}" for name in names], [str(folder / name) for name in names]
            self._asked(lambda: self._files.get(sources, targets))

    def upload(self, names: Sequence[str], folder: Path) -> None:
        """Copy files from a folder, under the same names; several at a time if the file system can."""

        def ask() -> None:
            self._make_folders(names)
            self._files.put([str(folder / name) for name in names], [f"{self._root}/{name}" for name in names])

        if names:
            self._asked(ask)

    def _make_folders(self, names: Iterable[str]) -> None:
        if self.scheme not in WITHOUT_FOLDERS:
            for parent in {f"{self._root}/{name}".rpartition("/")[0] for name in names}:
                self._files.makedirs(parent, exist_ok=True)


def _tag(info: Mapping[str, Any]) -> str:
    for key in _TAGS:
        if info.get(key) is not None:
            return one_line(f"{info.get('size')} {info[key]}")
    return one_line(info.get("size"))


class LeaseObject:
    """A lease as a file below a URL.

    Few file systems can make a file only if there is none. So it is written and read back: of two processes that write
    at nearly the same time, one finds the other's.
    """

    def __init__(self, remote: RemoteFolder) -> None:
        self._remote = remote

    def read(self) -> bytes | None:
        """Return the content; None if there is no file."""
        content = self._remote.read(LEASE)
        return None if content is None else content[:LARGEST]

    def create(self, content: bytes) -> bool:
        """Write the content, and return whether it is still there a moment later."""
        self._remote.write(LEASE, content)
        time.sleep(SETTLE)
        return self.read() == content

    def write(self, content: bytes) -> None:
        """Replace the content."""
        self._remote.write(LEASE, content)

    def remove(self) -> None:
        """Remove the file."""
        self._remote.remove([LEASE])
