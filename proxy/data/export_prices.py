"""Exports genai-prices' data into prices.json.gz: `python -m proxy.data.export_prices`, a development tool run by `make prices`.

Here: the translation of genai-prices' objects, and the corrections of what its data can't say. Not here: anything the gate runs; the
reader of this file is proxy/policy/price_match.py, which documents the format.
"""

from __future__ import annotations

import gzip
import io
import sys
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from importlib.metadata import distribution, version
from pathlib import Path

import msgspec
from genai_prices.data import providers
from genai_prices.types import (
    ClauseAnd,
    ClauseContains,
    ClauseEndsWith,
    ClauseEquals,
    ClauseOr,
    ClauseRegex,
    ClauseStartsWith,
    ConditionalPrice,
    MatchLogic,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    Provider,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)

from proxy.data.model_limits import family_limits

PACKAGE = "genai-prices"
SOURCE = "https://github.com/pydantic/genai-prices"
FOLDER = Path(__file__).parent

TIER_KEYS = frozenset({"processing", "service_tier", "speed"})
"""Keys of a variant's `when` that name a service tier. Variants by `route` or `search_type` are left out: no reply tells them."""

STANDARD_TIER = "default"  # genai-prices repeats the standard price under this name

ADDED_USD: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("openai", "gpt-4o-audio-preview"): {"input_audio_mtok": "40", "output_audio_mtok": "80"},
    ("openai", "gpt-4o-mini-audio-preview"): {"input_audio_mtok": "10", "output_audio_mtok": "20"},
}
"""Prices missing from the data, which bills audio as text: a sixteenth, an eighth. Source: OpenAI's model pages; litellm #11560, #19500."""

MINIMUM_AUDIO_S: Mapping[tuple[str, str], int] = {
    ("groq", "whisper-large-v3"): 10,
    ("groq", "whisper-large-v3-turbo"): 10,
}
"""The shortest audio that is billed; genai-prices has it in code, in ModelInfo.calc_price."""

PEAK_SINCE: Mapping[tuple[str, str], date] = {
    ("deepseek", "deepseek-flash"): date(2026, 8, 17),
    ("deepseek", "deepseek-v4-flash"): date(2026, 8, 17),
    ("deepseek", "deepseek-v4-pro"): date(2026, 8, 17),
}
"""Peak hours that began on a date and hold from Monday to Friday only, which the data can't express (genai-prices #582).
Chinese public holidays stay peak: an upper bound."""

Json = dict[str, object]


def exported_prices(exported: str) -> bytes:
    """All prices as one JSON document with sorted keys. `exported`: the date it is stamped with, YYYY-MM-DD."""
    document: Json = {
        "exported": exported,
        "providers": {provider.id: _provider(provider) for provider in providers},
        "source": SOURCE,
        "version": version(PACKAGE),
    }
    return msgspec.json.encode(document, order="sorted")


def compressed(document: bytes) -> bytes:
    """The document gzipped without time or file name, so that the same prices are the same bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as file:
        file.write(document)
    return buffer.getvalue()


def licence() -> str:
    """The notice that genai-prices' licence asks to be shipped with its data."""
    text = distribution(PACKAGE).read_text("licenses/LICENSE")
    if text is None:
        raise FileNotFoundError(f"{PACKAGE} is installed without its licence")
    return f"prices.json.gz holds data of {PACKAGE} ({SOURCE}).\n\n{text}"


def main() -> None:
    """Write prices.json.gz and PRICES-LICENSE beside this file."""
    document = exported_prices(date.today().isoformat())
    (FOLDER / "prices.json.gz").write_bytes(compressed(document))
    (FOLDER / "PRICES-LICENSE").write_text(licence(), encoding="utf-8")
    sys.stdout.write(f"{PACKAGE} {version(PACKAGE)}: {len(document)} bytes of prices\n")


