"""The body of a Chat Completions request, built from a request that stays as it is."""

import json
from typing import Any, Final, assert_never

from ...model.llm import (
    JsonObjectOutput,
    JsonSchemaOutput,
    LlmOutputSpec,
    LlmRequest,
    LlmToolSpec,
    ProviderFailureKind,
)
from ...model.schema import SchemaContract
from ...ports.provider import CacheRetention, ProviderFailure, ProviderOptions
from ..schemas import SchemaDialect, SchemaPurpose, SchemaResolutionError, resolve_schema
from ._cache_markers import mark_for_caching
from ._compat import MaxTokensField, OpenAICompat, ReasoningFormat
from ._messages import Conversation
from ._replay import ReplayRoute

DEFAULT_OUTPUT_TOKENS: Final = 32_768


def build_body(
    request: LlmRequest, options: ProviderOptions, compat: OpenAICompat, route: ReplayRoute
) -> dict[str, Any]:
    """What is posted; `compat` is resolved.

    Raises `ProviderFailure` for what the endpoint could not be told: a schema outside of its
    dialect, an image of another format, a variant where it takes none.
    """
    strict = bool(compat.strict_tools)
    conversation = Conversation(request, route)
    tools = [_tool(spec, strict=strict) for spec in request.tools]
    mark_for_caching(request, conversation, tools, compat, options.cache_retention)
    body: dict[str, Any] = {"model": request.model, "messages": conversation.render()}
    if tools:
        body["tools"] = tools
        body["tool_choice"] = request.tool_choice.value
        if compat.request_fields:
            body["parallel_tool_calls"] = True
    if request.output_spec is not None:
        body["response_format"] = _response_format(request.output_spec)
    if compat.max_tokens_field not in (None, MaxTokensField.OMIT):
        body[compat.max_tokens_field.value] = (
            request.generation.output_token_cap
            or options.max_output_tokens
            or DEFAULT_OUTPUT_TOKENS
        )
    if request.model_variant is not None:
        body |= _reasoning(request.model_variant, compat.reasoning_format)
    if compat.store:
        body["store"] = False
    if compat.prompt_cache_retention and options.cache_retention is CacheRetention.LONG:
        body["prompt_cache_retention"] = "24h"
    if request.stream_events is not None:
        body["stream"] = True
        if compat.streaming_usage:
            body["stream_options"] = {"include_usage": True}
    return body


def _tool(spec: LlmToolSpec, *, strict: bool) -> dict[str, Any]:
    dialect = (
        SchemaDialect.OPENAI_STRICT_TOOL_PARAMETERS
        if strict
        else SchemaDialect.OPENAI_TOOL_PARAMETERS
    )
    function: dict[str, Any] = {
        "name": spec.name,
        "description": spec.description,
        "parameters": _projected(spec.input_schema, SchemaPurpose.TOOL_INPUT, dialect),
    }
    if strict:
        function["strict"] = True
    return {"type": "function", "function": function}


def _response_format(spec: LlmOutputSpec) -> dict[str, Any]:
    match spec:
        case JsonObjectOutput():
            return {"type": "json_object"}
        case JsonSchemaOutput(name=name, schema=contract, strict=strict):
            dialect = SchemaDialect.OPENAI_STRUCTURED_OUTPUT
            schema = _projected(contract, SchemaPurpose.STRUCTURED_OUTPUT, dialect)
            return {
                "type": "json_schema",
                "json_schema": {"name": name, "schema": schema, "strict": strict},
            }
        case _:
            assert_never(spec)


def _projected(contract: SchemaContract, purpose: SchemaPurpose, dialect: SchemaDialect) -> Any:
    try:
        return resolve_schema(contract, purpose, (dialect,)).schema
    except SchemaResolutionError as error:
        raise ProviderFailure(
            f"OpenAI-compatible schema projection failed: {error}",
            kind=ProviderFailureKind.VALIDATION,
            code="schema_projection_failed",
            retryable=False,
            raw=json.dumps(
                {
                    "dialect": dialect.value,
                    "purpose": purpose.value,
                    "diagnostics": error.diagnostics,
                }
            ),
        ) from error


def _reasoning(variant: str, form: ReasoningFormat | None) -> dict[str, Any]:
    match form:
        case ReasoningFormat.OPEN_AI:
            return {"reasoning_effort": variant}
        case ReasoningFormat.OPEN_ROUTER:
            return {"reasoning": {"effort": variant}}
        case ReasoningFormat.NONE | None:
            raise ProviderFailure(
                f"model variant {variant!r} cannot be sent: this endpoint is configured to take "
                "no reasoning effort (`reasoning_format`)",
                kind=ProviderFailureKind.VALIDATION,
                code="reasoning_encoding_unrepresentable",
                retryable=False,
            )
        case _:
            assert_never(form)
