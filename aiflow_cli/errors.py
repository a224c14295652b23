"""The tree of errors a user can meet; one place (`cli/errors.py`) turns them into a line and an exit code.

A message says what is wrong, with the value, and what to do next. Anything else that is raised is a bug and stays a
traceback.
"""


class AiflowError(Exception):
    """Base of all errors that are reported in one line; `exit_code` is the exit code of the process."""

    exit_code = 1


class UsageError(AiflowError):
    """Wrong use: an option, a unit, a spec or a name that is not known."""

    exit_code = 2


class PrerequisiteError(AiflowError):
    """Something is missing that a command can supply; the message names the command."""

    exit_code = 3


class ToleranceError(AiflowError):
    """A measurement lies outside a tolerance that was asked for."""

    exit_code = 4


class CheckpointError(AiflowError):
    """A checkpoint, a tokenizer or a pair that cannot be loaded or does not fit."""


class ImageError(AiflowError):
    """An image that cannot be read."""


class ProtocolError(AiflowError):
    """A message that is malformed, out of turn, or from another protocol version or pair."""


class LinkError(AiflowError):
    """The peer or the link went away, or did not answer in time."""


class StoreError(AiflowError):
    """Results that cannot be written or read."""
