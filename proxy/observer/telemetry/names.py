"""Every name that telemetry uses: attributes, events, metrics, units, boundaries, well-known values. The only place they are written down.

docs/telemetry.md is made from these tables. Source: the OpenTelemetry GenAI conventions as of core 1.41 (`v1_41`) and as developed since
(`latest`), the HTTP conventions 1.44, OpenInference 0.1.42. Not here: how values are found.
"""

from __future__ import annotations

from functools import partial

from proxy.observer.telemetry.name_rows import AttributeRow, AttributeType, EventRow, Generation, Instrument, MetricRow, On

ATTRIBUTES: list[AttributeRow] = []
EVENTS: list[EventRow] = []
METRICS: list[MetricRow] = []

GENAI, HTTP, OURS, OPENINFERENCE = "GenAI", "HTTP 1.44", "Postern", "OpenInference 0.1.42"
"""Who says what an attribute means."""


def _attribute(convention: str, name: str, kind: AttributeType, on: On, meaning: str, generation: Generation = "") -> str:
    ATTRIBUTES.append(AttributeRow(name, kind, on, meaning, convention, generation))
    return name


def _event(name: str, where: str, meaning: str) -> str:
    EVENTS.append(EventRow(name, where, meaning))
    return name


def _metric(
    name: str, instrument: Instrument, unit: str, meaning: str, boundaries: tuple[float, ...] = (), generation: Generation = ""
) -> str:
    METRICS.append(MetricRow(name, instrument, unit, meaning, boundaries, generation))
    return name


_genai, _http, _ours, _openinference = (partial(_attribute, convention) for convention in (GENAI, HTTP, OURS, OPENINFERENCE))

OTHER = "_OTHER"  # what stands for a value that isn't told, in attributes and in capped labels

# ---- attributes: gen_ai.* and openai.*

