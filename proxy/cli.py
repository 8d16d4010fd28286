"""The command `postern`: serve, check, calls, budgets, explain, replay, key, demo.

Here: arguments, what a terminal is shown, exit codes. Not here: what the commands do.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from proxy import __version__

if TYPE_CHECKING:
    from proxy.app import App
    from proxy.config.load import LoadedConfig
    from proxy.explain.ask import Answer

DEFAULT_CONFIG = "config/postern.yaml"
OK, FAILED, MISUSED = 0, 1, 2
OK_STATUS = 200


class Ended(Exception):
    """A command ends here: the text goes to standard error, the code to whoever started it."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


@contextlib.contextmanager
def _ended_by(*errors: type[Exception], code: int = FAILED, before: str = "") -> Iterator[None]:
    """What raises one of the errors ends the command. Raises Ended with the error's text, and `before` it what it is about.

    A reader that has gone is no fault of what was asked for, unless BrokenPipeError is named.
    """
    try:
        yield
    except errors as error:
        if isinstance(error, BrokenPipeError) and BrokenPipeError not in errors:
            raise
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise Ended(code, f"{before}: {reason}" if before else reason) from error


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the result is the process's exit code: 0 done, 1 failed or refused, 2 misused."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return MISUSED
    try:
        code = int(COMMANDS[options.command](options))
        sys.stdout.flush()  # here, where a reader that has gone is no surprise
        return code
    except Ended as end:
        sys.stderr.write(f"{end}\n")
        return end.code
    except KeyboardInterrupt:
        return OK
    except BrokenPipeError:  # e.g. `postern calls | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="postern", description="The small gate beside one app: meters, routes and accounts for its LLM calls."
    )
    parser.add_argument("--version", action="version", version=f"postern {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    config_help = f"the configuration file (default: $POSTERN_CONFIG, else {DEFAULT_CONFIG})"
    default = os.environ.get("POSTERN_CONFIG") or DEFAULT_CONFIG
    serve = commands.add_parser("serve", help="run the gate until SIGTERM or Ctrl-C")
    check = commands.add_parser("check", help="check a configuration; exit code 1 if it has problems")
    check.add_argument("file", nargs="?", help="the file to check; instead of --config")
    calls = commands.add_parser("calls", help="show the last calls of the ledger")
    calls.add_argument("--follow", action="store_true", help="go on showing calls as they end")
    calls.add_argument("--json", action="store_true", help="one JSON object a line, every column")
    calls.add_argument("--content", action="store_true", help="with --json: what was said, where it was recorded")
    calls.add_argument("--limit", type=_positive, default=20, metavar="N", help="how many past calls (default 20)")
    budgets = _add_budgets(commands)
    explain = commands.add_parser("explain", help="say what would happen to a call, and why; sends nothing")
    _add_explain_arguments(explain)
    replay = commands.add_parser("replay", help="play recorded calls on another configuration, say what would change; sends nothing")
    replay.add_argument("--from", dest="source", required=True, metavar="ledger|FILE", help="the ledger, or lines of postern calls --json")
    replay.add_argument("--limit", type=_positive, metavar="N", help="only the last N calls")
    replay.add_argument("--json", action="store_true", help="one JSON object for each call that changes, and a last one with the sum")
    demo = commands.add_parser("demo", help="run a sidecar with a simulated provider, send sample traffic, say what to look at")
    demo.add_argument("--once", action="store_true", help="end after the sample traffic")
    key = commands.add_parser("key", help="make a virtual key, list them, revoke one")
    for command in (serve, check, calls, budgets, explain, replay, *_add_key_commands(key)):
        command.add_argument("--config", default=default, metavar="FILE", help=config_help)
    return parser


def _add_explain_arguments(explain: argparse.ArgumentParser) -> None:
    explain.add_argument("--request", metavar="FILE", help="the request's JSON body; - reads standard input")
    explain.add_argument("--header", action="append", default=[], metavar="'NAME: VALUE'", help="a header field of the request; repeatable")
    explain.add_argument("--method", default="POST", help="default POST")
    explain.add_argument("--path", default="/v1/chat/completions", help="default /v1/chat/completions")
    explain.add_argument(
        "--assume",
        action="append",
        default=[],
        metavar="WHAT",
        help="breaker:TARGET=open, half_open or closed, budget:NAME=85%%, or key:NAME; repeatable",
    )
    explain.add_argument("--draw", metavar="X[,X...]", help="what chance gives, from 0 up to 1, in turn; repeatable results")
    explain.add_argument("--json", action="store_true", help="the explanation as one JSON object")


def _add_key_commands(key: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """The subcommands, one of which is required."""
    commands = key.add_subparsers(dest="key_command", metavar="new|list|revoke", required=True)
    told = {"new": "make a key: shown once, with the entry for the configuration", "list": "list the keys", "revoke": "take a key out"}
    new, listing, revoke = parsers = [commands.add_parser(name, help=text) for name, text in told.items()]
    new.add_argument("--name", required=True, type=_name, help="what the key is called in the ledger, in spans and in rules")
    for label in ("tenant", "user", "app"):
        new.add_argument(f"--{label}", type=_said, help=f"the {label} of its calls, where nothing before it in `identity` says one")
    new.add_argument("--models", default=[], type=_listed, metavar="GLOB[,GLOB...]", help="models that may be asked for (default: any)")
    new.add_argument("--routes", default=[], type=_listed, metavar="NAME[,NAME...]", help="routes that may be taken (default: any)")
    new.add_argument("--expires", type=_moment, metavar="DATE", help="the last day, in UTC, as 2027-01-31, or a time (RFC 3339)")
    revoke.add_argument("name", help="the key's name")
    new.add_argument("--redis", action="store_true", help="keep it in the Redis of the configuration, where `store.keys` is true")
    listing.add_argument("--redis", action="store_true", help="only those in Redis")
    revoke.add_argument("--redis", action="store_true", help="the one in Redis")
    return parsers


def _name(text: str) -> str:
    from proxy.config.endpoints import header_text_message

    if message := header_text_message(text):
        raise argparse.ArgumentTypeError(f"the name {message}")
    return text


def _add_budgets(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    budgets = commands.add_parser("budgets", help="show how the budgets of a running Postern stand; set or reset what is spent")
    budgets.add_argument("action", nargs="?", choices=("set", "reset"), help="left out: only show")
    budgets.add_argument("name", nargs="?", help="with set and reset: the budget")
    budgets.add_argument("--scope", help="whose, as it is shown, e.g. tenant=acme; with reset: left out, everybody's")
    amount = budgets.add_mutually_exclusive_group()
    for unit in ("usd", "tokens", "requests"):
        amount.add_argument(f"--{unit}", type=_amount, metavar="SPENT", help=f"with set: what is spent, in {unit}")
    budgets.add_argument("--json", action="store_true", help="one JSON object a line")
    return budgets


def _amount(text: str) -> float:
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    if not 0 <= amount < math.inf:  # how much can be counted is the store's to say
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount of at least 0")
    return amount


def _said(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise argparse.ArgumentTypeError("must be a printable text")
    return text


def _listed(text: str) -> list[str]:
    return [_said(one).strip() for one in text.split(",")]


def _moment(text: str) -> str:
    from proxy.call import expiry_unix_s

    try:
        expiry_unix_s(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a date as 2027-01-31 nor a time as 2027-01-31T12:00:00Z") from None
    return text


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return int(text)


def _load(path: str) -> LoadedConfig:
    """The configuration. Raises Ended with all its problems."""
    from proxy.app import load
    from proxy.config.problems import ConfigError

    try:
        return load(path, os.environ)
    except ConfigError as error:
        advice = "" if Path(path).exists() else "\nName the configuration with --config FILE, or in the variable POSTERN_CONFIG."
        raise Ended(FAILED, f"{error}{advice}") from error


def _serve(options: argparse.Namespace) -> int:
    loaded = _load(options.config)
    from proxy.app import serve

    with _ended_by(OSError, BrokenPipeError, before="postern can't start"):
        serve(options.config, loaded, os.environ, _say_hello)
    return OK


def _say_hello(app: App) -> None:
    base = f"http://{app.addresses[0]}"
    sys.stdout.write(
        f"Postern {__version__} listens on {base} and stands ready (health and status: http://{app.admin_addresses[0]}/status).\n"
        f"  Your app:   export OPENAI_BASE_URL={base}/v1\n"
    )
    if app.simulates:
        sys.stdout.write(
            f"  Try it:     curl -s {base}/v1/chat/completions -H 'content-type: application/json' "
            '-d \'{"model": "sim/gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}\'\n'
        )
    beside = Path(sys.executable).with_name("postern")  # of an environment that needn't be on the PATH
    command = os.path.relpath(beside) if beside.exists() else "postern"
    sys.stdout.write(f"  Calls:      {command} calls --follow --config {app.config_file}\n")
    sys.stdout.flush()


def _check(options: argparse.Namespace) -> int:
    path = options.file or options.config
    config = _load(path).config
    from proxy.config.notes import notes

    for note in notes(config):
        sys.stdout.write(f"{path}: {note}\n")
    sys.stdout.write(f"{path} is good: {len(config.targets)} targets, {len(config.routes)} routes, listens on {config.listen}.\n")
    return OK


def _calls(options: argparse.Namespace) -> int:
    loaded = _load(options.config)
    import time

    from proxy.observer.ledger.show import run_calls

    def wait() -> bool:
        time.sleep(0.3)
        return True

    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    return run_calls(
        loaded.config.state_dir,
        options.follow,
        options.json,
        options.limit,
        write,
        wait,
        colour=sys.stdout.isatty(),
        with_content=options.content,
    )


def _budgets(options: argparse.Namespace) -> int:
    from proxy.budget_command import AMOUNTS, Misused, NotAnswered, ask_budgets, asked_for, set_spent, show

    config = _load(options.config).config
    amounts = {unit: getattr(options, unit) for unit in AMOUNTS if getattr(options, unit) is not None}
    with _ended_by(Misused, code=MISUSED), _ended_by(NotAnswered):
        asked = asked_for(options.action, options.name, options.scope, amounts)
        rows = ask_budgets(config) if asked is None else set_spent(config, asked)
    show(rows, options.json, sys.stdout.write)
    return OK


def _explain(options: argparse.Namespace) -> int:
    from proxy.explain.ask import Misused, Question, ask, parse_assumption, parse_draws, parse_field

    with _ended_by(Misused, code=MISUSED), _ended_by(OSError, code=MISUSED, before=f"--request {options.request}"):
        question = Question(
            options.method,
            options.path,
            [parse_field(text) for text in options.header],
            _body(options.request),
            tuple(parse_assumption(text) for text in options.assume),
            parse_draws(options.draw) if options.draw is not None else (),
        )
        return _show(ask(_load(options.config), question, os.environ), options.json)


def _body(file: str | None) -> bytes:
    """The request's body. Raises OSError."""
    if file is None:
        return b""
    return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()


def _show(answer: Answer, as_json: bool) -> int:
    """Print an explanation. A call that would be refused has failed. Raises Ended where there is none."""
    import msgspec

    from proxy.explain.text import as_text
    from proxy.policy.explain import Explanation

    if answer.status != OK_STATUS:
        raise Ended(FAILED, f"The gate would answer {answer.status}: {answer.body.decode()}")
    told = msgspec.json.decode(answer.body, type=Explanation)
    sys.stdout.write(f"{answer.body.decode()}\n" if as_json else as_text(told))
    return OK if told.refusal is None else FAILED


def _replay(options: argparse.Namespace) -> int:
    from proxy.explain.ask import Misused
    from proxy.explain.differences import run_replay
    from proxy.explain.recorded import UNREADABLE, read_recorded
    from proxy.explain.replay import Replay

    loaded = _load(options.config)
    with _ended_by(Misused, code=MISUSED), _ended_by(*UNREADABLE, before=f"--from {options.source} can't be read"):
        calls = read_recorded(options.source, loaded.config.state_dir, options.limit)
    run_replay(Replay(loaded), calls, options.json, sys.stdout.write)
    return OK


def _key(options: argparse.Namespace) -> int:
    from proxy.key_command import NotDone, new_key, show_new

    if options.key_command == "new" and not options.redis:
        show_new(new_key(), _entry_said(options), sys.stdout.write)
        return OK
    loaded = _load(options.config)
    with _ended_by(NotDone, before=options.config), _ended_by(OSError, before=f"{options.config} can't be written"):
        _with_kept_keys(options, loaded)
    return OK


def _with_kept_keys(options: argparse.Namespace, loaded: LoadedConfig) -> None:
    """What a subcommand does where keys are kept. Raises NotDone, OSError."""
    import time

    from proxy.key_command import keep_new, list_keys, new_key, revoke, revoke_in_redis

    write = sys.stdout.write
    if options.key_command == "new":
        keep_new(loaded.config, new_key(), _entry_said(options), write)
    elif options.key_command == "list":
        list_keys(loaded.config, options.redis, time.time_ns() / 1e9, write)
    elif options.redis:
        write(f"{revoke_in_redis(loaded.config, options.name)}\n")
    else:
        write(f"{revoke(options.config, loaded, os.environ, options.name)}\n")


def _entry_said(options: argparse.Namespace) -> dict[str, str | list[str] | None]:
    return {name: getattr(options, name) for name in ("name", "tenant", "user", "app", "models", "routes", "expires")}


def _demo(options: argparse.Namespace) -> int:
    from proxy.demo import run_demo

    return run_demo(options.once)


COMMANDS = {
    "serve": _serve,
    "check": _check,
    "calls": _calls,
    "budgets": _budgets,
    "explain": _explain,
    "replay": _replay,
    "key": _key,
    "demo": _demo,
}
