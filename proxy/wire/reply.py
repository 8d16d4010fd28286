"""Whole replies: what a JSON body tells, also when only its two ends were kept.

Here: bodies. Not here: streams (stream_reader), the members' meaning (reply_facts).
"""

from __future__ import annotations

import re

import msgspec

from proxy.wire.chat_reply import read_chat
from proxy.wire.error_bodies import ErrorFacts, error_body, error_body_for, read_error
from proxy.wire.json_text import NOT_JSON, members
from proxy.wire.reply_facts import Document, FactsReader, ReplyFacts, decode_document

__all__ = ["ErrorFacts", "ReplyFacts", "error_body", "error_body_for", "read_cut", "read_error", "read_reply"]

_FIRST_ERROR_STATUS = 400
_TEXT_KINDS = frozenset({"speech", "transcription", "other", "models"})  # their bodies need not be JSON
_USAGE = re.compile(rb'"(?:usage|usageMetadata|x_groq)"[ \t\r\n]*:[ \t\r\n]*\{')
_MAX_USAGES_TRIED = 8
_OPENINGS = (b"{", b'{"response":{', b"[{")
"""What stands before the members in which a tail begins: a body, a Responses event, an array of Gemini chunks."""

_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode


def read_reply(kind: str, status: int, head: bytes, tail: bytes) -> ReplyFacts:
    """The facts of a reply that wasn't a stream. Never raises.

    `head` is the whole body if `tail` is empty, otherwise they are its two ends: some 64 KiB each.
    """
    if status >= _FIRST_ERROR_STATUS:
        return ReplyFacts(error=read_error(head), ended=True)
    if kind == "chat" and not tail and (usual := read_chat(head)) is not None:
        return usual
    reader = FactsReader(kind)
    if tail:
        is_whole = read_cut(reader, head, tail)
    else:
        is_whole = _read_whole(reader, head)
    facts = reader.result()
    facts.ended = is_whole or kind in _TEXT_KINDS
    return facts


def _read_whole(reader: FactsReader, body: bytes) -> bool:
    """Whether the body could be read as JSON."""
    document = decode_document(body)
    if document is not None:
        reader.absorb(document, body)
        return True
    try:
        chunks = _decode_array(body)
    except NOT_JSON:
        return False
    for chunk in map(bytes, chunks):
        document = decode_document(chunk)
        if document is not None:
            reader.absorb(document, chunk)
    return True


def read_cut(reader: FactsReader, head: bytes, tail: bytes, *, is_event: bool = False) -> bool:
    """Absorb what the two ends of a JSON document tell; whether the end looks whole."""
    front = b"{" + b",".join([head[member.key_start : member.end] for member in members(head)]) + b"}"
    for part in (front, _closing_members(tail)):
        document = decode_document(part) or Document()
        reader.absorb(document, part, is_event=is_event)
    return tail.rstrip().endswith((b"}", b"]"))


def _closing_members(tail: bytes) -> bytes:
    """The last usage in the tail and all that follows it, as a document of its own; only where that closes the document."""
    for found in [*_USAGE.finditer(tail)][: -_MAX_USAGES_TRIED - 1 : -1]:
        for opening in _OPENINGS:
            candidate = opening + tail[found.start() :].rstrip()
            if _is_json(candidate):
                return candidate.removeprefix(b"[").removesuffix(b"]") if opening == b"[{" else candidate
    return b"{}"


def _is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data)
    except NOT_JSON:
        return False
    return True
