"""docs/telemetry.md is what the tables of names say, up to its mark."""

from __future__ import annotations

from proxy.observer.telemetry import names
from proxy.observer.telemetry.document import END, document, main, rewritten
from tests.project.tree import source

REGENERATE = "run: python -m proxy.observer.telemetry.document docs/telemetry.md"


def test_the_document_is_what_the_tables_say() -> None:
    assert source("docs/telemetry.md").startswith(document()), REGENERATE


def test_every_name_is_documented() -> None:
    listed = [row.name for row in names.ATTRIBUTES] + [row.name for row in names.EVENTS] + [row.name for row in names.METRICS]
    generated = document()
    assert not [name for name in listed if f"| `{name}` |" not in generated]


def test_what_is_written_by_hand_survives_regeneration(tmp_path) -> None:
    path = tmp_path / "telemetry.md"
    path.write_text(f"old\n{END}\n\n## By hand\n", encoding="utf-8")
    main([str(path)])
    assert path.read_text(encoding="utf-8") == f"{document()}\n## By hand\n"


def test_a_document_that_is_not_there_yet_is_made() -> None:
    assert rewritten("") == document()
