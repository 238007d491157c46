"""What can go wrong in an export.

ExportError
├── UsageError              an option or a path that cannot be worked with
├── UnsupportedModelError   a checkpoint that the serving graph has no form for
├── CertificateError        a graph that does not compute what the checkpoint computes
└── ArtifactError           the artifact could not be written

Each carries the exit code that the command line ends with.
"""


class ExportError(Exception):
    """Root of everything that this package raises on purpose."""

    exit_code = 1


class UsageError(ExportError):
    """An option or a path that cannot be worked with."""

    exit_code = 2


class UnsupportedModelError(ExportError):
    """A checkpoint that the serving graph has no form for, or that is not whole."""

    exit_code = 3


class CertificateError(ExportError):
    """A serving graph whose probabilities are not the checkpoint's."""

    exit_code = 4


class ArtifactError(ExportError):
    """The artifact could not be written."""

    exit_code = 5
