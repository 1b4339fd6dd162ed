"""The errors a user can cause, each carrying one clear sentence: what came, what is allowed, what to do."""


class SlatewiseError(Exception):
    """Base of every error that is the input's fault; the command line prints it and exits with code 2."""


class DataError(SlatewiseError):
    """A log, table or prepared data set is not what its schema says."""


class ConfigError(SlatewiseError):
    """A recipe, option or name is unknown or has a value that is not allowed."""


class RunError(SlatewiseError):
    """A run folder is missing, incomplete, or belongs to something else."""


class TrainingError(SlatewiseError):
    """Training cannot go on: the loss is not finite, or a checkpoint does not fit the model."""


class ExportError(SlatewiseError):
    """A ranker cannot be written as a graph, or what was written does not rank as the ranker does."""


class RequestError(SlatewiseError):
    """What a caller of the server sent is not what its schema says; ``field`` is the path to it, e.g. ``served[2]``."""

    def __init__(self, field: str, sentence: str) -> None:
        super().__init__(f"{field} {sentence}")
        self.field = field


class UnavailableError(SlatewiseError):
    """A store cannot be reached or is too busy; nothing is wrong with the request, which may be sent again."""
