"""An S3 server on loopback (moto), and the run folders in it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.request import Request, urlopen

import fsspec


@dataclass(frozen=True)
class ObjectStore:
    """A running server with the bucket ``bucket``.

    Attributes:
        environment: variables that lead clients to it.
    """

    address: str
    environment: dict[str, str] = field(default_factory=dict)


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """Run a server in a thread, on a free port of this machine."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # else it lists all requests
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        address = f"http://{host}:{port}"
        environment = {
            "AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/nowhere",
            "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
        }  # fmt: skip
        with urlopen(Request(f"{address}/bucket", method="PUT"), timeout=60):
            yield ObjectStore(address, environment)
    finally:
        server.stop()


def files(url: str) -> dict[str, bytes]:
    """Return all files below a URL: name -> content."""
    system, root = _fresh(url)
    paths = [path for path in system.find(root) if path.startswith(f"{root}/")]
    return {path.removeprefix(f"{root}/"): system.cat_file(path) for path in paths}


def read(url: str) -> bytes:
    """Return the content of a file; b"" if there is none."""
    system, path = _fresh(url)
    try:
        return bytes(system.cat_file(path))
    except FileNotFoundError:
        return b""


def put(url: str, content: bytes) -> None:
    """Write a file."""
    system, path = _fresh(url)
    system.pipe_file(path, content)


def remove(url: str) -> None:
    """Remove a file."""
    system, path = _fresh(url)
    system.rm_file(path)


def _fresh(url: str) -> tuple[Any, str]:
    system, path = fsspec.core.url_to_fs(url)
    system.invalidate_cache()
    return system, path


def eventually(holds: Any, seconds: float = 60.0) -> bool:
    """Wait until a function returns True; return False if it does not within so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.2)
    return False
