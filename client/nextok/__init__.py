"""Tokens and their probabilities from a nextok server, step by step.

    from nextok import Client

    with Client("localhost:50051") as client:
        for step in client.generate("I love Generative AI", max_tokens=20, top_logprobs=10):
            print(step.delta, step.logprob, step.top_logprobs)

What is named here is the public face; the rest may change. Importing it brings grpcio and
protobuf, and nothing else that is not Python's own.
"""

from nextok.async_branch import AsyncBranch
from nextok.async_client import AsyncClient
from nextok.async_contrast import AsyncContrast
from nextok.async_exploration import AsyncExploration
from nextok.async_generation import AsyncGeneration
from nextok.async_scoring import AsyncScoring
from nextok.async_session import AsyncSession
from nextok.branch import Branch
from nextok.candidates import Candidate
from nextok.choices import Choice
from nextok.client import Client
from nextok.contrast import Contrast
from nextok.errors import (
    ArtifactChanged,
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NextokError,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    UnexpectedStatus,
    Unimplemented,
)
from nextok.exploration import Exploration
from nextok.generation import Generation
from nextok.health import ServingStatus
from nextok.lockstep import ContrastCandidate, ContrastStep
from nextok.model import Capability, Certificate, Comparison, Limits, Model
from nextok.recording import RecordedStep, Recording
from nextok.recording_lines import RecordingError
from nextok.replay import Difference, Replay
from nextok.scores import ScoreSummary, ScoreTotal
from nextok.scoring import Scoring
from nextok.security import TLS
from nextok.session import Session
from nextok.status_details import Violation
from nextok.tokens import Detokenized, TextToken, TextTokens
from nextok.trees import ExploreEnd, ExploreNode, ExploreSummary
from nextok.values import (
    Distribution,
    Finish,
    FinishReason,
    GenerateSummary,
    PromptInfo,
    ScoredToken,
    Step,
    Timings,
    Usage,
)
from nextok.weighing import Settings

__all__ = [
    "TLS",
    "ArtifactChanged",
    "AsyncBranch",
    "AsyncClient",
    "AsyncContrast",
    "AsyncExploration",
    "AsyncGeneration",
    "AsyncScoring",
    "AsyncSession",
    "Branch",
    "Cancelled",
    "Candidate",
    "Capability",
    "Certificate",
    "Choice",
    "Client",
    "Comparison",
    "Contrast",
    "ContrastCandidate",
    "ContrastStep",
    "DeadlineExceeded",
    "Detokenized",
    "Difference",
    "Distribution",
    "Exploration",
    "ExploreEnd",
    "ExploreNode",
    "ExploreSummary",
    "FailedPrecondition",
    "Finish",
    "FinishReason",
    "GenerateSummary",
    "Generation",
    "Internal",
    "InvalidArgument",
    "Limits",
    "Model",
    "NextokError",
    "NotFound",
    "PermissionDenied",
    "PromptInfo",
    "RecordedStep",
    "Recording",
    "RecordingError",
    "Replay",
    "ResourceExhausted",
    "ScoreSummary",
    "ScoreTotal",
    "ScoredToken",
    "Scoring",
    "ServingStatus",
    "Session",
    "Settings",
    "Step",
    "TextToken",
    "TextTokens",
    "Timings",
    "Unauthenticated",
    "Unavailable",
    "UnexpectedStatus",
    "Unimplemented",
    "Usage",
    "Violation",
]
