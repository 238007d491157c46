"""All settings, from flags, environment, a file, or their defaults.

Knows: names, types, ranges, and where a value came from. Does not know: what they do.

Precedence: flags, then environment variables `NEXTOK_<NAME>`, then the TOML file given by
`--config`, then the defaults below.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from nextok_server import exposure, giving_way

ENVIRONMENT_PREFIX = "NEXTOK_"


def _address(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{value!r} is not HOST:PORT with a port of 0 to 65535")
    return value


class Config(BaseSettings):
    """The server's settings; every field is a flag with dashes for underscores."""

    model_config = SettingsConfigDict(frozen=True, env_prefix=ENVIRONMENT_PREFIX, extra="forbid")

    artifact: Path = Field(description="Folder that nextok-export wrote.")
    listen: Annotated[str, AfterValidator(_address)] = Field(
        "127.0.0.1:50051", description="HOST:PORT to listen on; port 0 picks a free one."
    )
    threads: int = Field(
        default_factory=lambda: os.cpu_count() or 1,
        ge=1,
        le=1024,
        description="Threads that compute one step. Default: all processors.",
    )
    spinning: bool = Field(
        True,
        description="Threads spin for a moment before they sleep: 50 us with nextok's operators, "
        "longer with ONNX Runtime's, which are slower so where the processors are shared.",
    )
    slots: int = Field(32, ge=1, le=1024, description="Requests computed at the same time.")
    max_queue: int = Field(128, ge=0, le=1_000_000, description="Requests that may wait besides.")
    prefill_chunk: int = Field(
        64,
        ge=2,
        le=1024,
        multiple_of=2,
        description="Prompt tokens computed between two decode steps; even.",
    )
    give_way: bool = Field(
        False,
        description="Whether the threads that compute let all others on the machine go first "
        "(Linux's SCHED_IDLE). Refusals and first messages come sooner where all cores compute; "
        "but other programs can take all cores: for machines and containers of nextok's own.",
    )
    prefix_reuse: bool = Field(
        True, description="Whether what was computed for one prompt is used for others."
    )
    retained_mb: int = Field(
        128,
        ge=0,
        le=1_000_000,
        description="Megabytes (2**20) of prompts' state kept for reuse after their requests.",
    )
    shelf_mb: int = Field(
        64,
        ge=0,
        le=1_000_000,
        description="Megabytes (2**20) of state of single tokens, kept of trees that are explored.",
    )
    drafts: bool = Field(
        False,
        description="Whether tokens are drafted where a request does not say. Faster where text "
        "repeats itself, most of all for few streams; other bits than one token at a time.",
    )
    max_prompt_bytes: int = Field(65_536, ge=1, description="Bytes of a text in a request.")
    max_stop: int = Field(16, ge=0, description="Stop strings in a request.")
    max_stop_bytes: int = Field(256, ge=1, description="Bytes of one stop string.")
    max_stop_token_ids: int = Field(64, ge=0, description="Stop tokens in a request.")
    max_logit_bias: int = Field(1024, ge=0, description="Entries of logit_bias in a request.")
    max_logprob_token_ids: int = Field(
        128, ge=0, description="Token ids that a request may have reported at every step."
    )
    max_continuations: int = Field(128, ge=0, description="Continuations that a request scores.")
    max_choices: int = Field(16, ge=1, le=1024, description="Completions of a request's prompt.")
    max_explore_nodes: int = Field(
        10_000, ge=1, le=1_000_000, description="Nodes of a tree that is explored."
    )
    max_explore_seconds: float = Field(
        60.0, gt=0, le=1e6, description="Seconds that a tree may be explored."
    )
    max_score_tokens: int = Field(
        1_000_000,
        ge=1,
        description="Tokens that a scoring may have computed, windows that overlap included.",
    )
    max_constraint_bytes: int = Field(
        65_536, ge=1, description="Bytes of a constraint: schema, expression, grammar or choices."
    )
    constraint_seconds: float = Field(
        2.0,
        gt=0,
        le=3600,
        description="Seconds of processor time that a constraint may take to be compiled.",
    )
    insecure: bool = Field(
        False,
        description="Whether to listen on other than loopback addresses without TLS and "
        "without knowing who calls.",
    )
    tls_certificate: Path | None = Field(
        None, description="The server's certificate chain, PEM. Given with tls_key: TLS."
    )
    tls_key: Path | None = Field(None, description="The certificate's key, PEM, not encrypted.")
    tls_client_ca: Path | None = Field(
        None,
        description="Authorities, PEM: only clients with a certificate of theirs may connect.",
    )
    tokens_file: Path | None = Field(
        None, description="File of tokens; only calls with one of them are answered."
    )
    health_listen: Annotated[str, AfterValidator(_address)] | None = Field(
        None, description="HOST:PORT that answers for health only, without TLS and tokens."
    )
    metrics_listen: Annotated[str, AfterValidator(_address)] | None = Field(
        None, description="HOST:PORT that tells Prometheus's metrics, over HTTP."
    )
    metrics_in_clear: bool = Field(
        False,
        description="Whether metrics may be told on other than loopback addresses, where anyone "
        "who reaches the port can read them.",
    )
    max_streams_per_caller: int = Field(
        0, ge=0, description="Requests that one caller may have at the same time; 0: any number."
    )
    max_tokens_per_minute: int = Field(
        0, ge=0, description="Tokens a minute, prompts' too, of one caller; 0: any number."
    )
    max_queue_share: float = Field(
        1.0, gt=0, le=1, description="Share of slots and queue that one caller may take."
    )
    max_connections: int = Field(1024, ge=1, description="Connections at the same time.")
    max_connection_age: float = Field(
        300.0,
        ge=1,
        le=1e6,
        description="Seconds, 10 % more or less, after which a client has to connect anew.",
    )
    max_connection_grace: float = Field(
        3600.0,
        ge=1,
        le=1e6,
        description="Seconds that streams get to finish on a connection of that age.",
    )
    min_ping_interval: float = Field(
        10.0, gt=0, le=1e6, description="Seconds; clients that ping more often are cut off."
    )
    max_receive_bytes: int = Field(
        1 << 20, ge=1024, le=1 << 30, description="Bytes of one message of a client."
    )
    max_send_bytes: int = Field(
        4 << 20,
        ge=1 << 20,
        le=1 << 30,
        description="Bytes of one message to a client; more where 20 steps with the whole "
        "vocabulary take more.",
    )
    max_streams_per_connection: int = Field(256, ge=1, description="Streams on one connection.")
    message_interval: float = Field(
        0.15,
        ge=0,
        le=1,
        description="Seconds between a stream's messages where many run; a quarter of it where one "
        "does. Steps that come sooner share a message. 0 sends each at once.",
    )
    stream_window: int = Field(
        64, ge=1, description="Steps that a reader may be behind before its sequence pauses."
    )
    write_timeout: float = Field(
        30.0, gt=0, description="Seconds that a reader may leave a message unread."
    )
    max_branches: int = Field(
        64, ge=1, le=1024, description="Branches of one interactive call at the same time."
    )
    max_pending_actions: int = Field(
        256,
        ge=1,
        le=100_000,
        description="Actions of an interactive call that are read before the first of them is "
        "answered.",
    )
    branch_idle_seconds: float = Field(
        10.0,
        gt=0,
        le=1e6,
        description="Seconds that a branch of an interactive call keeps its slot with nothing to "
        "do; then it is parked, and computed again when it goes on.",
    )
    action_timeout: float = Field(
        600.0,
        gt=0,
        le=1e6,
        description="Seconds that an interactive call may go without an action.",
    )
    shutdown_delay: float = Field(
        0.0,
        ge=0,
        le=3600,
        description="Seconds between saying NOT_SERVING and refusing new requests when stopping: "
        "time for those who send them to hear of it.",
    )
    drain_seconds: float = Field(
        30.0, ge=0, description="Seconds that running streams get to finish when stopping."
    )
    watchdog_seconds: float = Field(
        30.0,
        gt=0,
        le=1e6,
        description="Seconds that a step may take before health says NOT_SERVING.",
    )
    reflection: bool = Field(False, description="Whether to serve gRPC reflection.")
    trace_endpoint: str | None = Field(
        None,
        description="URL of an OpenTelemetry collector that gets traces by OTLP over HTTP, such as "
        "http://127.0.0.1:4318/v1/traces; needs the extra otel.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level of what is logged."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="json, console, or auto: console on a terminal."
    )

    @model_validator(mode="after")
    def _is_safe(self) -> Config:
        exposure.check(
            self.listen,
            certificate=self.tls_certificate is not None,
            key=self.tls_key is not None,
            client_ca=self.tls_client_ca is not None,
            tokens=self.tokens_file is not None,
            insecure=self.insecure,
        )
        if self.give_way and not giving_way.AVAILABLE:
            raise ValueError("give_way needs Linux")
        if self.metrics_listen is not None and not self.metrics_in_clear:
            exposure.check_metrics(self.metrics_listen)
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the library's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags and the file both come in through `load`; no hidden files are read."""
        return (init_settings,)