OPERATION = _genai("gen_ai.operation.name", "string", On.OPERATION | On.METRIC, "what was asked for: chat, embeddings, …")
PROVIDER = _genai("gen_ai.provider.name", "string", On.OPERATION | On.METRIC, "the target's vendor, by the name the conventions give it")
REQUEST_MODEL = _genai("gen_ai.request.model", "string", On.BILLED | On.METRIC, "the model as sent upstream")
REQUEST_STREAM = _genai("gen_ai.request.stream", "boolean", On.INFERENCE | On.FETCH, "true where a stream was asked for, else absent")
REQUEST_CHOICE_COUNT = _genai("gen_ai.request.choice.count", "int", On.INFERENCE, "how many choices were asked for, if not 1")
REQUEST_MAX_TOKENS = _genai("gen_ai.request.max_tokens", "int", On.INFERENCE, "the bound on output tokens")
REQUEST_TEMPERATURE = _genai("gen_ai.request.temperature", "double", On.INFERENCE, "as asked")
REQUEST_TOP_P = _genai("gen_ai.request.top_p", "double", On.INFERENCE, "as asked")
REQUEST_TOP_K = _genai("gen_ai.request.top_k", "double", On.INFERENCE, "as asked; an int with `latest`, absent there if it is none")
REQUEST_FREQUENCY_PENALTY = _genai("gen_ai.request.frequency_penalty", "double", On.INFERENCE, "as asked")
REQUEST_PRESENCE_PENALTY = _genai("gen_ai.request.presence_penalty", "double", On.INFERENCE, "as asked")
REQUEST_SEED = _genai("gen_ai.request.seed", "int", On.INFERENCE, "as asked")
REQUEST_STOP_SEQUENCES = _genai("gen_ai.request.stop_sequences", "string[]", On.INFERENCE, "as asked")
REQUEST_REASONING_LEVEL = _genai("gen_ai.request.reasoning.level", "string", On.INFERENCE, "the reasoning effort asked for", "latest")
REQUEST_PREVIOUS_RESPONSE = _genai(
    "gen_ai.request.previous_response.id", "string", On.INFERENCE, "the response that this one goes on from", "latest"
)
REQUEST_ENCODING_FORMATS = _genai("gen_ai.request.encoding_formats", "string[]", On.EMBEDDINGS, "as asked")
EMBEDDINGS_DIMENSIONS = _genai("gen_ai.embeddings.dimension.count", "int", On.EMBEDDINGS, "length of the vectors asked for")
OUTPUT_TYPE = _genai("gen_ai.output.type", "string", On.INFERENCE, "text, json, image or speech, if asked for")
CONVERSATION_ID = _genai("gen_ai.conversation.id", "string", On.INFERENCE, "the conversation that the request names; never made up")
RESPONSE_ID = _genai("gen_ai.response.id", "string", On.OPERATION, "the provider's id of the reply")
RESPONSE_MODEL = _genai("gen_ai.response.model", "string", On.OPERATION | On.METRIC, "the model that answered")
RESPONSE_FINISH_REASONS = _genai("gen_ai.response.finish_reasons", "string[]", On.INFERENCE | On.FETCH, "one per choice, in order")
RESPONSE_TIME_TO_FIRST_CHUNK = _genai(
    "gen_ai.response.time_to_first_chunk", "double", On.INFERENCE | On.FETCH, "seconds from the attempt's start to a stream's first content"
)
USAGE_INPUT = _genai("gen_ai.usage.input_tokens", "int", On.BILLED, "all input tokens, cached ones too")
USAGE_OUTPUT = _genai("gen_ai.usage.output_tokens", "int", On.BILLED, "all output tokens, reasoning too")
USAGE_CACHE_READ = _genai("gen_ai.usage.cache_read.input_tokens", "int", On.BILLED, "part of the input: read from the provider's cache")
USAGE_CACHE_CREATION = _genai(
    "gen_ai.usage.cache_creation.input_tokens", "int", On.BILLED, "part of the input: written to the provider's cache", "v1_41"
)
USAGE_CACHE_WRITE = _genai(
    "gen_ai.usage.cache_write.input_tokens", "int", On.BILLED, "part of the input: written to the provider's cache", "latest"
)
USAGE_REASONING = _genai("gen_ai.usage.reasoning.output_tokens", "int", On.BILLED, "part of the output: reasoning")
USAGE_TEXT_INPUT = _genai(
    "gen_ai.usage.text.input_tokens", "int", On.BILLED, "part of the input: text, where the other kinds are known", "latest"
)
USAGE_IMAGE_INPUT = _genai("gen_ai.usage.image.input_tokens", "int", On.BILLED, "part of the input: images", "latest")
USAGE_AUDIO_INPUT = _genai("gen_ai.usage.audio.input_tokens", "int", On.BILLED, "part of the input: audio", "latest")
USAGE_TEXT_OUTPUT = _genai(
    "gen_ai.usage.text.output_tokens", "int", On.BILLED, "part of the output: text, where the other kinds are known", "latest"
)
USAGE_IMAGE_OUTPUT = _genai("gen_ai.usage.image.output_tokens", "int", On.BILLED, "part of the output: images", "latest")
USAGE_AUDIO_OUTPUT = _genai("gen_ai.usage.audio.output_tokens", "int", On.BILLED, "part of the output: audio", "latest")
USAGE_AUDIO_CACHE_READ = _genai(
    "gen_ai.usage.audio.cache_read.input_tokens", "int", On.BILLED, "part of the audio input: read from the provider's cache", "latest"
)
INPUT_MESSAGES = _genai("gen_ai.input.messages", "any", On.BILLED | On.LOG, "captured content: JSON on spans, structured in the event")
OUTPUT_MESSAGES = _genai("gen_ai.output.messages", "any", On.BILLED | On.LOG, "captured content, of the last attempt")
SYSTEM_INSTRUCTIONS = _genai("gen_ai.system_instructions", "any", On.BILLED | On.LOG, "captured content, if sent apart from messages")
TOOL_DEFINITIONS = _genai("gen_ai.tool.definitions", "any", On.BILLED | On.LOG, "captured content: the tools that the request offers")
TOKEN_TYPE = _genai("gen_ai.token.type", "string", On.METRIC, "input or output", "v1_41")
TOKEN_MODALITY = _genai("gen_ai.token.modality", "string", On.METRIC, "text, image, audio or unknown", "latest")
OPENAI_API_TYPE = _genai("openai.api.type", "string", On.OPERATION, "chat_completions or responses; at OpenAI only")
OPENAI_REQUEST_SERVICE_TIER = _genai("openai.request.service_tier", "string", On.INFERENCE, "as asked, if not auto; at OpenAI only")
OPENAI_RESPONSE_SERVICE_TIER = _genai("openai.response.service_tier", "string", On.OPERATION | On.METRIC, "as answered; at OpenAI only")
OPENAI_RESPONSE_SYSTEM_FINGERPRINT = _genai("openai.response.system_fingerprint", "string", On.OPERATION, "as answered; at OpenAI only")

