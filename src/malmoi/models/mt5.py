"""mT5: T5 1.1 over 101 languages (Xue et al. 2020, arXiv:2010.11934).

The network is T5's, gated and with a head of its own; the vocabulary is another, and the files cannot say what T5's
say of scaled logits. Read `t5.py` first.
"""

from dataclasses import dataclass, replace

from malmoi.core.errors import ConfigError
from malmoi.models.huggingface import ConfigReader
from malmoi.models.t5 import T5, T5Config
from malmoi.models.t5_shape import read_shape, write_shape


@dataclass(frozen=True, kw_only=True)
class MT5Config(T5Config):
    """A T5 whose logits are never scaled, even where its head is tied. Raises ConfigError if they are to be."""

    scales_logits: bool = False

    def __post_init__(self) -> None:
        if self.scales_logits:
            raise ConfigError(
                "scales_logits=True of an MT5Config, but no mT5 scales its logits. Use a T5Config, or leave it out."
            )


def read_config(reader: ConfigReader) -> MT5Config:
    """A `config.json` of transformers 4 or 5. Raises ConfigError on a value that asks for another network."""
    return MT5Config(**read_shape(reader, feed_forward="gated-gelu"))


FAMILIES = (
    replace(
        T5,
        model_type="mt5",
        architecture="MT5ForConditionalGeneration",
        config_class=MT5Config,
        read_config=read_config,
        write_config=write_shape,
        ideas=("T5 1.1 over a vocabulary of 101 languages",),
        grew_from="t5",
    ),
)
