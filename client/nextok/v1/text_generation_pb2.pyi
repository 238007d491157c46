from nextok.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Capability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CAPABILITY_UNSPECIFIED: _ClassVar[Capability]
    CAPABILITY_SCORE: _ClassVar[Capability]
    CAPABILITY_EXPLORE: _ClassVar[Capability]
    CAPABILITY_INTERACT: _ClassVar[Capability]
    CAPABILITY_CONSTRAINT: _ClassVar[Capability]
    CAPABILITY_CHOICES: _ClassVar[Capability]
    CAPABILITY_DRAFTS: _ClassVar[Capability]
    CAPABILITY_PREFIX_REUSE: _ClassVar[Capability]

class ExploreEnd(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXPLORE_END_UNSPECIFIED: _ClassVar[ExploreEnd]
    EXPLORE_END_COMPLETE: _ClassVar[ExploreEnd]
    EXPLORE_END_NODES: _ClassVar[ExploreEnd]
    EXPLORE_END_SECONDS: _ClassVar[ExploreEnd]
CAPABILITY_UNSPECIFIED: Capability
CAPABILITY_SCORE: Capability
CAPABILITY_EXPLORE: Capability
CAPABILITY_INTERACT: Capability
CAPABILITY_CONSTRAINT: Capability
CAPABILITY_CHOICES: Capability
CAPABILITY_DRAFTS: Capability
CAPABILITY_PREFIX_REUSE: Capability
EXPLORE_END_UNSPECIFIED: ExploreEnd
EXPLORE_END_COMPLETE: ExploreEnd
EXPLORE_END_NODES: ExploreEnd
EXPLORE_END_SECONDS: ExploreEnd

class GetModelRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("name", "precision", "layers", "heads", "width", "vocabulary_size", "context_length", "eos_token_ids", "artifact_sha256", "source_sha256", "certificate", "limits", "capabilities", "server_version", "onnxruntime_version", "threads")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_SIZE_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    EOS_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_SHA256_FIELD_NUMBER: _ClassVar[int]
    SOURCE_SHA256_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    ONNXRUNTIME_VERSION_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    name: str
    precision: str
    layers: int
    heads: int
    width: int
    vocabulary_size: int
    context_length: int
    eos_token_ids: _containers.RepeatedScalarFieldContainer[int]
    artifact_sha256: str
    source_sha256: str
    certificate: Certificate
    limits: Limits
    capabilities: _containers.RepeatedScalarFieldContainer[Capability]
    server_version: str
    onnxruntime_version: str
    threads: int
    def __init__(self, name: _Optional[str] = ..., precision: _Optional[str] = ..., layers: _Optional[int] = ..., heads: _Optional[int] = ..., width: _Optional[int] = ..., vocabulary_size: _Optional[int] = ..., context_length: _Optional[int] = ..., eos_token_ids: _Optional[_Iterable[int]] = ..., artifact_sha256: _Optional[str] = ..., source_sha256: _Optional[str] = ..., certificate: _Optional[_Union[Certificate, _Mapping]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., capabilities: _Optional[_Iterable[_Union[Capability, str]]] = ..., server_version: _Optional[str] = ..., onnxruntime_version: _Optional[str] = ..., threads: _Optional[int] = ...) -> None: ...

class Certificate(_message.Message):
    __slots__ = ("positions", "comparisons", "approximate")
    class Comparison(_message.Message):
        __slots__ = ("scenario", "reference", "positions", "max_abs_logprob_difference", "mean_abs_logprob_difference", "mean_kl", "top1_agreement", "top10_agreement", "reference_perplexity", "perplexity")
        SCENARIO_FIELD_NUMBER: _ClassVar[int]
        REFERENCE_FIELD_NUMBER: _ClassVar[int]
        POSITIONS_FIELD_NUMBER: _ClassVar[int]
        MAX_ABS_LOGPROB_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
        MEAN_ABS_LOGPROB_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
        MEAN_KL_FIELD_NUMBER: _ClassVar[int]
        TOP1_AGREEMENT_FIELD_NUMBER: _ClassVar[int]
        TOP10_AGREEMENT_FIELD_NUMBER: _ClassVar[int]
        REFERENCE_PERPLEXITY_FIELD_NUMBER: _ClassVar[int]
        PERPLEXITY_FIELD_NUMBER: _ClassVar[int]
        scenario: str
        reference: str
        positions: int
        max_abs_logprob_difference: float
        mean_abs_logprob_difference: float
        mean_kl: float
        top1_agreement: float
        top10_agreement: float
        reference_perplexity: float
        perplexity: float
        def __init__(self, scenario: _Optional[str] = ..., reference: _Optional[str] = ..., positions: _Optional[int] = ..., max_abs_logprob_difference: _Optional[float] = ..., mean_abs_logprob_difference: _Optional[float] = ..., mean_kl: _Optional[float] = ..., top1_agreement: _Optional[float] = ..., top10_agreement: _Optional[float] = ..., reference_perplexity: _Optional[float] = ..., perplexity: _Optional[float] = ...) -> None: ...
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    COMPARISONS_FIELD_NUMBER: _ClassVar[int]
    APPROXIMATE_FIELD_NUMBER: _ClassVar[int]
    positions: int
    comparisons: _containers.RepeatedCompositeFieldContainer[Certificate.Comparison]
    approximate: bool
    def __init__(self, positions: _Optional[int] = ..., comparisons: _Optional[_Iterable[_Union[Certificate.Comparison, _Mapping]]] = ..., approximate: bool = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_prompt_bytes", "max_top_logprobs", "max_logprob_token_ids", "max_stop", "max_stop_bytes", "max_stop_token_ids", "max_logit_bias", "slots", "max_queue", "max_streams_per_connection", "max_continuations", "max_score_tokens", "max_choices", "max_branches", "max_pending_actions", "max_explore_nodes", "max_explore_seconds", "max_constraint_bytes")
    MAX_PROMPT_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_TOP_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    MAX_LOGPROB_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    MAX_STOP_FIELD_NUMBER: _ClassVar[int]
    MAX_STOP_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_STOP_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    MAX_LOGIT_BIAS_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    MAX_QUEUE_FIELD_NUMBER: _ClassVar[int]
    MAX_STREAMS_PER_CONNECTION_FIELD_NUMBER: _ClassVar[int]
    MAX_CONTINUATIONS_FIELD_NUMBER: _ClassVar[int]
    MAX_SCORE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_CHOICES_FIELD_NUMBER: _ClassVar[int]
    MAX_BRANCHES_FIELD_NUMBER: _ClassVar[int]
    MAX_PENDING_ACTIONS_FIELD_NUMBER: _ClassVar[int]
    MAX_EXPLORE_NODES_FIELD_NUMBER: _ClassVar[int]
    MAX_EXPLORE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAX_CONSTRAINT_BYTES_FIELD_NUMBER: _ClassVar[int]
    max_prompt_bytes: int
    max_top_logprobs: int
    max_logprob_token_ids: int
    max_stop: int
    max_stop_bytes: int
    max_stop_token_ids: int
    max_logit_bias: int
    slots: int
    max_queue: int
    max_streams_per_connection: int
    max_continuations: int
    max_score_tokens: int
    max_choices: int
    max_branches: int
    max_pending_actions: int
    max_explore_nodes: int
    max_explore_seconds: float
    max_constraint_bytes: int
    def __init__(self, max_prompt_bytes: _Optional[int] = ..., max_top_logprobs: _Optional[int] = ..., max_logprob_token_ids: _Optional[int] = ..., max_stop: _Optional[int] = ..., max_stop_bytes: _Optional[int] = ..., max_stop_token_ids: _Optional[int] = ..., max_logit_bias: _Optional[int] = ..., slots: _Optional[int] = ..., max_queue: _Optional[int] = ..., max_streams_per_connection: _Optional[int] = ..., max_continuations: _Optional[int] = ..., max_score_tokens: _Optional[int] = ..., max_choices: _Optional[int] = ..., max_branches: _Optional[int] = ..., max_pending_actions: _Optional[int] = ..., max_explore_nodes: _Optional[int] = ..., max_explore_seconds: _Optional[float] = ..., max_constraint_bytes: _Optional[int] = ...) -> None: ...

class TokenizeRequest(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: _Optional[str] = ...) -> None: ...

class TokenizeResponse(_message.Message):
    __slots__ = ("tokens",)
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedCompositeFieldContainer[_types_pb2.TextToken]
    def __init__(self, tokens: _Optional[_Iterable[_Union[_types_pb2.TextToken, _Mapping]]] = ...) -> None: ...

class DetokenizeRequest(_message.Message):
    __slots__ = ("token_ids",)
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, token_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class DetokenizeResponse(_message.Message):
    __slots__ = ("text", "bytes", "tokens")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    text: str
    bytes: bytes
    tokens: _containers.RepeatedCompositeFieldContainer[_types_pb2.TextToken]
    def __init__(self, text: _Optional[str] = ..., bytes: _Optional[bytes] = ..., tokens: _Optional[_Iterable[_Union[_types_pb2.TextToken, _Mapping]]] = ...) -> None: ...

class GenerateRequest(_message.Message):
    __slots__ = ("prompt", "sampling", "stop_conditions", "logprobs", "prompt_logprobs", "resume_token_ids", "n", "constraint", "bypass_prefix_reuse", "drafts", "priority")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    STOP_CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    CONSTRAINT_FIELD_NUMBER: _ClassVar[int]
    BYPASS_PREFIX_REUSE_FIELD_NUMBER: _ClassVar[int]
    DRAFTS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    prompt: _types_pb2.Prompt
    sampling: _types_pb2.SamplingParams
    stop_conditions: _types_pb2.StopConditions
    logprobs: _types_pb2.LogprobOptions
    prompt_logprobs: bool
    resume_token_ids: _containers.RepeatedScalarFieldContainer[int]
    n: int
    constraint: _types_pb2.Constraint
    bypass_prefix_reuse: bool
    drafts: bool
    priority: int
    def __init__(self, prompt: _Optional[_Union[_types_pb2.Prompt, _Mapping]] = ..., sampling: _Optional[_Union[_types_pb2.SamplingParams, _Mapping]] = ..., stop_conditions: _Optional[_Union[_types_pb2.StopConditions, _Mapping]] = ..., logprobs: _Optional[_Union[_types_pb2.LogprobOptions, _Mapping]] = ..., prompt_logprobs: bool = ..., resume_token_ids: _Optional[_Iterable[int]] = ..., n: _Optional[int] = ..., constraint: _Optional[_Union[_types_pb2.Constraint, _Mapping]] = ..., bypass_prefix_reuse: bool = ..., drafts: bool = ..., priority: _Optional[int] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("prompt", "prompt_logprobs", "steps", "finish", "summary")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    PROMPT_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    prompt: PromptInfo
    prompt_logprobs: _containers.RepeatedCompositeFieldContainer[_types_pb2.ScoredToken]
    steps: _containers.RepeatedCompositeFieldContainer[_types_pb2.Step]
    finish: _types_pb2.Finish
    summary: GenerateSummary
    def __init__(self, prompt: _Optional[_Union[PromptInfo, _Mapping]] = ..., prompt_logprobs: _Optional[_Iterable[_Union[_types_pb2.ScoredToken, _Mapping]]] = ..., steps: _Optional[_Iterable[_Union[_types_pb2.Step, _Mapping]]] = ..., finish: _Optional[_Union[_types_pb2.Finish, _Mapping]] = ..., summary: _Optional[_Union[GenerateSummary, _Mapping]] = ...) -> None: ...

class PromptInfo(_message.Message):
    __slots__ = ("tokens", "seed", "max_tokens", "artifact_sha256", "drafts")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_SHA256_FIELD_NUMBER: _ClassVar[int]
    DRAFTS_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedCompositeFieldContainer[_types_pb2.TextToken]
    seed: int
    max_tokens: int
    artifact_sha256: str
    drafts: bool
    def __init__(self, tokens: _Optional[_Iterable[_Union[_types_pb2.TextToken, _Mapping]]] = ..., seed: _Optional[int] = ..., max_tokens: _Optional[int] = ..., artifact_sha256: _Optional[str] = ..., drafts: bool = ...) -> None: ...

class GenerateSummary(_message.Message):
    __slots__ = ("usage", "timings")
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    usage: _types_pb2.Usage
    timings: _types_pb2.Timings
    def __init__(self, usage: _Optional[_Union[_types_pb2.Usage, _Mapping]] = ..., timings: _Optional[_Union[_types_pb2.Timings, _Mapping]] = ...) -> None: ...

class ScoreRequest(_message.Message):
    __slots__ = ("prompt", "continuations", "logprobs", "stride", "bypass_prefix_reuse", "priority")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    CONTINUATIONS_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    STRIDE_FIELD_NUMBER: _ClassVar[int]
    BYPASS_PREFIX_REUSE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    prompt: _types_pb2.Prompt
    continuations: _containers.RepeatedCompositeFieldContainer[_types_pb2.Prompt]
    logprobs: _types_pb2.LogprobOptions
    stride: int
    bypass_prefix_reuse: bool
    priority: int
    def __init__(self, prompt: _Optional[_Union[_types_pb2.Prompt, _Mapping]] = ..., continuations: _Optional[_Iterable[_Union[_types_pb2.Prompt, _Mapping]]] = ..., logprobs: _Optional[_Union[_types_pb2.LogprobOptions, _Mapping]] = ..., stride: _Optional[int] = ..., bypass_prefix_reuse: bool = ..., priority: _Optional[int] = ...) -> None: ...

class ScoreResponse(_message.Message):
    __slots__ = ("prompt", "tokens", "total", "summary")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    prompt: PromptInfo
    tokens: _containers.RepeatedCompositeFieldContainer[_types_pb2.ScoredToken]
    total: ScoreTotal
    summary: ScoreSummary
    def __init__(self, prompt: _Optional[_Union[PromptInfo, _Mapping]] = ..., tokens: _Optional[_Iterable[_Union[_types_pb2.ScoredToken, _Mapping]]] = ..., total: _Optional[_Union[ScoreTotal, _Mapping]] = ..., summary: _Optional[_Union[ScoreSummary, _Mapping]] = ...) -> None: ...

class ScoreTotal(_message.Message):
    __slots__ = ("continuation", "logprob", "scored_tokens", "perplexity", "is_greedy")
    CONTINUATION_FIELD_NUMBER: _ClassVar[int]
    LOGPROB_FIELD_NUMBER: _ClassVar[int]
    SCORED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PERPLEXITY_FIELD_NUMBER: _ClassVar[int]
    IS_GREEDY_FIELD_NUMBER: _ClassVar[int]
    continuation: int
    logprob: float
    scored_tokens: int
    perplexity: float
    is_greedy: bool
    def __init__(self, continuation: _Optional[int] = ..., logprob: _Optional[float] = ..., scored_tokens: _Optional[int] = ..., perplexity: _Optional[float] = ..., is_greedy: bool = ...) -> None: ...

class ScoreSummary(_message.Message):
    __slots__ = ("usage", "timings", "computed_tokens")
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    COMPUTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    usage: _types_pb2.Usage
    timings: _types_pb2.Timings
    computed_tokens: int
    def __init__(self, usage: _Optional[_Union[_types_pb2.Usage, _Mapping]] = ..., timings: _Optional[_Union[_types_pb2.Timings, _Mapping]] = ..., computed_tokens: _Optional[int] = ...) -> None: ...

class ExploreRequest(_message.Message):
    __slots__ = ("prompt", "max_depth", "max_width", "min_probability", "max_nodes", "max_seconds", "bypass_prefix_reuse", "priority")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    MAX_DEPTH_FIELD_NUMBER: _ClassVar[int]
    MAX_WIDTH_FIELD_NUMBER: _ClassVar[int]
    MIN_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    MAX_NODES_FIELD_NUMBER: _ClassVar[int]
    MAX_SECONDS_FIELD_NUMBER: _ClassVar[int]
    BYPASS_PREFIX_REUSE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    prompt: _types_pb2.Prompt
    max_depth: int
    max_width: int
    min_probability: float
    max_nodes: int
    max_seconds: float
    bypass_prefix_reuse: bool
    priority: int
    def __init__(self, prompt: _Optional[_Union[_types_pb2.Prompt, _Mapping]] = ..., max_depth: _Optional[int] = ..., max_width: _Optional[int] = ..., min_probability: _Optional[float] = ..., max_nodes: _Optional[int] = ..., max_seconds: _Optional[float] = ..., bypass_prefix_reuse: bool = ..., priority: _Optional[int] = ...) -> None: ...

class ExploreResponse(_message.Message):
    __slots__ = ("prompt", "nodes", "summary")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    prompt: PromptInfo
    nodes: _containers.RepeatedCompositeFieldContainer[ExploreNode]
    summary: ExploreSummary
    def __init__(self, prompt: _Optional[_Union[PromptInfo, _Mapping]] = ..., nodes: _Optional[_Iterable[_Union[ExploreNode, _Mapping]]] = ..., summary: _Optional[_Union[ExploreSummary, _Mapping]] = ...) -> None: ...

class ExploreNode(_message.Message):
    __slots__ = ("node_id", "parent_id", "depth", "candidate", "cumulative_logprob")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    PARENT_ID_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    CUMULATIVE_LOGPROB_FIELD_NUMBER: _ClassVar[int]
    node_id: int
    parent_id: int
    depth: int
    candidate: _types_pb2.Candidate
    cumulative_logprob: float
    def __init__(self, node_id: _Optional[int] = ..., parent_id: _Optional[int] = ..., depth: _Optional[int] = ..., candidate: _Optional[_Union[_types_pb2.Candidate, _Mapping]] = ..., cumulative_logprob: _Optional[float] = ...) -> None: ...

class ExploreSummary(_message.Message):
    __slots__ = ("nodes", "expanded", "leaf_mass", "usage", "timings", "computed_tokens", "end")
    NODES_FIELD_NUMBER: _ClassVar[int]
    EXPANDED_FIELD_NUMBER: _ClassVar[int]
    LEAF_MASS_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    COMPUTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    nodes: int
    expanded: int
    leaf_mass: float
    usage: _types_pb2.Usage
    timings: _types_pb2.Timings
    computed_tokens: int
    end: ExploreEnd
    def __init__(self, nodes: _Optional[int] = ..., expanded: _Optional[int] = ..., leaf_mass: _Optional[float] = ..., usage: _Optional[_Union[_types_pb2.Usage, _Mapping]] = ..., timings: _Optional[_Union[_types_pb2.Timings, _Mapping]] = ..., computed_tokens: _Optional[int] = ..., end: _Optional[_Union[ExploreEnd, str]] = ...) -> None: ...

class InteractRequest(_message.Message):
    __slots__ = ("branch_id", "start", "pick", "sample", "force", "rewind", "fork", "switch", "drop", "stop")
    BRANCH_ID_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    PICK_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    REWIND_FIELD_NUMBER: _ClassVar[int]
    FORK_FIELD_NUMBER: _ClassVar[int]
    SWITCH_FIELD_NUMBER: _ClassVar[int]
    DROP_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    branch_id: int
    start: StartAction
    pick: PickAction
    sample: SampleAction
    force: ForceAction
    rewind: RewindAction
    fork: ForkAction
    switch: SwitchAction
    drop: DropAction
    stop: StopAction
    def __init__(self, branch_id: _Optional[int] = ..., start: _Optional[_Union[StartAction, _Mapping]] = ..., pick: _Optional[_Union[PickAction, _Mapping]] = ..., sample: _Optional[_Union[SampleAction, _Mapping]] = ..., force: _Optional[_Union[ForceAction, _Mapping]] = ..., rewind: _Optional[_Union[RewindAction, _Mapping]] = ..., fork: _Optional[_Union[ForkAction, _Mapping]] = ..., switch: _Optional[_Union[SwitchAction, _Mapping]] = ..., drop: _Optional[_Union[DropAction, _Mapping]] = ..., stop: _Optional[_Union[StopAction, _Mapping]] = ...) -> None: ...

class StartAction(_message.Message):
    __slots__ = ("prompt", "sampling", "logprobs", "constraint")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    CONSTRAINT_FIELD_NUMBER: _ClassVar[int]
    prompt: _types_pb2.Prompt
    sampling: _types_pb2.SamplingParams
    logprobs: _types_pb2.LogprobOptions
    constraint: _types_pb2.Constraint
    def __init__(self, prompt: _Optional[_Union[_types_pb2.Prompt, _Mapping]] = ..., sampling: _Optional[_Union[_types_pb2.SamplingParams, _Mapping]] = ..., logprobs: _Optional[_Union[_types_pb2.LogprobOptions, _Mapping]] = ..., constraint: _Optional[_Union[_types_pb2.Constraint, _Mapping]] = ...) -> None: ...

class PickAction(_message.Message):
    __slots__ = ("token_id",)
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    token_id: int
    def __init__(self, token_id: _Optional[int] = ...) -> None: ...

class SampleAction(_message.Message):
    __slots__ = ("sampling", "count")
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    sampling: _types_pb2.SamplingParams
    count: int
    def __init__(self, sampling: _Optional[_Union[_types_pb2.SamplingParams, _Mapping]] = ..., count: _Optional[int] = ...) -> None: ...

class ForceAction(_message.Message):
    __slots__ = ("tokens",)
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    tokens: _types_pb2.Prompt
    def __init__(self, tokens: _Optional[_Union[_types_pb2.Prompt, _Mapping]] = ...) -> None: ...

class RewindAction(_message.Message):
    __slots__ = ("count",)
    COUNT_FIELD_NUMBER: _ClassVar[int]
    count: int
    def __init__(self, count: _Optional[int] = ...) -> None: ...

class ForkAction(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SwitchAction(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DropAction(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StopAction(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class InteractResponse(_message.Message):
    __slots__ = ("action_index", "branch_id", "prompt", "steps", "distribution", "summary")
    ACTION_INDEX_FIELD_NUMBER: _ClassVar[int]
    BRANCH_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    DISTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    action_index: int
    branch_id: int
    prompt: PromptInfo
    steps: _containers.RepeatedCompositeFieldContainer[_types_pb2.Step]
    distribution: Distribution
    summary: GenerateSummary
    def __init__(self, action_index: _Optional[int] = ..., branch_id: _Optional[int] = ..., prompt: _Optional[_Union[PromptInfo, _Mapping]] = ..., steps: _Optional[_Iterable[_Union[_types_pb2.Step, _Mapping]]] = ..., distribution: _Optional[_Union[Distribution, _Mapping]] = ..., summary: _Optional[_Union[GenerateSummary, _Mapping]] = ...) -> None: ...

class Distribution(_message.Message):
    __slots__ = ("position", "top_logprobs", "token_logprobs", "full_logprobs", "entropy", "top_mass", "tail_mass", "margin", "allowed_mass")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    TOP_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    FULL_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    ENTROPY_FIELD_NUMBER: _ClassVar[int]
    TOP_MASS_FIELD_NUMBER: _ClassVar[int]
    TAIL_MASS_FIELD_NUMBER: _ClassVar[int]
    MARGIN_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_MASS_FIELD_NUMBER: _ClassVar[int]
    position: int
    top_logprobs: _containers.RepeatedCompositeFieldContainer[_types_pb2.Candidate]
    token_logprobs: _containers.RepeatedCompositeFieldContainer[_types_pb2.Candidate]
    full_logprobs: _containers.RepeatedScalarFieldContainer[float]
    entropy: float
    top_mass: float
    tail_mass: float
    margin: float
    allowed_mass: float
    def __init__(self, position: _Optional[int] = ..., top_logprobs: _Optional[_Iterable[_Union[_types_pb2.Candidate, _Mapping]]] = ..., token_logprobs: _Optional[_Iterable[_Union[_types_pb2.Candidate, _Mapping]]] = ..., full_logprobs: _Optional[_Iterable[float]] = ..., entropy: _Optional[float] = ..., top_mass: _Optional[float] = ..., tail_mass: _Optional[float] = ..., margin: _Optional[float] = ..., allowed_mass: _Optional[float] = ...) -> None: ...