OPENAI_PROVIDER = "openai"  # the only one that the openai.* attributes are for
EMBEDDINGS_OPERATION = "embeddings"
FETCH_OPERATION = "fetch_response"
RERANK_OPERATION = "rerank"

# ---- attributes: http.* and friends

ERROR_TYPE = _http(
    "error.type", "string", On.SPAN | On.EVENT | On.METRIC, "the provider's error code, or our class of error; on errors only"
)
HTTP_METHOD = _http("http.request.method", "string", On.SERVER | On.HTTP | On.METRIC, "the method; `_OTHER` for unknown ones")
HTTP_METHOD_ORIGINAL = _http("http.request.method_original", "string", On.SERVER | On.HTTP, "an unknown method as it came")
HTTP_RESEND_COUNT = _http("http.request.resend_count", "int", On.CLIENT, "attempts before this one, if any")
HTTP_STATUS = _http(
    "http.response.status_code", "int", On.SPAN | On.METRIC, "as sent to the client; on CLIENT spans, as the provider sent it"
)
HTTP_ROUTE = _http("http.route", "string", On.SERVER | On.METRIC, "the path's template")
URL_PATH = _http("url.path", "string", On.SERVER, "the path, without its query")
URL_SCHEME = _http("url.scheme", "string", On.SERVER | On.METRIC, "http or https")
URL_FULL = _http("url.full", "string", On.HTTP, "what was asked for, without its query and credentials")
SERVER_ADDRESS = _http("server.address", "string", On.SPAN | On.METRIC, "the host that was asked")
SERVER_PORT = _http("server.port", "int", On.SPAN | On.METRIC, "its port")
CLIENT_ADDRESS = _http("client.address", "string", On.SERVER, "where the client is")
USER_AGENT = _http("user_agent.original", "string", On.SERVER, "what the client calls itself")
PROTOCOL_VERSION = _http("network.protocol.version", "string", On.SERVER | On.METRIC, "1.0 or 1.1")

KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
UNKNOWN_METHOD_IN_NAME = "HTTP"

# ---- attributes: our own

