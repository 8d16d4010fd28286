"""docs/telemetry.md, made from the tables of names: `python -m proxy.observer.telemetry.document` prints it, or writes it to a file.

Here: its text. Not here: the names. What stands below END in the file is written by hand, and stays.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from proxy.observer.telemetry import names
from proxy.observer.telemetry.name_rows import AttributeRow, MetricRow, On

END = "<!-- generated above; written by hand below -->"

PREAMBLE = """\
# Telemetry

What Postern tells about calls: spans, metrics and log records, by OTLP. This page is generated up to a mark near its end: change
`proxy/observer/telemetry/names.py` or `document.py`, then run `python -m proxy.observer.telemetry.document docs/telemetry.md`.

A call is one trace: a SERVER span for the exchange with the client, and below it a CLIENT span for each attempt, failed ones too. Both
have the ids that the gate gave out and the times it took; a client's `traceparent` is joined. Unknown is absent, never 0.

| switch | what it does |
|---|---|
| `telemetry.otlp`, `OTEL_EXPORTER_OTLP_*` | where to; with neither, nothing is sent |
| `telemetry.genai_semconv` | `v1_41` (default): the conventions most dashboards know; `latest`: as developed since; \
`both`: the names of both, and where one name has two types, that of `v1_41` |
| `telemetry.openinference` | OpenInference's attributes beside `gen_ai.*`, for Phoenix |
| `telemetry.cost_attribute` | a second name for the cost of an attempt, in USD; \
`gen_ai.usage.cost.amount` brings `gen_ai.usage.cost.currency` and `gen_ai.usage.cost.source` with it |
| `telemetry.capture_content` | what was said, redacted: `span` as JSON on CLIENT spans, `event` as log records, `ledger`; off by default |
| `telemetry.attributes` | own attributes of both spans, as `postern.attribute.<name>` |
| `telemetry.call_log` | a JSON line for each call, to stdout or as OTLP log records |
| `telemetry.keep`, `OTEL_TRACES_SAMPLER` | which calls are told as spans |

Sampling: the gate decides at a call's start, by the client's `traceparent` and `OTEL_TRACES_SAMPLER`; of what it sampled, `telemetry.keep`
decides once the call is over: errors, refusals, slow and dear calls, and a share of the others. Metrics and the ledger count every call.

Cost stands on CLIENT spans under two names, and as a sum on the SERVER span under `postern.cost_usd` only: summed over spans,
`cost_attribute` counts each attempt once. A hit of the cache has no attempt; its SERVER span has cost 0 under both names, and
`postern.saved_usd`. Reads (`fetch_response`) have neither tokens nor cost. Sampled spans don't add up to what was spent: the metric
`postern.cost` does.

A span has at most 128 attributes. Of captured messages, the oldest are left out where there would be more, and
`postern.content_truncated` is true; tags and own attributes are left out likewise, counted by `postern.tags_dropped`. Texts are cut at
1,024 characters, but for captured content, which the gate cuts by `telemetry.max_chars`.

`gen_ai.*` and `openai.*` are in development upstream, `http.*` and its kin are stable; `postern.*` is ours, and changes only with a note
in the [changelog](changelog.md).
"""

_PLACES = {
    On.SPAN: "every span",
    On.SERVER: "SERVER",
    On.CLIENT: "CLIENT",
    On.OPERATION: "CLIENT of operations",
    On.BILLED: "CLIENT of inference, embeddings",
    On.INFERENCE: "CLIENT of inference",
    On.EMBEDDINGS: "CLIENT of embeddings",
    On.FETCH: "CLIENT of fetch_response",
    On.HTTP: "CLIENT of plain HTTP",
    On.EVENT: "span events",
    On.LOG: "log records",
    On.METRIC: "metrics",
}
"""What to call places, groups before their members."""

_SECTIONS = (
    ("Attributes: GenAI", names.GENAI),
    ("Attributes: HTTP", names.HTTP),
    ("Attributes: Postern", names.OURS),
    ("Attributes: OpenInference", names.OPENINFERENCE),
)


def document() -> str:
    """The generated part of docs/telemetry.md, up to and with END."""
    parts = [PREAMBLE]
    for title, convention in _SECTIONS:
        parts += [f"## {title}", "", *_attribute_table(row for row in names.ATTRIBUTES if row.convention == convention), ""]
    parts += [
        "## Events",
        "",
        *_table(("event", "on", "what it tells"), ((f"`{row.name}`", row.where, row.meaning) for row in names.EVENTS)),
        "",
    ]
    parts += ["## Metrics", "", *_metric_table(names.METRICS), "", END, ""]
    return "\n".join(parts)


def _attribute_table(rows: Iterable[AttributeRow]) -> Iterator[str]:
    cells = ((f"`{row.name}`", row.type, _places(row.on), row.generation, row.meaning) for row in rows)
    return _table(("attribute", "type", "on", "only with", "what it tells"), cells)


def _metric_table(rows: Iterable[MetricRow]) -> Iterator[str]:
    cells = (
        (f"`{row.name}`", row.instrument, f"`{row.unit}`", row.generation, row.meaning, ", ".join(map(str, row.boundaries))) for row in rows
    )
    return _table(("metric", "instrument", "unit", "only with", "what it tells", "boundaries"), cells)


def _places(on: On) -> str:
    told = []
    for place, name in _PLACES.items():
        if place in on:
            told.append(name)
            on &= ~place
    return ", ".join(told)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    for row in rows:
        yield "|" + "".join(f" {cell} |" if cell else " |" for cell in row)


def rewritten(text: str) -> str:
    """The file's text with its generated part made anew, and what is written by hand kept."""
    return document() + text.partition(f"{END}\n")[2]


def main(arguments: Sequence[str]) -> None:
    """Print the generated part, or bring the file given up to date."""
    if not arguments:
        sys.stdout.write(document())
        return
    path = Path(arguments[0])
    path.write_text(rewritten(path.read_text(encoding="utf-8") if path.exists() else ""), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