class ConfigError(ValueError):
    """A setting is unknown, unreadable or out of range."""


def load(flags: dict[str, Any], file: Path | None) -> tuple[Config, dict[str, str]]:
    """Puts the settings together.

    Args:
        flags: Values given on the command line, by field name.
        file: TOML file with the same names, or None.

    Returns:
        The settings, and for each field where its value came from.

    Raises:
        ConfigError: Names the setting, its value, where it came from and the range.
    """
    layers = [("flag", flags), ("environment", _environment()), ("file", _read_file(file))]
    values: dict[str, Any] = {}
    origins = dict.fromkeys(Config.model_fields, "default")
    for origin, layer in reversed(layers):
        for name, value in layer.items():
            values[name] = value
            origins[name] = origin
    try:
        return Config(**values), origins
    except ValidationError as error:
        lines = [_line(problem, origins) for problem in error.errors()]
        raise ConfigError("\n".join(lines)) from error


def _line(problem: Any, origins: dict[str, str]) -> str:
    """What is wrong with a setting, or with several of them together."""
    if not problem["loc"]:
        return str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{problem['loc'][0]} is missing"
    path = ".".join(str(part) for part in problem["loc"])
    origin = origins.get(str(problem["loc"][0]), "unknown")
    return f"{path} = {problem['input']!r} ({origin}): {problem['msg']}"


def _environment() -> dict[str, str]:
    names = {ENVIRONMENT_PREFIX + name.upper(): name for name in Config.model_fields}
    return {names[key]: value for key, value in os.environ.items() if key in names}


def _read_file(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: {error}") from error