CALL_ID = _ours("postern.call_id", "string", On.SPAN | On.LOG, "the call, as in the ledger and in x-postern-call-id")
ROUTE = _ours("postern.route", "string", On.SPAN | On.LOG | On.METRIC, "the route that applied")
TARGET = _ours("postern.target", "string", On.SPAN | On.METRIC, "the target asked; on the SERVER span, the last one")
DECISION = _ours("postern.decision", "string", On.SERVER, "what was decided, and by which rule")
EXPERIMENT = _ours("postern.experiment", "string", On.SERVER | On.METRIC, "the experiment of the call's route, if it has one")
ARM = _ours("postern.arm", "string", On.SERVER | On.METRIC, "the arm of it that the call is in")
SHADOW = _ours("postern.shadow", "string", On.SERVER, "what a route of mode shadow would have done, written as the decision")
SHADOW_ROUTE = _ours("postern.shadow_route", "string", On.METRIC, "the route in shadow")
SHADOW_DIFFERS = _ours(
    "postern.shadow_differs", "boolean", On.SERVER | On.METRIC, "whether that asks another target first, or for another model"
)
RULE = _ours("postern.rule", "string", On.SERVER | On.EVENT | On.METRIC, "the rule that refused the call")
REFUSAL_CODE = _ours("postern.code", "string", On.EVENT | On.METRIC, "the kind of a refusal, as in the error body")
ATTEMPT = _ours("postern.attempt", "int", On.CLIENT | On.EVENT, "which attempt of the call: 1, 2, …")
REQUEST_CHANGES = _ours(
    "postern.request_changes", "string", On.CLIENT, "what `request` rules changed in the body: set temperature; clamp max_tokens 800"
)
CUT_BY = _ours("postern.cut_by", "string", On.CLIENT, "the budget that ended the stream: what was held for it was used up")
ATTEMPT_CAUSE = _ours(
    "postern.attempt_cause", "string", On.CLIENT, "hedge, beside a slow attempt; continuation, of a stream that broke; else absent"
)
SEAM_CHARS = _ours("postern.seam_chars", "int", On.CLIENT | On.EVENT, "of a continuation: the characters of text that the client had")
HEDGE_WON = _ours("postern.hedge_won", "boolean", On.EVENT | On.METRIC, "whether it was the hedge that answered")
MIRROR_OF = _ours("postern.mirror_of", "string", On.SERVER, "of a copy that a `mirror` was sent: the client's call")
MIRRORED = _ours("postern.mirrored", "boolean", On.METRIC, "true for copies of calls, else absent")
RETRIES = _ours("postern.retries", "int", On.SERVER, "attempts after the first, at any target")
OUTCOME = _ours(
    "postern.outcome", "string", On.SPAN | On.LOG | On.METRIC, "succeeded, rejected, throttled, failed, interrupted or abandoned"
)
CACHE = _ours("postern.cache", "string", On.SERVER | On.METRIC, "hit, miss or bypass, where a rule of the cache applies")
CACHE_AGE_S = _ours("postern.cache_age_s", "double", On.SERVER, "age of the cached reply, in seconds")
USAGE_SOURCE = _ours("postern.usage_source", "string", On.SERVER | On.CLIENT, "who counted the tokens: provider, tokenizer or bound")
COST_USD = _ours("postern.cost_usd", "double", On.SERVER | On.CLIENT, "cost in USD; absent if unknown, 0 for a hit of the cache")
COST_INPUT_USD = _ours("postern.cost_input_usd", "double", On.SERVER | On.CLIENT, "its part for input that wasn't cached, and fees")
COST_OUTPUT_USD = _ours("postern.cost_output_usd", "double", On.SERVER | On.CLIENT, "its part for output")
COST_CACHE_READ_USD = _ours("postern.cost_cache_read_usd", "double", On.SERVER | On.CLIENT, "its part for reads of the provider's cache")
COST_CACHE_WRITE_USD = _ours("postern.cost_cache_write_usd", "double", On.SERVER | On.CLIENT, "its part for writes to the provider's cache")
SAVED_USD = _ours("postern.saved_usd", "double", On.SERVER, "what a hit of the cache avoided")
BUDGET_LEFT_USD = _ours("postern.budget_left_usd", "double", On.SERVER, "what is left of the tightest budget that applies")
SHADOW_REFUSALS = _ours("postern.shadow_refusals", "string[]", On.SERVER, "budgets and limits in shadow that would have refused the call")
OVERHEAD_MS = _ours("postern.overhead_ms", "double", On.SERVER, "Postern's own share of the duration")
TENANT, USER, APP, TASK, WORKFLOW, STEP, KEY = (
    _ours(f"postern.{label}", "string", on, f"the call's {label}")
    for label, on in (
        ("tenant", On.SPAN | On.METRIC),
        ("user", On.SPAN),
        ("app", On.SPAN | On.METRIC),
        ("task", On.SPAN | On.METRIC),
        ("workflow", On.SPAN),
        ("step", On.SPAN),
        ("key", On.SPAN),
    )
)
LABEL_ATTRIBUTES = {"tenant": TENANT, "user": USER, "app": APP, "task": TASK, "workflow": WORKFLOW, "step": STEP, "key": KEY}
CUSTOM_PREFIX = _ours("postern.attribute.<name>", "string", On.SPAN, "an attribute of `telemetry.attributes`").removesuffix("<name>")
TAG_PREFIX = _ours("postern.tag.<name>", "string", On.SERVER, "a tag of x-postern-tags; dots in its name become `_`").removesuffix("<name>")
TAGS_DROPPED = _ours("postern.tags_dropped", "int", On.SPAN, "tags and attributes left out because there were too many")
CONTENT_TRUNCATED = _ours("postern.content_truncated", "boolean", On.BILLED, "true where messages were left out to bound the span")
FROM_TARGET = _ours("postern.from", "string", On.EVENT | On.METRIC, "the target that was given up")
TO_TARGET = _ours("postern.to", "string", On.EVENT | On.METRIC, "the target that was asked next")
COST_CURRENCY = "gen_ai.usage.cost.currency"
COST_SOURCE = "gen_ai.usage.cost.source"
COST_AMOUNT = "gen_ai.usage.cost.amount"
"""Of the proposed cost family: the other two are sent where `cost_attribute` is this one."""