def _provider(provider: Provider) -> Json:
    return {
        "fallback": list(provider.fallback_model_providers or ()),
        "models": [_model(provider.id, model) for model in provider.models],
    }


def _model(provider_id: str, model: ModelInfo) -> Json:
    key = (provider_id, model.id)
    limits = family_limits(model.id)
    periods = [ConditionalPrice(prices=model.prices)] if isinstance(model.prices, ModelPrice) else model.prices
    return _without_empty(
        {
            "id": model.id,
            "context_window": model.context_window,
            "image_tokens": limits.image_tokens,
            "largest_window": limits.context_window,
            "match": name_tests(model.match),
            "max_output_tokens": limits.output_tokens,
            "minimum_audio_s": MINIMUM_AUDIO_S.get(key),
            "periods": [_period(key, period) for period in periods],
            "variants": [_variant(variant) for variant in model.price_variants or () if _tier(variant)],
        }
    )


def name_tests(clause: MatchLogic) -> dict[str, list[object]]:
    """Match logic as alternatives by kind of test, texts in lower case as genai-prices compares them."""
    match clause:
        case ClauseOr(or_=parts):
            merged: dict[str, list[object]] = {}
            for part in parts:
                for kind, values in name_tests(part).items():
                    merged.setdefault(kind, []).extend(values)
            return merged
        case ClauseAnd(and_=parts):
            return {"all_of": [[name_tests(part) for part in parts]]}
        case ClauseEquals(equals=text):
            return {"equals": [text.lower()]}
        case ClauseStartsWith(starts_with=text):
            return {"starts_with": [text.lower()]}
        case ClauseEndsWith(ends_with=text):
            return {"ends_with": [text.lower()]}
        case ClauseContains(contains=text):
            return {"contains": [text.lower()]}
        case ClauseRegex(regex=text):
            return {"regex": [text]}


def _period(key: tuple[str, str], period: ConditionalPrice) -> Json:
    condition = _condition(period.constraint)
    if "daily_s" in condition and key in PEAK_SINCE:
        condition |= {"from_unix_s": _midnight_unix_s(PEAK_SINCE[key]), "workdays": True}
    return {"usd": {**_usd(period.prices), **ADDED_USD.get(key, {})}, **condition}


def _variant(variant: PriceVariant) -> Json:
    return {"tier": _tier(variant), "usd": _usd(variant.prices), **_condition(variant.constraint)}


def _tier(variant: PriceVariant) -> str | None:
    names = [value for key, value in variant.when.items() if key in TIER_KEYS and value != STANDARD_TIER]
    return names[0] if len(variant.when) == 1 and names else None


def _condition(constraint: StartDateConstraint | TimeOfDateConstraint | None) -> Json:
    match constraint:
        case StartDateConstraint(start_date=day):
            return {"from_unix_s": _midnight_unix_s(day)}
        case TimeOfDateConstraint(start_time=start, end_time=end):
            return {"daily_s": [_second_of_day(start), _second_of_day(end)]}
        case None:
            return {}


def _usd(prices: ModelPrice) -> Json:
    return {key: _price(value) for key, value in vars(prices).items() if value is not None}


def _price(value: Decimal | TieredPrices) -> object:
    if isinstance(value, TieredPrices):
        return [[0, f"{value.base:f}"], *([tier.start, f"{tier.price:f}"] for tier in value.tiers)]
    return f"{value:f}"


def _midnight_unix_s(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def _second_of_day(moment: time) -> int:
    """Seconds since midnight UTC; genai-prices' times without a zone are UTC, and none has another one."""
    offset = moment.utcoffset()
    if offset or moment.microsecond:
        raise ValueError(f"a time of day that isn't whole seconds of UTC: {moment}")
    return moment.hour * 3600 + moment.minute * 60 + moment.second


def _without_empty(values: Json) -> Json:
    return {key: value for key, value in values.items() if value is not None and value != []}


if __name__ == "__main__":
    main()
