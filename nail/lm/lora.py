"""LoRA on the engine's model (qwix), begun as PEFT begins it, and saved so that PEFT loads it.

W x + (α/r)·B A x on q, k, v, o, gate, up and down; A ~ U(−1/√n, 1/√n) for n inputs, B = 0. The engine keeps one matrix
for k and v together, and so one A for both: the saved adapter has it twice. (qwix alone begins A √6 wider than PEFT.)
"""

import json
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import PRNGKeyArray

from nail.lm.folders import Sizes
from nail.lm.model import Model
from nail.sweep.store import write_bytes, write_text

PLACES = ".*(q_einsum|kv_einsum|qkv_einsum|attn_vec_einsum|gate_proj|up_proj|down_proj)"
MLP = ("gate_proj", "up_proj", "down_proj")
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", *MLP)


def with_lora(module: nnx.Module, sizes: Sizes, rank: int, alpha: float, key: PRNGKeyArray) -> Model:
    """The model of which adapters of rank `rank` are trained, which at the start change nothing."""
    from qwix import LoraProvider, apply_lora_to_model

    provider = LoraProvider(module_path=PLACES, rank=rank, alpha=alpha)
    example = {"last_tokens": jnp.ones((1, 1), jnp.int32), "positions": jnp.zeros((1, 1), jnp.int32),
               "attention_mask": jnp.ones((1, 1, 1), bool)}  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = apply_lora_to_model(module, provider, rngs=nnx.Rngs(0), **example)
    graph, trained, fixed = nnx.split(adapted, nnx.LoRAParam, ...)
    return Model(graph, begun(trained, key), fixed, sizes, jax.tree.leaves(fixed)[0].dtype)


def begun(trained: Any, key: PRNGKeyArray) -> Any:
    """Adapters of the shapes of `trained` as PEFT begins them, as float32."""

    def begin(at: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        name = jax.tree_util.keystr(at)
        if "lora_b" in name:
            return jnp.zeros(leaf.shape, jnp.float32)
        bound = float(np.prod(leaf.shape[:-1])) ** -0.5
        return jax.random.uniform(named_key(key, name), leaf.shape, jnp.float32, -bound, bound)

    return jax.tree_util.tree_map_with_path(begin, trained)


def named_key(key: PRNGKeyArray, name: str) -> PRNGKeyArray:
    """A key of a name's own, the same wherever Python runs."""
    import zlib

    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def peft_tensors(state: dict[str, Any], sizes: Sizes) -> dict[str, np.ndarray]:
    """Adapters (`nnx.State.to_pure_dict`) by PEFT's names: A as (rank, in), B as (out, rank)."""
    found: dict[str, np.ndarray] = {}

    def put(at: str, a: Any, b: Any) -> None:
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        rank = a.shape[-1]
        found[f"{at}.lora_A.weight"] = np.ascontiguousarray(a.reshape(-1, rank).T)
        found[f"{at}.lora_B.weight"] = np.ascontiguousarray(b.reshape(rank, -1).T)

    for i in range(sizes.num_layers):
        at, layer = f"base_model.model.model.layers.{i}", state["layers"][i]
        attention = layer["attn"]
        if "qkv_einsum" in attention:
            shared = attention["qkv_einsum"]
            parts = {name: (shared["w_lora_a"], shared["w_lora_b"][:, j]) for j, name in enumerate("qkv")}
        else:
            q, kv = attention["q_einsum"], attention["kv_einsum"]
            parts = {"q": (q["w_lora_a"], q["w_lora_b"])}
            parts |= {name: (kv["w_lora_a"], kv["w_lora_b"][:, j]) for j, name in enumerate("kv")}
        parts["o"] = (attention["attn_vec_einsum"]["w_lora_a"], attention["attn_vec_einsum"]["w_lora_b"])
        for name, pair in parts.items():
            put(f"{at}.self_attn.{name}_proj", *pair)
        for name in MLP:
            put(f"{at}.mlp.{name}", layer["mlp"][name]["kernel_lora_a"], layer["mlp"][name]["kernel_lora_b"])
    return found


def write_adapter(path: Path, tensors: dict[str, np.ndarray], base: Path, rank: int, alpha: float) -> Path:
    """Write adapter_config.json and adapter_model.safetensors as PEFT has them."""
    from safetensors.numpy import save

    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": str(base), "r": rank,
        "lora_alpha": alpha, "lora_dropout": 0.0, "bias": "none", "target_modules": list(TARGETS),
        "inference_mode": True,
    }  # fmt: skip
    path.mkdir(parents=True, exist_ok=True)
    write_text(path / "adapter_config.json", json.dumps(config, indent=1) + "\n")
    write_bytes(path / "adapter_model.safetensors", save(tensors, metadata={"format": "pt"}))
    return path
