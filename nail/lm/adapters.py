"""Adapters as PEFT stores them, added to a model's weights: W + (α/r)·B A."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from nail.checks import BadInput
from nail.lm.folders import Sizes
from nail.lm.lora import MLP

BEFORE = "base_model.model.model.layers."
PLACES_OF = (*(f"self_attn.{name}_proj" for name in "qkvo"), *(f"mlp.{name}" for name in MLP))


def merged(module: nnx.Module, sizes: Sizes, path: Path) -> nnx.Module:
    """`module` with the adapters of a folder added to its weights, which are rounded to their type.

    Raises `BadInput` if the folder has no adapters of LoRA that fit the model.
    """
    try:
        config = json.loads((Path(path) / "adapter_config.json").read_text(encoding="utf-8"))
        from safetensors.numpy import load_file

        tensors = load_file(Path(path) / "adapter_model.safetensors")
        scale = float(config["lora_alpha"]) / int(config["r"])
    except Exception as error:  # whatever damaged files make the library raise
        raise BadInput(f"adapter must be a folder of LoRA adapters as PEFT stores them, and {path} is not") from error
    found = {
        name.removesuffix(".lora_A.weight").removeprefix(BEFORE): scale * _product(tensors, name)
        for name in tensors if name.endswith(".lora_A.weight")
    }  # fmt: skip
    known = {f"{i}.{name}" for i in range(sizes.num_layers) for name in PLACES_OF}
    if set(found) - known or len(tensors) != 2 * len(found):
        raise BadInput(f"adapter must be of q, k, v, o, gate, up and down of the model only, and {path} has others")
    try:
        for i in range(sizes.num_layers):
            _change_layer(module.layers[i], sizes, lambda name, i=i: found.get(f"{i}.{name}"))
    except ValueError as error:
        raise BadInput(f"adapter must fit the model, and {path} has other shapes") from error
    return module


def _product(tensors: dict[str, np.ndarray], name: str) -> np.ndarray:
    """B A, as (out, in)."""
    b = tensors.get(name.replace("lora_A", "lora_B"))
    return np.zeros(0) if b is None else b.astype(np.float32) @ tensors[name].astype(np.float32)


def _change_layer(layer: Any, sizes: Sizes, change: Callable[[str], np.ndarray | None]) -> None:
    """Add to a layer's matrices what `change` has for them, as (out, in)."""
    attention = layer.attn
    fused = attention.use_qkv_einsum
    for name in "qkv":
        found = change(f"self_attn.{name}_proj")
        if found is None:
            continue
        heads = found.reshape(-1, sizes.head_dim, sizes.embed_dim).transpose(0, 2, 1)
        if name == "q" and not fused:
            _add(attention.q_einsum.w, heads)
            continue
        shared = attention.qkv_einsum.w if fused else attention.kv_einsum.w
        wide = np.zeros(shared.shape, np.float32)
        wide[("qkv" if fused else "kv").index(name)] = heads
        _add(shared, wide)
    found = change("self_attn.o_proj")
    if found is not None:
        _add(attention.attn_vec_einsum.w, found.T.reshape(attention.attn_vec_einsum.w.shape))
    for name in MLP:
        found = change(f"mlp.{name}")
        if found is not None:
            _add(getattr(layer.mlp, name).kernel, found.T)


def _add(parameter: nnx.Variable, change: np.ndarray | float) -> None:
    """Add to a parameter, as float32, and round."""
    value = parameter[...]
    parameter[...] = (value.astype(jnp.float32) + change).astype(value.dtype)
