"""The Realtime API's events, simulated, text only. Source: wire.md C4.

Here: the dialect, pure: a conversation, its server events, usage. Not here: the socket (sockets.py).
"""

from __future__ import annotations

from collections.abc import Iterator

from proxy.simulated.composing import Answer, Finish, Wish
from proxy.simulated.counting import Counts, prompt_tokens, text_of
from proxy.simulated.events import Event, Stage, new_id
from proxy.simulated.mistakes import STREAM_ERROR, JsonObject


class Conversation:
    """What a realtime session has heard and said so far."""

    def __init__(self, model: str) -> None:
        self.session: JsonObject = {"id": new_id("sess_"), "object": "realtime.session", "type": "realtime", "model": model}
        self._items: list[JsonObject] = []
        self._model = model

    def update(self, fields: object) -> None:
        """Change the session's settings; its id and model stay."""
        if isinstance(fields, dict):
            self.session = fields | {key: self.session[key] for key in ("id", "object", "type", "model")}

    def add(self, item: object) -> JsonObject:
        """Add an item to the conversation, with an id if it has none."""
        whole = {"id": new_id("item_"), **item} if isinstance(item, dict) else {"id": new_id("item_")}
        self._items.append(whole)
        return whole

    def wish(self, response: object) -> Wish:
        """What a `response.create` asks for: everything said so far counts."""
        prompt = text_of([self.session.get("instructions"), self._items, response])
        return Wish(model=self._model, prompt=prompt, prompt_tokens=prompt_tokens(prompt, max(1, len(self._items)), 0))


def session_event(kind: str, fields: JsonObject) -> Event:
    """A server event outside of a response: session.created, conversation.item.added, error."""
    return Event(Stage.FRAMING, {"type": kind, "event_id": new_id("event_"), **fields})


def realtime_error_event(sent: int) -> Event:
    """An error in the middle of a response."""
    return client_error_event("server_error", STREAM_ERROR.message)


def client_error_event(kind: str, message: str) -> Event:
    """The `error` server event."""
    return session_event("error", {"error": {"type": kind, "code": None, "message": message, "param": None, "event_id": None}})


def realtime_events(answer: Answer, counts: Counts) -> Iterator[Event]:
    """One response: created, deltas, done with usage."""
    response_id, item_id = new_id("resp_"), new_id("item_")
    head: JsonObject = {"id": response_id, "object": "realtime.response", "output_modalities": ["text"]}
    place: JsonObject = {"response_id": response_id, "output_index": 0}
    spot = place | {"item_id": item_id, "content_index": 0}
    yield session_event("response.created", {"response": head | {"status": "in_progress", "output": [], "usage": None}})
    yield session_event("response.output_item.added", place | {"item": _item(item_id, None)})
    yield session_event("response.content_part.added", spot | {"part": {"type": "text", "text": ""}})
    for piece in answer.pieces:
        payload: JsonObject = {"type": "response.output_text.delta", "event_id": new_id("event_"), **spot, "delta": piece}
        yield Event(Stage.CONTENT, payload)
    yield session_event("response.output_text.done", spot | {"text": answer.text})
    yield session_event("response.content_part.done", spot | {"part": {"type": "text", "text": answer.text}})
    yield session_event("response.output_item.done", place | {"item": _item(item_id, answer.text)})
    status = "incomplete" if answer.finish is Finish.LENGTH else "completed"
    done = head | {"status": status, "output": [_item(item_id, answer.text)], "usage": realtime_usage(counts)}
    yield Event(Stage.CLOSING, {"type": "response.done", "event_id": new_id("event_"), "response": done})


def realtime_usage(counts: Counts) -> JsonObject:
    """The `usage` object of a realtime response."""
    return {
        "total_tokens": counts.total,
        "input_tokens": counts.prompt,
        "output_tokens": counts.output,
        "input_token_details": {
            "text_tokens": counts.prompt,
            "audio_tokens": 0,
            "image_tokens": 0,
            "cached_tokens": counts.cached,
            "cached_tokens_details": {"text_tokens": counts.cached, "audio_tokens": 0, "image_tokens": 0},
        },
        "output_token_details": {"text_tokens": counts.output, "audio_tokens": 0},
    }


def _item(item_id: str, text: str | None) -> JsonObject:
    content = [] if text is None else [{"type": "output_text", "text": text}]
    status = "in_progress" if text is None else "completed"
    return {"id": item_id, "object": "realtime.item", "type": "message", "status": status, "role": "assistant", "content": content}
