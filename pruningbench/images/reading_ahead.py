"""Reading ahead: threads read samples before their consumer asks for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
CHUNK = 8
"""Samples that a thread reads at once."""


def read_ahead(read: Callable[[int], T], order: Sequence[int], workers: int, ahead: int) -> Iterator[T]:
    """Yield ``read(i)`` for each i of `order`, read by threads up to `ahead` places in advance.

    An error is raised when its sample is requested; samples before it are yielded.

    Args:
        read: reads one sample; called from several threads.
        order: positions to read, in this order.
        workers: number of threads; 0 reads in the caller's thread.
        ahead: maximum number of samples read in advance, which bounds the memory.
    """
    if workers < 1:
        yield from map(read, order)
        return
    chunks = [order[start : start + CHUNK] for start in range(0, len(order), CHUNK)]
    pending: deque[Future[list[T | Exception]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="read-ahead") as pool:
        try:
            for chunk in chunks:
                pending.append(pool.submit(_read_all, read, chunk))
                if len(pending) * CHUNK > max(ahead, workers * CHUNK):
                    yield from _checked(pending.popleft().result())
            while pending:
                yield from _checked(pending.popleft().result())
        finally:
            for future in pending:
                future.cancel()


def _read_all(read: Callable[[int], T], chunk: Sequence[int]) -> list[T | Exception]:
    results: list[T | Exception] = []
    for index in chunk:
        try:
            results.append(read(index))
        except Exception as error:  # noqa: BLE001 - raised again where the consumer gets to it
            return [*results, error]
    return results


def _checked(results: list[T | Exception]) -> Iterator[T]:
    for value in results:
        if isinstance(value, Exception):
            raise value
        yield value
