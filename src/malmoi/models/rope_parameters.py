"""The rotary part of a `config.json`, in every spelling that has been in use.

    rope_parameters                     transformers 5: {"rope_type": ..., "rope_theta": ..., ...}
    rope_theta, rope_scaling            before: the base beside, the kind as "rope_type" or still older "type"
    original_max_position_embeddings    beside them in Phi-3 and its kin, and there it wins

Place in the flow: a family's `read_config` and `write_config` call this. Read next: `nn/rope_scaling.py`.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from malmoi.core.errors import ConfigError
from malmoi.models.huggingface import ConfigReader
from malmoi.nn.rope import RopeConfig
from malmoi.nn.rope_scaling import (
    DynamicScaling,
    LinearScaling,
    Llama3Scaling,
    LongRopeScaling,
    ProportionalScaling,
    RopeScaling,
    YarnScaling,
)

T = TypeVar("T")


def read_rope(
    reader: ConfigReader, *, max_positions: int, theta: float = 10_000.0, original: int | None = None
) -> RopeConfig:
    """Take the rotary keys, with the base `theta` and the `original` length where the keys beside them name none.

    Raises ConfigError for what is unknown, out of range, or said twice and differently.

    >>> read_rope(ConfigReader({"rope_theta": 5e5}, where="config.json"), max_positions=8192)
    RopeConfig(theta=500000.0, scaling=None)
    """
    if "original_max_position_embeddings" in reader.raw:
        original = reader.positive("original_max_position_embeddings", int)
    thetas: dict[str, float] = {}
    scalings: dict[str, RopeScaling | None] = {}
    if "rope_theta" in reader.raw:
        thetas["rope_theta"] = reader.take("rope_theta", float)
    for key in ("rope_parameters", "rope_scaling"):
        if inner := reader.sub(key):
            if "rope_theta" in inner.raw:
                thetas[f"rope_theta within {key}"] = inner.take("rope_theta", float)
            scalings[key] = _read_scaling(inner, max_positions=max_positions, original=original)
            inner.finish()
    return RopeConfig(theta=_agreed(reader, thetas, theta), scaling=_agreed(reader, scalings, None))


def _agreed(reader: ConfigReader, said: Mapping[str, T], default: T) -> T:
    """What all keys of the file say alike; `default` if none says anything."""
    if len(set(said.values())) > 1:
        both = " and ".join(f"{key}={value}" for key, value in said.items())
        raise ConfigError(
            f"{reader.where}: {both} disagree about the rotary positions. Remove the one that is wrong."
        )
    return next(iter(said.values()), default)


def require_length(config: RopeConfig, max_positions: int) -> None:
    """Raise ConfigError if a dynamic scaling begins anywhere but at `max_positions`: a file has one key for both.

    >>> require_length(RopeConfig(scaling=DynamicScaling(factor=2.0, max_positions=64)), 32)
    Traceback (most recent call last):
        ...
    malmoi.core.errors.ConfigError: the dynamic scaling begins after max_positions=64, but the model's is 32. ...
    """
    if isinstance(config.scaling, DynamicScaling) and config.scaling.max_positions != max_positions:
        raise ConfigError(
            f"the dynamic scaling begins after max_positions={config.scaling.max_positions}, but the model's is "
            f"{max_positions}. Make the two equal: config.json has one number for both."
        )


def _read_scaling(reader: ConfigReader, *, max_positions: int, original: int | None) -> RopeScaling | None:
    said: dict[str, str] = {key: reader.take(key, str) for key in ("rope_type", "type") if key in reader.raw}
    kind = _agreed(reader, said, "default")
    if kind != "proportional":
        reader.require("partial_rotary_factor", 1.0)

    def original_max_positions() -> int:
        inner = reader.positive("original_max_position_embeddings", int, max_positions)
        return inner if original is None else original

    def optional(key: str) -> float | None:
        return reader.take(key, float, 0.0) if key in reader.raw else None

    match kind:
        case "default":
            return None
        case "linear":
            return LinearScaling(factor=reader.take("factor", float))
        case "proportional":
            return ProportionalScaling(
                factor=reader.take("factor", float, 1.0),
                partial_rotary_factor=reader.take("partial_rotary_factor", float, 1.0),
            )
        case "dynamic":
            return DynamicScaling(factor=reader.take("factor", float), max_positions=max_positions)
        case "yarn":
            reader.disregard("finetuned")  # how the model came to be
            length = original_max_positions()
            return YarnScaling(
                factor=reader.take("factor", float, max_positions / length),
                original_max_positions=length,
                attention_factor=optional("attention_factor"),
                beta_fast=reader.positive("beta_fast", float, 32.0),
                beta_slow=reader.positive("beta_slow", float, 1.0),
                mscale=optional("mscale"),
                mscale_all_dim=optional("mscale_all_dim"),
                truncate=reader.take("truncate", bool, True),
            )
        case "longrope":
            length = original_max_positions()
            return LongRopeScaling(
                factor=reader.take("factor", float, max_positions / length),
                original_max_positions=length,
                short_factor=_numbers(reader, "short_factor"),
                long_factor=_numbers(reader, "long_factor"),
                attention_factor=optional("attention_factor"),
            )
        case "llama3":
            return Llama3Scaling(
                factor=reader.take("factor", float),
                low_freq_factor=reader.take("low_freq_factor", float),
                high_freq_factor=reader.take("high_freq_factor", float),
                original_max_positions=original_max_positions(),
            )
    raise ConfigError(
        f"{reader.where}: rope_type={kind!r} is unknown. Known: default, linear, proportional, dynamic, yarn, "
        "longrope, llama3."
    )


def _numbers(reader: ConfigReader, key: str) -> tuple[float, ...]:
    values = reader.take(key, list)
    if not all(type(value) in (int, float) for value in values):
        raise ConfigError(f"{reader.where}: {key}={values!r} is not a list of numbers. Correct it.")
    return tuple(map(float, values))


_THEIR_NAMES = {"kind": "rope_type", "original_max_positions": "original_max_position_embeddings"}


def write_rope(config: RopeConfig) -> dict[str, Any]:
    """The `rope_parameters` of a `config.json`: `read_rope` run backwards.

    >>> write_rope(RopeConfig(theta=5e5, scaling=LinearScaling(factor=4.0)))
    {'rope_theta': 500000.0, 'factor': 4.0, 'rope_type': 'linear'}
    """
    if config.scaling is None:
        return {"rope_theta": config.theta, "rope_type": "default"}
    fields = {
        _THEIR_NAMES.get(key, key): list(value) if isinstance(value, tuple) else value
        for key, value in vars(config.scaling).items()
        if value is not None and key != "max_positions"  # which the config's own max_position_embeddings says
    }
    return {"rope_theta": config.theta, **fields}
