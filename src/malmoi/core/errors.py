"""Every error that Malmoi raises on purpose.

    MalmoiError
    ├── ConfigError        a configuration key or value is wrong
    ├── DataError          a text or data file cannot be read as what it claims to be
    ├── MediaError         an image or a sound cannot be read, or is larger than allowed
    ├── TokenizerError     a tokenizer file is wrong, or an id is outside its vocabulary
    ├── TemplateError      a chat template cannot be rendered, or its loss mask is ambiguous
    ├── CheckpointError    a model directory is incomplete, or a tensor does not fit the model
    ├── HubError           a model could not be fetched from a hub
    ├── RequestError       a generation request cannot be served as asked
    └── TrainingError      training cannot start or go on (NaN loss, a sample without a target)

A message has three parts: what happened, which value, what to do. The command line prints it and
exits with code 2; a traceback means a bug in Malmoi, never a mistake of the user.

>>> raise ConfigError("num_heads=12 is not divisible by num_kv_heads=5. Use a divisor of 12 (1, 2, 3, ...).")
Traceback (most recent call last):
    ...
malmoi.core.errors.ConfigError: num_heads=12 is not divisible by num_kv_heads=5. Use a divisor of 12 (1, 2, 3, ...).
"""


class MalmoiError(Exception):
    """Base of all errors that are the input's fault, not a bug."""


class ConfigError(MalmoiError):
    """A configuration key or value is wrong."""


class DataError(MalmoiError):
    """A text or data file cannot be read as what it claims to be."""


class MediaError(MalmoiError):
    """An image or a sound cannot be read, or is larger than allowed."""


class TokenizerError(MalmoiError):
    """A tokenizer file is wrong, or an id is outside its vocabulary."""


class TemplateError(MalmoiError):
    """A chat template cannot be rendered, or its loss mask is ambiguous."""


class CheckpointError(MalmoiError):
    """A model directory is incomplete, or a tensor does not fit the model."""


class HubError(MalmoiError):
    """A model could not be fetched from a hub."""


class RequestError(MalmoiError):
    """A generation request cannot be served as asked."""


class TrainingError(MalmoiError):
    """Training cannot start or go on."""
