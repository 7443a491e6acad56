"""What measurements were made from, in tuples that they share: most of a journal, and nearly the same on all lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pruningbench.store.lines import Line, line_structure, parse_record
from pruningbench.store.records import SCHEMA

Names = tuple[str, ...]
Packed = tuple[Names, Names]
"""The names and the texts of parts."""
NOTHING: Packed = ((), ())
MOST_FORMS = 10_000
_NETWORK = b'"network":"'
"""What stands before the one part that differs between cells of a kind: the digest of their network."""


def packed(parts: Mapping[str, str], shared: dict[Any, Any]) -> Packed:
    """Return the names and the texts of parts.

    Args:
        parts: name -> text.
        shared: equal names and texts that are shared, which grows.
    """
    if not parts:
        return NOTHING
    names, texts = tuple(parts), tuple(parts.values())
    return shared.setdefault(names, names), tuple(map(shared.setdefault, texts, texts))


def packing_parser(shared: dict[Any, Any]) -> Callable[[bytes], Line | None]:
    """Return a parser that accepts the same lines as `lines.fast_parser`, and gives packed parts instead of mappings.

    Lines with the parts of the line before share them. A line that only `lines.parse_record` accepts is a record, with
    mappings.

    Args:
        shared: as for `packed`.
    """
    import msgspec

    decode: Callable[[bytes], Any] = msgspec.json.Decoder(line_structure(parts=msgspec.Raw)).decode
    refusals = (msgspec.MsgspecError, ValueError, RecursionError)
    pack = _packer(shared)
    made_of = accepted = msgspec.Raw(b"")
    parts = taken = NOTHING

    def parse(line: bytes) -> Line | None:
        nonlocal made_of, accepted, parts, taken
        try:
            values = decode(line)
            if values.made_of != made_of:
                made_of, parts = values.made_of, pack(values.made_of)
            if values.accepted != accepted:
                accepted, taken = values.accepted, pack(values.accepted)
        except refusals:
            made_of = accepted = msgspec.Raw(b"")
            parts = taken = NOTHING
            return parse_record(line)
        values.made_of, values.accepted = parts, taken
        if line[-1:] == b"\n" and 1 <= values.part <= values.parts and values.schema == SCHEMA:
            return values
        return parse_record(line)

    return parse


def _packer(shared: dict[Any, Any]) -> Callable[[Any], Packed]:
    """Return a function that packs the JSON of parts, or raises what msgspec raises.

    Parts that differ in the digest of the network only are decoded once.
    """
    import msgspec

    decode: Callable[[Any], dict[str, str]] = msgspec.json.Decoder(dict[str, str]).decode
    forms: dict[bytes, tuple[Names, Names, Names]] = {}

    def pack(raw: Any) -> Packed:
        text = bytes(raw)
        place = text.find(_NETWORK)
        if place < 0:
            return packed(decode(raw), shared) if text else NOTHING
        start = place + len(_NETWORK)
        end = text.find(b'"', start)
        digest = text[start:end]
        form = text[:start] + text[end:]
        known = forms.get(form)
        if known is not None and digest.isalnum():
            names, before, after = known
            return names, (*before, digest.decode(), *after)
        parts = decode(raw)
        names, texts = both = packed(parts, shared)
        # letters and digits are their own JSON; with two such names, or a part of another, the form says too little
        if digest.isalnum() and parts.get("network") == digest.decode() and text.count(_NETWORK) == 1:
            if len(forms) >= MOST_FORMS:
                forms.clear()
            at = names.index("network")
            forms[form] = names, texts[:at], texts[at + 1 :]
        return both

    return pack
