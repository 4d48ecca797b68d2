"""Which layers see a window and which everything, in the spellings that `config.json` has had for it.

    layer_types               a name a layer: "sliding_attention", "full_attention"
    sliding_window_pattern    before: a number n, each n-th layer sees everything

Ours is a letter a layer, L for local and G for global. Place in the flow: a family's Config, `read_config` and
`write_config` call this. Read next: `gemma2.py`.
"""

from malmoi.core.errors import ConfigError
from malmoi.models.huggingface import ConfigReader

LETTERS = {"sliding_attention": "L", "full_attention": "G"}
LAYER_TYPES = {letter: name for name, letter in LETTERS.items()}


def periodic(num_layers: int, period: int) -> str:
    """Each `period`-th layer is global, the others are local.

    >>> periodic(8, 3)
    'LLGLLGLL'
    """
    return "".join("L" if (layer + 1) % period else "G" for layer in range(num_layers))


def require_pattern(pattern: str, *, num_layers: int, window: int | None) -> None:
    """Raise ConfigError unless there is an L or a G for each layer, and a window if there is an L.

    >>> require_pattern("lG", num_layers=2, window=4)
    Traceback (most recent call last):
        ...
    malmoi.core.errors.ConfigError: layer_pattern='lG' is not a letter, L or G, for each of 2 layers. Correct one ...
    """
    if len(pattern) != num_layers or set(pattern) - set(LAYER_TYPES):
        raise ConfigError(
            f"layer_pattern={pattern!r} is not a letter, {' or '.join(LAYER_TYPES)}, for each of {num_layers} layers. "
            "Correct one of the two."
        )
    if window is None and "L" in pattern:
        raise ConfigError(f"layer_pattern={pattern!r} has local layers, but window=None. Give it a window.")


def read_layer_pattern(reader: ConfigReader, *, num_layers: int, period: int) -> str:
    """The letters of the file, which the types say before the number, and `period` where it says nothing.

    Raises ConfigError for a type that is unknown, or not one a layer.

    >>> types = ["sliding_attention", "full_attention"]
    >>> reader = ConfigReader({"layer_types": types}, where="config.json")
    >>> read_layer_pattern(reader, num_layers=2, period=6)
    'LG'
    """
    types = reader.take("layer_types", list, [])
    if not types:
        return periodic(num_layers, reader.positive("sliding_window_pattern", int, period))
    # The reference does not look at it then; in EXAONE 4 it is letters.
    reader.disregard("sliding_window_pattern")
    unknown = [kind for kind in types if kind not in LETTERS]
    if unknown or len(types) != num_layers:
        raise ConfigError(
            f"{reader.where}: layer_types={types!r} is not one of {', '.join(LETTERS)} for each of {num_layers} "
            "layers. Correct it."
        )
    return "".join(LETTERS[kind] for kind in types)


def write_layer_pattern(pattern: str) -> list[str]:
    """`layer_types`, for `read_layer_pattern` to read back.

    >>> write_layer_pattern("LG")
    ['sliding_attention', 'full_attention']
    """
    return [LAYER_TYPES[letter] for letter in pattern]