DROP_CAUSE = _ours("postern.cause", "string", On.METRIC, "why something was lost")
PHASE = _ours("postern.phase", "string", On.METRIC, "request, before an upstream was asked, or reply")
BREAKER_STATE = _ours("postern.state", "string", On.METRIC, "of a breaker: closed, open or half_open")
BUDGET = _ours("postern.budget", "string", On.METRIC | On.EVENT, "the budget, by the name of its rule")
SCOPE = _ours("postern.scope", "string", On.EVENT, "whose budget it is, e.g. tenant=acme")
SHARE = _ours("postern.share", "double", On.EVENT, "the share of a limit that was reached: 0.8 is 80 %")
SIGNAL = _ours("postern.signal", "string", On.METRIC, "traces, logs or metrics")
FOLDED_METRIC = _ours("postern.metric", "string", On.METRIC, "whose label was folded")
FOLDED_LABEL = _ours("postern.label", "string", On.METRIC, "which label was folded")

# ---- attributes: OpenInference, with `telemetry.openinference`

OPENINFERENCE_KIND = _openinference("openinference.span.kind", "string", On.SERVER | On.OPERATION, "CHAIN, LLM, EMBEDDING or RERANKER")
LLM_MODEL = _openinference("llm.model_name", "string", On.INFERENCE | On.FETCH, "the model that answered, else the one asked")
LLM_REQUEST_MODEL = _openinference("llm.request.model_name", "string", On.INFERENCE | On.FETCH, "as gen_ai.request.model")
LLM_RESPONSE_MODEL = _openinference("llm.response.model_name", "string", On.INFERENCE | On.FETCH, "as gen_ai.response.model")
LLM_PROVIDER = _openinference("llm.provider", "string", On.INFERENCE | On.FETCH, "who hosts the model")
LLM_SYSTEM = _openinference("llm.system", "string", On.INFERENCE | On.FETCH, "whose product the API is")
LLM_PARAMETERS = _openinference("llm.invocation_parameters", "string", On.INFERENCE, "JSON of the parameters asked for")
LLM_PROMPT_TOKENS = _openinference("llm.token_count.prompt", "int", On.BILLED, "as gen_ai.usage.input_tokens")
LLM_COMPLETION_TOKENS = _openinference("llm.token_count.completion", "int", On.BILLED, "as gen_ai.usage.output_tokens")
LLM_TOTAL_TOKENS = _openinference("llm.token_count.total", "int", On.BILLED, "the sum of both")
LLM_CACHE_READ_TOKENS = _openinference("llm.token_count.prompt_details.cache_read", "int", On.BILLED, "part of the prompt")
LLM_CACHE_WRITE_TOKENS = _openinference("llm.token_count.prompt_details.cache_write", "int", On.BILLED, "part of the prompt")
LLM_PROMPT_AUDIO_TOKENS = _openinference("llm.token_count.prompt_details.audio", "int", On.BILLED, "part of the prompt")
LLM_REASONING_TOKENS = _openinference("llm.token_count.completion_details.reasoning", "int", On.BILLED, "part of the completion")
LLM_COMPLETION_AUDIO_TOKENS = _openinference("llm.token_count.completion_details.audio", "int", On.BILLED, "part of the completion")
LLM_COST = _openinference("llm.cost.total", "double", On.BILLED, "as postern.cost_usd")
LLM_COST_PROMPT = _openinference("llm.cost.prompt", "double", On.BILLED, "its part for the prompt, cached or not")
LLM_COST_COMPLETION = _openinference("llm.cost.completion", "double", On.BILLED, "its part for the completion")
LLM_COST_INPUT = _openinference("llm.cost.prompt_details.input", "double", On.BILLED, "as postern.cost_input_usd")
LLM_COST_CACHE_READ = _openinference("llm.cost.prompt_details.cache_read", "double", On.BILLED, "as postern.cost_cache_read_usd")
LLM_COST_CACHE_WRITE = _openinference("llm.cost.prompt_details.cache_write", "double", On.BILLED, "as postern.cost_cache_write_usd")
LLM_COST_OUTPUT = _openinference("llm.cost.completion_details.output", "double", On.BILLED, "as postern.cost_output_usd")
LLM_FINISH_REASON = _openinference("llm.finish_reason", "string", On.INFERENCE | On.FETCH, "of the first choice")
EMBEDDING_MODEL = _openinference("embedding.model_name", "string", On.EMBEDDINGS, "the model that answered, else the one asked")
EMBEDDING_PARAMETERS = _openinference("embedding.invocation_parameters", "string", On.EMBEDDINGS, "JSON of the parameters asked for")
SESSION_ID = _openinference("session.id", "string", On.SERVER | On.OPERATION, "as gen_ai.conversation.id")
USER_ID = _openinference("user.id", "string", On.SERVER | On.OPERATION, "as postern.user")
METADATA = _openinference("metadata", "string", On.OPERATION, "JSON of the call's labels and custom attributes")
TAGS = _openinference("tag.tags", "string[]", On.OPERATION, "the call's tags as name=value")
INPUT_VALUE = _openinference("input.value", "string", On.BILLED, "captured content, as gen_ai.input.messages")
INPUT_TYPE = _openinference("input.mime_type", "string", On.BILLED, "application/json")
OUTPUT_VALUE = _openinference("output.value", "string", On.BILLED, "captured content, as gen_ai.output.messages")
OUTPUT_TYPE_OF_VALUE = _openinference("output.mime_type", "string", On.BILLED, "application/json")
LLM_INPUT_MESSAGES = _openinference(
    "llm.input_messages.<n>.message.<…>", "string", On.BILLED, "captured content: role, content, contents, tool calls of each message"
).removesuffix(".<n>.message.<…>")
LLM_OUTPUT_MESSAGES = _openinference("llm.output_messages.<n>.message.<…>", "string", On.BILLED, "captured content").removesuffix(
    ".<n>.message.<…>"
)

