"""Files that others wrote: read whole, up to a stated size, and never a pipe, a device or a folder.

Opening a named pipe waits for a writer forever, and some devices never end. So all code that reads data, weights or
annotations goes through this module, which checks a file before it opens it and limits how much it reads.
"""

from __future__ import annotations

import json
import os
import re
import stat
from io import BufferedReader
from pathlib import Path
from typing import Any

from pruningbench.base.text import displayable
from pruningbench.errors import DataError

LARGEST_TEXT = 2**28
"""Bytes of the largest text file, 256 MiB; THINGS' list of four million training trials has 60 MB."""
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_HALF_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def check_regular(path: Path) -> os.stat_result:
    """Return the status of a file, or of what a link points to, without opening it.

    Raises:
        FileNotFoundError: if there is no such file.
        DataError: if it is a folder, a named pipe, a socket or a device, or cannot be reached.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise DataError(f"{printable(path)}: cannot be read ({_reason(error)})") from None
    _refuse_others(path, status)
    return status


def open_file(path: Path) -> BufferedReader:
    """Open a regular file for reading bytes.

    Raises:
        FileNotFoundError: if there is no such file.
        DataError: if it is not a regular file, or cannot be opened.
    """
    check_regular(path)
    try:
        # the file may have become a pipe since: O_NONBLOCK opens one without waiting, and it is refused below
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataError(f"{printable(path)}: cannot be read ({_reason(error)})") from None
    try:
        _refuse_others(path, os.fstat(handle))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_file(path: Path, largest: int) -> bytes:
    """Return the content of a regular file of at most `largest` bytes.

    Raises:
        FileNotFoundError: if there is no such file.
        DataError: if it is not a regular file, is larger, or cannot be read.
    """
    with open_file(path) as file:
        try:
            size = os.fstat(file.fileno()).st_size
            content = file.read(size + 1) if size <= largest else b""
            if len(content) > size:  # it grows, or its size is not known in advance
                content += file.read(largest + 1 - len(content))
        except OSError as error:
            raise DataError(f"{printable(path)}: cannot be read ({_reason(error)})") from None
    size = max(size, len(content))
    if size > largest:
        raise DataError(
            f"{printable(path)}: {size:,} bytes are too many: the limit for files of this kind is {largest:,}"
        )
    return content


def read_text(path: Path, largest: int = LARGEST_TEXT) -> str:
    """Return the content of a text file in UTF-8, without a byte order mark.

    Raises:
        FileNotFoundError: if there is no such file.
        DataError: as `read_file` does, or for bytes that are not UTF-8, with their position.
    """
    content = read_file(path, largest)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{printable(path)}, line {line}: byte {content[error.start]:#04x} is not UTF-8; save the file as UTF-8"
        ) from None


def read_json(path: Path, largest: int = LARGEST_TEXT) -> Any:
    """Return the value of a JSON file.

    Raises:
        FileNotFoundError: if there is no such file.
        DataError: as `read_file` and `parse_json` do.
    """
    return parse_json(read_file(path, largest), str(printable(path)))


def parse_json(content: bytes, where: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        DataError: naming `where`, if the content is not JSON in UTF-8, is nested too deeply, or holds numbers
            of thousands of digits, NaN or infinity, or halves of characters (lone surrogates).
    """

    def refuse(name: str) -> None:
        raise ValueError(f"it holds {name}, which is not a JSON number")

    try:
        value = json.loads(content, parse_constant=refuse)
        if _HALF_SURROGATE.search(content):  # dumping takes as long as parsing: only if there may be one
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise DataError(f"{where}: is nested too deeply to be read") from None
    except UnicodeEncodeError:
        raise DataError(f"{where}: holds a lone surrogate, which is not a character") from None
    except ValueError as error:
        raise DataError(f"{where}: is not JSON ({_reason(error)})") from None
    return value


def printable(path: str | os.PathLike[str]) -> str:
    """Return a path for a message, with bytes that are not UTF-8 escaped so that it can be printed."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def one_line(words: object, longest: int = 200) -> str:
    """Return text from a file, a server or a library as one line of printable characters for a message."""
    return displayable(" ".join(str(words).split())[:longest])


def _refuse_others(path: Path, status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    kind = next((name for is_kind, name in _KINDS if is_kind(status.st_mode)), "something else")
    raise DataError(f"{printable(path)}: is {kind}, not a file; replace or remove it")


def _reason(error: Exception) -> str:
    return one_line(getattr(error, "strerror", None) or error)
