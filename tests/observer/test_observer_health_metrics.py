from __future__ import annotations

from proxy.observer import counters
from proxy.observer.counters import Counters
from tests.observer.metric_readings import labelled, observed


def test_what_the_observer_lost_is_told_by_cause() -> None:
    totals = Counters()
    totals.drop("traces", counters.QUEUE_FULL, 3)
    totals.add(counters.DECODE_ERRORS)
    lost = labelled(observed(totals=totals), "postern.observer.dropped", "postern.cause")
    assert {cause: count for cause, count in lost.items() if count} == {"spans_queue_full": 3, "undecodable": 1}


def test_every_cause_of_loss_is_told() -> None:
    causes = {value for name, value in vars(counters).items() if name.startswith("DROPPED_") and isinstance(value, str)}
    assert causes | {counters.DECODE_ERRORS} <= set(counters.DROP_CAUSES)


def test_exports_are_told_by_signal() -> None:
    totals = Counters()
    totals.add(counters.EXPORTED_SPANS, 7)
    totals.add(counters.EXPORTED_METRICS, 2)
    totals.add(counters.EXPORT_FAILURES, 4)
    points = observed(totals=totals)
    assert labelled(points, "postern.observer.exported", "postern.signal") == {"traces": 7, "logs": 0, "metrics": 2}
    assert points["postern.observer.export_failures"] == [({}, 4)]


def test_spool_is_told_as_it_is_now() -> None:
    totals = Counters()
    totals.set(counters.SPOOL_BYTES, 4096)
    totals.set(counters.LAST_EXPORT_S, 1_790_000_000)
    points = observed(totals=totals)
    assert points["postern.observer.spool_bytes"] == [({}, 4096)]
    assert points["postern.observer.last_export_timestamp"] == [({}, 1_790_000_000)]


def test_losses_are_told_before_there_are_any() -> None:
    assert set(labelled(observed(), "postern.observer.dropped", "postern.cause").values()) == {0}


def test_what_was_never_set_is_absent() -> None:
    assert not {"postern.observer.spool_bytes", "postern.observer.last_export_timestamp"} & observed().keys()