# ---- events

FIRST_CHUNK_EVENT = _event("postern.first_chunk", "CLIENT span", "a stream's first content came")
RETRY_EVENT = _event("postern.retry", "SERVER span", "the same target is asked again: the attempt's number, the last one's error")
FAILOVER_EVENT = _event("postern.failover", "SERVER span", "another target is asked: from, to, the attempt's number, the last one's error")
HEDGE_EVENT = _event("postern.hedge", "SERVER span", "another target is asked as well: from, to, the attempt's number, whether it won")
CONTINUATION_EVENT = _event(
    "postern.continuation",
    "SERVER span",
    "another attempt goes on from the text so far: from, to, the attempt's number, the seam, the error",
)
BREAKER_OPENED_EVENT = _event("postern.breaker_opened", "CLIENT span", "the attempt's failure opened its target's breaker")
BREAKER_CLOSED_EVENT = _event("postern.breaker_closed", "CLIENT span", "the attempt's success closed its target's breaker")
REFUSAL_EVENT = _event("postern.refusal", "SERVER span", "a rule refused the call: which, and its code")
BUDGET_WARNING_EVENT = _event("postern.budget.warning", "SERVER span", "the call took a budget to a share that `warn_at` names")
DETAILS_EVENT = _event("gen_ai.client.inference.operation.details", "log record", "captured content, with what the CLIENT span says")
CALL_LOG_EVENT = _event("postern.call", "log record", "a line of the call log, with `call_log: otlp`")

