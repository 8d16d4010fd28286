"""The command `postern budgets`: how the budgets of a running Postern stand, and setting what is spent.

Here: asking its admin listener, what is shown. Not here: arguments (cli.py), what it answers (budget_desk.py).
"""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPException

import msgspec

from proxy.config.endpoints import parse_address
from proxy.config.schema import Config
from proxy.explain.table import printable, table
from proxy.pipeline.budget_report import BudgetRow, SetSpent
from proxy.spending import Unit

AMOUNTS: tuple[Unit, ...] = ("usd", "tokens", "requests")
"""What may be set."""
ANSWER_S = 10.0
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
HEADINGS = ("budget", "scope", "unit", "used", "held", "left", "limit", "forecast", "window", "ends")

Write = Callable[[str], object]


class NotAnswered(Exception):
    """The running Postern can't be asked, or says no; the text says why."""


class Misused(Exception):
    """Arguments that make no sense; the text says which, and how they are written."""


class _Refused(msgspec.Struct):
    """How the admin listener says no."""

    error: str


def asked_for(action: str | None, name: str | None, scope: str | None, amounts: Mapping[Unit, float]) -> SetSpent | None:
    """What the arguments ask to be set; None: to be shown only. Raises Misused."""
    if action is None:
        if scope is not None or amounts:
            raise Misused("--scope and amounts go with `set NAME` and `reset NAME`")
        return None
    if name is None:
        raise Misused(f"{action}: name the budget")
    if action == "reset":
        if amounts:
            raise Misused("reset: an amount goes with `set`")
        return SetSpent(name, scope)
    if scope is None or not amounts:
        raise Misused("set: say whose with --scope (`all` where the budget has no `per`), and how much with --usd, --tokens or --requests")
    [(unit, spent)] = amounts.items()
    return SetSpent(name, scope, unit, spent)


def ask_budgets(config: Config) -> list[BudgetRow]:
    """How the budgets stand. Raises NotAnswered."""
    return _asked(config, None)


def set_spent(config: Config, asked: SetSpent) -> list[BudgetRow]:
    """Set what is spent; the accounts of that budget afterwards. Raises NotAnswered."""
    return _asked(config, msgspec.json.encode(asked))


def _asked(config: Config, body: bytes | None) -> list[BudgetRow]:
    where = parse_address(config.admin.listen)
    host = ANYWHERE.get(where.host, where.host)
    url = f"http://{f'[{host}]' if ':' in host else host}:{where.port}/budgets"
    headers = {"Content-Type": "application/json"}
    if config.admin.token:
        headers["Authorization"] = f"Bearer {config.admin.token.reveal()}"
    request = urllib.request.Request(url, body, headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _StayHere)
    try:
        with opener.open(request, timeout=ANSWER_S) as answer:
            return msgspec.json.decode(answer.read(), type=list[BudgetRow])
    except urllib.error.HTTPError as error:
        raise NotAnswered(_told(error, config.admin.listen)) from error
    except (OSError, HTTPException, msgspec.DecodeError) as error:
        why = getattr(error, "reason", error)
        raise NotAnswered(f"No Postern answers at {config.admin.listen} (admin.listen): start it, or give its --config. {why}") from error


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Goes nowhere else: the token is for the admin listener alone."""

    def redirect_request(self, *_: object) -> None:
        """None: what leads elsewhere is an error."""


def _told(error: urllib.error.HTTPError, listen: str) -> str:
    """What the admin listener says is wrong; of somebody else's answer, its status."""
    try:
        return msgspec.json.decode(error.read(), type=_Refused).error
    except (OSError, HTTPException, msgspec.DecodeError):
        return (
            f"What answers at {listen} (admin.listen) is no admin listener of Postern's: {error.code}. Give the --config of one that runs."
        )


def show(rows: Sequence[BudgetRow], as_json: bool, write: Write) -> None:
    """The rows, as a table or one JSON object a line."""
    if as_json:
        for row in rows:
            write(msgspec.json.encode(row).decode() + "\n")
    elif not rows:
        write("No budget has been used yet.\n")
    else:
        for line in table([HEADINGS, *map(_cells, rows)]):
            write(f"{printable(line)}\n")


def _cells(row: BudgetRow) -> tuple[str, ...]:
    name = f"{row.rule} (shadow)" if row.mode == "shadow" else row.rule
    amounts = [f"{amount:.10g}" for amount in (row.used, row.held, row.left, row.limit)]
    forecast = "" if row.forecast is None else f"{row.forecast:.6g}"
    return (name, row.scope, row.unit, *amounts, forecast, row.window or "", row.ends or "")
