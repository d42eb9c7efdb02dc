"""A folder of a model as the hub stores it: what its JSON files say, checked before any weight is loaded."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from nail.checks import BadInput, require
from nail.sweep.store import content_of

ARCHITECTURES = ("gemma3_text", "gemma3")
"""values of `model_type` in config.json that are read; of gemma3 the text part"""
PERIOD = 6
"""every sixth layer attends to all positions, the others within a window"""


class Sizes(NamedTuple):
    """What a Gemma-3 model is, under the engine's names of it."""

    num_layers: int
    num_embed: int
    embed_dim: int
    hidden_dim: int
    num_heads: int
    head_dim: int
    num_kv_heads: int
    sliding_window_size: int
    local_base_frequency: int
    global_base_frequency: int
    global_scale_factor: float = 1.0


class Folder(NamedTuple):
    """A folder whose files fit each other."""

    path: Path
    sizes: Sizes
    stops: tuple[int, ...]
    """tokens that end a completion: the generation configuration's list, else the model configuration's"""


def read_folder(path: Path, name: str) -> Folder:
    """The model folder `path`, given as the option `name`.

    Raises `BadInput`, one sentence, if there is no config.json of a Gemma-3 text model that the engine computes, no
    weights (*.safetensors), no tokenizer (tokenizer.json), or no token that ends a completion.
    """
    path = Path(path)
    require(path.is_dir(), name, path, "a folder of a model, as the hub stores it")
    for pattern, what in (("config.json", "configuration"), ("*.safetensors", "weights"), ("tokenizer.json", "")):
        files = [*path.glob(pattern)]
        if not files:
            raise BadInput(f"{name} must be a folder with {what or 'a tokenizer'} ({pattern}), and {path} has none")
        for file in files:
            require(file.is_file(), f"{file.name} of {name}", file, "a file")
    config = _json(path / "config.json", name)
    kind = config.get("model_type")
    require(kind in ARCHITECTURES, f"model_type of {path / 'config.json'}", repr(kind), " or ".join(ARCHITECTURES))
    text = config.get("text_config", config)
    generation = path / "generation_config.json"
    stops = _json(generation, name).get("eos_token_id") if generation.exists() else None
    stops = config.get("eos_token_id", text.get("eos_token_id")) if stops is None else stops
    stops = tuple(stops) if isinstance(stops, list) else (stops,)
    sizes = _sizes(text, path)
    fits = all(isinstance(token, int) and 0 <= token < sizes.num_embed for token in stops)
    require(fits, f"eos_token_id of {path}", stops, f"tokens below the model's vocabulary of {sizes.num_embed}")
    return Folder(path, sizes, stops)


def require_same_vocabulary(student: Folder, expert: Folder) -> None:
    """Raise `BadInput` unless the two models have the same number of tokens and the same tokenizer."""
    ours, theirs = student.sizes.num_embed, expert.sizes.num_embed
    if ours != theirs:
        raise BadInput(f"student and expert must have the same vocabulary, and have {ours} and {theirs} tokens")
    if _words(student.path) != _words(expert.path):
        raise BadInput("student and expert must have the same tokenizer, and their tokens differ")


def require_tokenizer_fits(folder: Folder, name: str) -> None:
    """Raise `BadInput` unless every token of the folder's tokenizer is one of the model's."""
    largest = max(_words(folder.path).values(), default=-1)
    require(0 <= largest < folder.sizes.num_embed, f"largest token of the tokenizer of {name}", largest,
            f"below the model's vocabulary of {folder.sizes.num_embed}")  # fmt: skip


def _words(path: Path) -> dict[str, int]:
    """Text → token of a tokenizer, those that were added included."""
    found = _json(path / "tokenizer.json", "tokenizer")
    model = found.get("model", {}).get("vocab", {})
    words = dict(model) if isinstance(model, dict) else {word[0]: i for i, word in enumerate(model)}
    return {**words, **{added["content"]: added["id"] for added in found.get("added_tokens", [])}}


def _json(path: Path, name: str) -> dict[str, Any]:
    try:
        value = json.loads(content_of(path))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{name} must be a folder of a model, and {path} is damaged") from error
    if not isinstance(value, dict):
        raise BadInput(f"{name} must be a folder of a model, and {path} is damaged")
    return value


def _sizes(text: dict[str, Any], path: Path) -> Sizes:
    """The sizes in a text model's configuration; `BadInput` for one that the engine would compute wrongly."""
    where = path / "config.json"
    old = text.get("rope_scaling") or {}
    ropes = text.get("rope_parameters") or {}
    whole, local = ropes.get("full_attention") or old, ropes.get("sliding_attention") or {}
    try:
        sizes = Sizes(
            num_layers=int(text["num_hidden_layers"]), num_embed=int(text["vocab_size"]),
            embed_dim=int(text["hidden_size"]), hidden_dim=int(text["intermediate_size"]),
            num_heads=int(text["num_attention_heads"]), head_dim=int(text["head_dim"]),
            num_kv_heads=int(text["num_key_value_heads"]), sliding_window_size=int(text["sliding_window"]),
            local_base_frequency=int(local.get("rope_theta") or text.get("rope_local_base_freq", 10_000)),
            global_base_frequency=int(whole.get("rope_theta") or text.get("rope_theta", 1_000_000)),
            global_scale_factor=float(whole.get("factor", 1.0)),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{where} must have the sizes of a Gemma-3 text model, and lacks {error}") from error
    require(min(sizes) > 0, f"sizes in {where}", tuple(sizes), "above 0")
    require(
        sizes.num_heads % sizes.num_kv_heads == 0,
        f"heads in {where}",
        sizes.num_heads,
        "a multiple of num_key_value_heads",
    )
    scalar = text.get("query_pre_attn_scalar", sizes.head_dim)
    require(scalar == sizes.head_dim, f"query_pre_attn_scalar in {where}", scalar, f"head_dim ({sizes.head_dim})")
    kinds = text.get("layer_types")
    every = text.get("sliding_window_pattern", text.get("_sliding_window_pattern", PERIOD))
    wanted = ["full_attention" if (i + 1) % PERIOD == 0 else "sliding_attention" for i in range(sizes.num_layers)]
    fits = kinds == wanted if kinds is not None else every == PERIOD
    require(fits, f"layer_types in {where}", kinds or every, f"full attention in every {PERIOD}th layer only")
    return sizes