# ---- metrics

SECONDS, TOKENS, USD, BYTES, RATIO = "s", "{token}", "USD", "By", "1"
CALLS, ATTEMPTS, ITEMS, BATCHES, VALUES = "{call}", "{attempt}", "{item}", "{batch}", "{value}"

OPERATION_BOUNDARIES_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKEN_BOUNDARIES = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
SERVER_BOUNDARIES_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 320)
"""The conventions' boundaries end at 10 s, where long streams begin: five more stand behind them."""
RECOVERY_BOUNDARIES_S = (1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120)
OVERHEAD_BOUNDARIES_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)

_counter, _level, _gauge = (partial(_metric, instrument=instrument) for instrument in ("counter", "up-down counter", "gauge"))


def _seconds(name: str, meaning: str, generation: Generation = "", boundaries: tuple[float, ...] = OPERATION_BOUNDARIES_S) -> str:
    return _metric(name, "histogram", SECONDS, meaning, boundaries, generation)


TOKEN_USAGE_METRIC = _metric("gen_ai.client.token.usage", "histogram", TOKENS, "tokens of an attempt by type", TOKEN_BOUNDARIES, "v1_41")
OPERATION_DURATION_METRIC = _seconds("gen_ai.client.operation.duration", "duration of an attempt; with `latest`, if it isn't inference")
TIME_TO_FIRST_CHUNK_METRIC = _seconds("gen_ai.client.operation.time_to_first_chunk", "time to a stream's first content", "v1_41")
TIME_PER_CHUNK_METRIC = _seconds("gen_ai.client.operation.time_per_output_chunk", "time between two chunks of a stream", "v1_41")

INFERENCE_DURATION_METRIC = _seconds("gen_ai.client.inference.duration", "duration of an attempt at inference", "latest")
INFERENCE_FIRST_CHUNK_METRIC = _seconds("gen_ai.client.inference.time_to_first_chunk", "time to a stream's first content", "latest")
INFERENCE_TIME_PER_CHUNK_METRIC = _seconds("gen_ai.client.inference.time_per_output_chunk", "time between two chunks of a stream", "latest")
INFERENCE_INPUT_METRIC, INFERENCE_OUTPUT_METRIC, INFERENCE_CACHE_READ_METRIC, INFERENCE_CACHE_WRITE_METRIC, INFERENCE_REASONING_METRIC = (
    _metric(f"gen_ai.client.inference.usage.{tokens}", "counter", TOKENS, meaning, generation="latest")
    for tokens, meaning in (
        ("input_tokens", "input tokens by modality; 0 for attempts without usage"),
        ("output_tokens", "output tokens by modality; 0 for attempts without usage"),
        ("cache_read.input_tokens", "part of the input: read from the provider's cache"),
        ("cache_write.input_tokens", "part of the input: written to the provider's cache"),
        ("reasoning.output_tokens", "part of the output: reasoning"),
    )
)
INFERENCE_INPUT_SIZE_METRIC, INFERENCE_OUTPUT_SIZE_METRIC = (
    _metric(f"gen_ai.client.inference.operation.{tokens}", "histogram", TOKENS, meaning, TOKEN_BOUNDARIES, "latest")
    for tokens, meaning in (("input_tokens", "input tokens of an attempt"), ("output_tokens", "output tokens of an attempt"))
)

