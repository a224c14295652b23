"""The tree of errors a user can meet; one place (`cli/errors.py`) turns them into a line and an exit code.

    AiflowError (1)
    ├── UsageError (2)            a flag, a unit, a spec, a name that is not known
    ├── PrerequisiteError (3)     something is missing that a command can supply
    ├── ToleranceError (4)        a measurement outside a tolerance that was asked for
    ├── CheckpointError (1)       a checkpoint, a tokenizer or a pair that does not fit
    ├── ImageError (1)            an image that cannot be read
    ├── ProtocolError (1)         a message that is malformed, out of turn or from another version
    ├── LinkError (1)             the peer or the link went away
    └── StoreError (1)            results cannot be written or read

A message says what is wrong, with the value, and what to do next. Anything else that is raised is a bug and stays a traceback.
"""


class AiflowError(Exception):
    """Base of all errors that are reported in one line; `exit_code` is the exit code of the process."""

    exit_code = 1


class UsageError(AiflowError):
    """Wrong use: an option, a unit, a spec or a name."""

    exit_code = 2


class PrerequisiteError(AiflowError):
    """Something is missing that a command can supply; the message names the command."""

    exit_code = 3


class ToleranceError(AiflowError):
    """A measurement lies outside a tolerance that was asked for."""

    exit_code = 4


class CheckpointError(AiflowError):
    """A checkpoint, a tokenizer or a pair that cannot be loaded."""


class ImageError(AiflowError):
    """An image that cannot be read."""


class ProtocolError(AiflowError):
    """A message that is malformed, out of turn, or from another protocol version or pair."""


class LinkError(AiflowError):
    """The peer or the link went away, or did not answer in time."""


class StoreError(AiflowError):
    """Results that cannot be written or read."""
