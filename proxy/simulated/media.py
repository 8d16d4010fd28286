"""Speech, transcriptions and files, simulated: fields, bytes, events, usage.

Here: the dialects, pure. Not here: reading uploads, pace and faults.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator
from typing import Literal

import msgspec

from proxy.simulated.composing import Answer
from proxy.simulated.counting import count_tokens
from proxy.simulated.events import Event, Stage
from proxy.simulated.mistakes import STREAM_ERROR, JsonObject, openai_error

AUDIO_TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
SILENT_MP3_FRAME = b"\xff\xfb\x90\x64" + bytes(413)  # MPEG-1 layer III, 128 kbit/s, 44.1 kHz: 26 ms of silence
FRAMES_PER_CHUNK = 8
BYTES_PER_SECOND = 16_000  # taken for the length of an upload: 128 kbit/s
AUDIO_TOKENS_PER_SECOND = 10
BILLED_BY_DURATION = "whisper-1"


class SpeechRequest(msgspec.Struct, frozen=True):
    """The fields of POST /v1/audio/speech that change the reply."""

    model: str
    input: str
    voice: str | JsonObject
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = "mp3"
    stream_format: Literal["audio", "sse"] = "audio"


def speech_chunks(body: SpeechRequest, chunk_count: int | None, size_bytes: int | None) -> Iterator[bytes]:
    """Silence: a frame of MP3 for each character, or `size_bytes`; in `chunk_count` chunks."""
    whole = SILENT_MP3_FRAME * max(1, len(body.input))
    if size_bytes is not None:
        whole = (SILENT_MP3_FRAME * math.ceil(size_bytes / len(SILENT_MP3_FRAME)))[:size_bytes]
    step = math.ceil(len(whole) / chunk_count) if chunk_count else len(SILENT_MP3_FRAME) * FRAMES_PER_CHUNK
    for start in range(0, len(whole), max(1, step)):
        yield whole[start : start + step]


def speech_events(body: SpeechRequest, chunks: Iterator[bytes]) -> Iterator[Event]:
    """The same as events, with usage in the last."""
    sent_bytes = 0
    for chunk in chunks:
        sent_bytes += len(chunk)
        payload: JsonObject = {"type": "speech.audio.delta", "audio": base64.b64encode(chunk).decode("ascii")}
        yield Event(Stage.CONTENT, payload)
    prompt, output = max(1, count_tokens(body.input)), _audio_tokens(sent_bytes)
    usage: JsonObject = {"input_tokens": prompt, "output_tokens": output, "total_tokens": prompt + output}
    yield Event(Stage.CLOSING, {"type": "speech.audio.done", "usage": usage})


def transcription_body(answer: Answer, model: str, audio_bytes: int, prompt: str) -> JsonObject:
    """The transcription object, with usage in tokens, or in seconds for whisper-1."""
    return {"text": answer.text, "usage": _transcription_usage(answer, model, audio_bytes, prompt)}


def transcription_events(answer: Answer, model: str, audio_bytes: int, prompt: str) -> Iterator[Event]:
    """The text in deltas, then all of it with usage."""
    for piece in answer.pieces:
        yield Event(Stage.CONTENT, {"type": "transcript.text.delta", "delta": piece})
    yield Event(Stage.CLOSING, {"type": "transcript.text.done", **transcription_body(answer, model, audio_bytes, prompt)})


def media_error_event(sent: int) -> Event:
    """An error in the middle of a stream."""
    return Event(Stage.CLOSING, openai_error(STREAM_ERROR))


def file_object(file_id: str, filename: str, purpose: str, size_bytes: int, now_s: int) -> JsonObject:
    """The object of an uploaded file."""
    return {
        "id": file_id,
        "object": "file",
        "bytes": size_bytes,
        "created_at": now_s,
        "filename": filename,
        "purpose": purpose,
        "status": "processed",
    }


def _transcription_usage(answer: Answer, model: str, audio_bytes: int, prompt: str) -> JsonObject:
    if model == BILLED_BY_DURATION:
        return {"type": "duration", "seconds": math.ceil(audio_bytes / BYTES_PER_SECOND)}
    audio, text = _audio_tokens(audio_bytes), count_tokens(prompt)
    return {
        "type": "tokens",
        "input_tokens": audio + text,
        "input_token_details": {"audio_tokens": audio, "text_tokens": text},
        "output_tokens": answer.output_tokens,
        "total_tokens": audio + text + answer.output_tokens,
    }


def _audio_tokens(size_bytes: int) -> int:
    return max(1, math.ceil(size_bytes * AUDIO_TOKENS_PER_SECOND / BYTES_PER_SECOND))