SERVER_DURATION_METRIC = _seconds("http.server.request.duration", "duration of a call", boundaries=SERVER_BOUNDARIES_S)
CALLS_METRIC = _counter("postern.calls", unit=CALLS, meaning="calls by outcome")
COST_METRIC = _counter("postern.cost", unit=USD, meaning="cost of attempts")
SAVED_METRIC = _counter("postern.saved", unit=USD, meaning="cost that the cache avoided")
CACHE_LOOKUPS_METRIC = _counter("postern.cache.lookups", unit="{lookup}", meaning="calls that a rule of the cache applied to, by result")
FAILOVERS_METRIC = _counter("postern.failovers", unit="{failover}", meaning="attempts at another target than the one before")
RETRIES_METRIC = _counter("postern.retries", unit="{retry}", meaning="attempts at the same target as the one before")
HEDGES_METRIC = _counter("postern.hedges", unit=ATTEMPTS, meaning="attempts at another target beside a slow one, by whether they won")
CONTINUATIONS_METRIC = _counter("postern.continuations", unit=ATTEMPTS, meaning="attempts that went on where a stream had broken")
MIRRORS_METRIC = _counter("postern.mirrors", unit=CALLS, meaning="copies of calls sent to mirrors, by outcome; no calls of clients")
UNMIRRORED_METRIC = _counter("postern.mirrors.dropped", unit=CALLS, meaning="copies of calls that weren't sent, by cause")
BREAKER_OPENED_METRIC = _counter("postern.breaker.opened", unit="{opening}", meaning="how often a target's breaker opened")
BREAKER_RECOVERY_METRIC = _seconds(
    "postern.breaker.recovery", "from a breaker's opening until it closed again", boundaries=RECOVERY_BOUNDARIES_S
)
SHADOWS_METRIC = _counter(
    "postern.shadow.calls", unit=CALLS, meaning="calls that a route in shadow would have taken, by whether it differs"
)
REFUSALS_METRIC = _counter("postern.refusals", unit=CALLS, meaning="calls refused before an upstream was asked, by rule and code")
BUDGET_WARNINGS_METRIC = _counter(
    "postern.budget.warnings", unit="{warning}", meaning="shares of `warn_at` that budgets reached, by budget"
)
SHADOW_REFUSALS_METRIC = _counter("postern.shadow.refusals", unit=CALLS, meaning="calls that rules in shadow would have refused, by rule")
OVERHEAD_METRIC = _seconds("postern.overhead", "Postern's own share of calls, by phase", boundaries=OVERHEAD_BOUNDARIES_S)
PRICES_UNKNOWN_METRIC = _counter("postern.prices.unknown", unit=ATTEMPTS, meaning="attempts with usage and no known price")

IN_FLIGHT_METRIC = _level("postern.calls.in_flight", unit=CALLS, meaning="calls that are running")
BREAKER_STATE_METRIC = _gauge("postern.breaker.state", unit="{breaker}", meaning="1 for the state that a target's breaker is in, else 0")
BUDGET_USED_METRIC = _gauge("postern.budget.used_ratio", unit=RATIO, meaning="used share of a budget, in the scope that is fullest")

BUDGET_FORECAST_METRIC = _gauge(
    "postern.budget.forecast_ratio", unit=RATIO, meaning="share of a budget that will be used at the end of its window, as it goes on now"
)

DROPPED_METRIC = _counter(
    "postern.observer.dropped", unit=ITEMS, meaning="what was lost on its way to the ledger or the collector, by cause"
)
EXPORTED_METRIC = _counter(
    "postern.observer.exported", unit=ITEMS, meaning="spans, log records, batches of metrics that the collector took"
)
EXPORT_FAILURES_METRIC = _counter("postern.observer.export_failures", unit=BATCHES, meaning="batches that the collector didn't take")
SPOOL_BYTES_METRIC = _level("postern.observer.spool_bytes", unit=BYTES, meaning="telemetry on disk that waits for the collector")
SPOOL_ITEMS_METRIC = _level("postern.observer.spool_items", unit=ITEMS, meaning="spans, log records, batches of metrics on disk")
LAST_EXPORT_METRIC = _gauge(
    "postern.observer.last_export_timestamp", unit=SECONDS, meaning="when the collector last took something, in Unix time"
)
LABELS_FOLDED_METRIC = _counter(
    "postern.labels.folded", unit=VALUES, meaning="values of labels that were told as _OTHER, by metric and label"
)
