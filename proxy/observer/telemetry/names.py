"""Every name that telemetry uses: attributes, metrics, units, boundaries, well-known values. The only place they are written down.

Source: the OpenTelemetry GenAI conventions as of core 1.41 and the HTTP conventions 1.44. Not here: how values are found.
"""

from __future__ import annotations

OTHER = "_OTHER"  # what stands for a value that isn't told, in attributes and in capped labels

# ---- spans: gen_ai.*, by core 1.41

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_STREAM = "gen_ai.request.stream"
REQUEST_CHOICE_COUNT = "gen_ai.request.choice.count"
REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE = "gen_ai.request.temperature"
REQUEST_TOP_P = "gen_ai.request.top_p"
REQUEST_TOP_K = "gen_ai.request.top_k"
REQUEST_FREQUENCY_PENALTY = "gen_ai.request.frequency_penalty"
REQUEST_PRESENCE_PENALTY = "gen_ai.request.presence_penalty"
REQUEST_SEED = "gen_ai.request.seed"
REQUEST_STOP_SEQUENCES = "gen_ai.request.stop_sequences"
REQUEST_REASONING_LEVEL = "gen_ai.request.reasoning.level"
REQUEST_ENCODING_FORMATS = "gen_ai.request.encoding_formats"
REQUEST_PREVIOUS_RESPONSE = "gen_ai.request.previous_response.id"
EMBEDDINGS_DIMENSIONS = "gen_ai.embeddings.dimension.count"
OUTPUT_TYPE = "gen_ai.output.type"
CONVERSATION_ID = "gen_ai.conversation.id"
RESPONSE_ID = "gen_ai.response.id"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_FINISH_REASONS = "gen_ai.response.finish_reasons"
RESPONSE_TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
USAGE_INPUT = "gen_ai.usage.input_tokens"
USAGE_OUTPUT = "gen_ai.usage.output_tokens"
USAGE_CACHE_READ = "gen_ai.usage.cache_read.input_tokens"
USAGE_CACHE_WRITE = "gen_ai.usage.cache_creation.input_tokens"
USAGE_REASONING = "gen_ai.usage.reasoning.output_tokens"
TOKEN_TYPE = "gen_ai.token.type"

OPENAI_API_TYPE = "openai.api.type"
OPENAI_REQUEST_SERVICE_TIER = "openai.request.service_tier"
OPENAI_RESPONSE_SERVICE_TIER = "openai.response.service_tier"
OPENAI_RESPONSE_SYSTEM_FINGERPRINT = "openai.response.system_fingerprint"

FACT_ATTRIBUTES = (
    ("max_tokens", REQUEST_MAX_TOKENS),
    ("temperature", REQUEST_TEMPERATURE),
    ("top_p", REQUEST_TOP_P),
    ("top_k", REQUEST_TOP_K),
    ("frequency_penalty", REQUEST_FREQUENCY_PENALTY),
    ("presence_penalty", REQUEST_PRESENCE_PENALTY),
    ("seed", REQUEST_SEED),
    ("stop_sequences", REQUEST_STOP_SEQUENCES),
    ("reasoning_level", REQUEST_REASONING_LEVEL),
    ("output_type", OUTPUT_TYPE),
    ("encoding_formats", REQUEST_ENCODING_FORMATS),
    ("dimensions", EMBEDDINGS_DIMENSIONS),
    ("conversation_id", CONVERSATION_ID),
    ("previous_response_id", REQUEST_PREVIOUS_RESPONSE),
)
"""Fields of RequestFacts that are told as they are. choice_count and service_tier have rules of their own."""

USAGE_ATTRIBUTES = (
    ("input_tokens", USAGE_INPUT),
    ("output_tokens", USAGE_OUTPUT),
    ("cache_read_tokens", USAGE_CACHE_READ),
    ("cache_write_tokens", USAGE_CACHE_WRITE),
    ("reasoning_tokens", USAGE_REASONING),
)
"""Fields of Usage that core 1.41 has an attribute for."""

OPENAI_PROVIDER = "openai"  # the only one that the openai.* attributes are for

# ---- spans: http.* and friends

ERROR_TYPE = "error.type"
HTTP_METHOD = "http.request.method"
HTTP_METHOD_ORIGINAL = "http.request.method_original"
HTTP_RESEND_COUNT = "http.request.resend_count"
HTTP_STATUS = "http.response.status_code"
HTTP_ROUTE = "http.route"
URL_PATH = "url.path"
URL_SCHEME = "url.scheme"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
CLIENT_ADDRESS = "client.address"
USER_AGENT = "user_agent.original"
PROTOCOL_VERSION = "network.protocol.version"

KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
UNKNOWN_METHOD_IN_NAME = "HTTP"

# ---- spans: our own

CALL_ID = "postern.call_id"
ROUTE = "postern.route"
TARGET = "postern.target"
ATTEMPT = "postern.attempt"
OUTCOME = "postern.outcome"
USAGE_SOURCE = "postern.usage_source"
COST_USD = "postern.cost_usd"
OVERHEAD_MS = "postern.overhead_ms"

LABEL_ATTRIBUTES = {
    "tenant": "postern.tenant",
    "user": "postern.user",
    "app": "postern.app",
    "task": "postern.task",
    "workflow": "postern.workflow",
}

# ---- metrics

TOKEN_USAGE_METRIC = "gen_ai.client.token.usage"
OPERATION_DURATION_METRIC = "gen_ai.client.operation.duration"
TIME_TO_FIRST_CHUNK_METRIC = "gen_ai.client.operation.time_to_first_chunk"
SERVER_DURATION_METRIC = "http.server.request.duration"
COST_METRIC = "postern.cost"
CALLS_METRIC = "postern.calls"
OVERHEAD_METRIC = "postern.overhead"
PRICES_UNKNOWN_METRIC = "postern.prices.unknown"
DROPPED_METRIC = "postern.observer.dropped"

DROP_CAUSE = "postern.cause"

SECONDS = "s"
TOKENS = "{token}"
USD = "USD"
CALLS = "{call}"
ATTEMPTS = "{attempt}"
ITEMS = "{item}"

OPERATION_BOUNDARIES_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKEN_BOUNDARIES = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
SERVER_BOUNDARIES_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
OVERHEAD_BOUNDARIES_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
