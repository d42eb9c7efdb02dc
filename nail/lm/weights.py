"""Weights of a Gemma-3 model under the hub's names: written as a folder that the engine and transformers load."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from nail.lm.folders import PERIOD, Folder, Sizes
from nail.sweep.store import write_bytes, write_text

KEPT = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
        "tokenizer.model", "chat_template.jinja", "added_tokens.json")  # fmt: skip
"""files of a folder that hold for a model trained from it"""
NORMS = {"input_layernorm": "pre_attention_norm", "post_attention_layernorm": "post_attention_norm",
         "pre_feedforward_layernorm": "pre_ffw_norm", "post_feedforward_layernorm": "post_ffw_norm"}  # fmt: skip
"""the hub's name of a layer's norm → the engine's"""


def hub_tensors(state: dict[str, Any], sizes: Sizes) -> dict[str, np.ndarray]:
    """Arrays of the engine's model (`nnx.State.to_pure_dict`) by the hub's names and in its layout, (out, in)."""
    found = {"model.embed_tokens.weight": state["embedder"]["input_embedding"],
             "model.norm.weight": state["final_norm"]["scale"]}  # fmt: skip
    for i in range(sizes.num_layers):
        layer, at = state["layers"][i], f"model.layers.{i}"
        attention, mlp = layer["attn"], layer["mlp"]
        if "qkv_einsum" in attention:
            q, k, v = np.asarray(attention["qkv_einsum"]["w"])
        else:
            q, (k, v) = np.asarray(attention["q_einsum"]["w"]), np.asarray(attention["kv_einsum"]["w"])
        for name, w in (("q", q), ("k", k), ("v", v)):
            found[f"{at}.self_attn.{name}_proj.weight"] = w.transpose(0, 2, 1).reshape(-1, sizes.embed_dim)
        out = np.asarray(attention["attn_vec_einsum"]["w"])
        found[f"{at}.self_attn.o_proj.weight"] = out.reshape(-1, sizes.embed_dim).T
        found[f"{at}.self_attn.q_norm.weight"] = attention["_query_norm"]["scale"]
        found[f"{at}.self_attn.k_norm.weight"] = attention["_key_norm"]["scale"]
        for name in ("gate_proj", "up_proj", "down_proj"):
            found[f"{at}.mlp.{name}.weight"] = np.asarray(mlp[name]["kernel"]).T
        for theirs, ours in NORMS.items():
            found[f"{at}.{theirs}.weight"] = layer[ours]["scale"]
    return {name: np.ascontiguousarray(array) for name, array in found.items()}


def random_tensors(sizes: Sizes, seed: int) -> dict[str, np.ndarray]:
    """Weights by which a model begins: N(0, 1/inputs) in matrices, N(0, 1/width) in the embedding, norms 1 (+0)."""
    rng, width = np.random.default_rng(seed), sizes.embed_dim
    heads, values = sizes.num_heads * sizes.head_dim, sizes.num_kv_heads * sizes.head_dim

    def matrix(out: int, inputs: int) -> np.ndarray:
        return (rng.standard_normal((out, inputs)) / np.sqrt(inputs)).astype(np.float32)

    found = {"model.embed_tokens.weight": matrix(sizes.num_embed, width), "model.norm.weight": _zeros(width)}
    for i in range(sizes.num_layers):
        at = f"model.layers.{i}"
        shapes = {"self_attn.q_proj": (heads, width), "self_attn.k_proj": (values, width),
                  "self_attn.v_proj": (values, width), "self_attn.o_proj": (width, heads),
                  "mlp.gate_proj": (sizes.hidden_dim, width), "mlp.up_proj": (sizes.hidden_dim, width),
                  "mlp.down_proj": (width, sizes.hidden_dim)}  # fmt: skip
        found |= {f"{at}.{name}.weight": matrix(*shape) for name, shape in shapes.items()}
        found |= {f"{at}.{name}.weight": _zeros(width) for name in NORMS}
        found |= {f"{at}.self_attn.{name}_norm.weight": _zeros(sizes.head_dim) for name in "qk"}
    return found


def hub_config(sizes: Sizes, stops: tuple[int, ...]) -> dict[str, Any]:
    """The config.json of a model of these sizes, whose padding is token 0."""
    kinds = ["full_attention" if (i + 1) % PERIOD == 0 else "sliding_attention" for i in range(sizes.num_layers)]
    return {
        "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "vocab_size": sizes.num_embed,
        "hidden_size": sizes.embed_dim, "intermediate_size": sizes.hidden_dim, "num_hidden_layers": sizes.num_layers,
        "num_attention_heads": sizes.num_heads, "num_key_value_heads": sizes.num_kv_heads, "head_dim": sizes.head_dim,
        "query_pre_attn_scalar": sizes.head_dim, "sliding_window": sizes.sliding_window_size, "layer_types": kinds,
        "rope_theta": float(sizes.global_base_frequency), "rope_local_base_freq": float(sizes.local_base_frequency),
        "max_position_embeddings": 4096, "tie_word_embeddings": True, "pad_token_id": 0,
        "eos_token_id": list(stops), "torch_dtype": "float32",
    }  # fmt: skip


def write_model(path: Path, tensors: dict[str, np.ndarray], config: dict[str, Any]) -> Path:
    """Write config.json, generation_config.json and model.safetensors, each whole or not at all."""
    from safetensors.numpy import save

    path.mkdir(parents=True, exist_ok=True)
    write_text(path / "config.json", json.dumps(config, indent=1) + "\n")
    write_text(path / "generation_config.json", json.dumps({"eos_token_id": config["eos_token_id"]}) + "\n")
    write_bytes(path / "model.safetensors", save(tensors, metadata={"format": "pt"}))
    return path


def write_trained(path: Path, tensors: dict[str, np.ndarray], start: Folder) -> Path:
    """Write a model that was trained from the folder `start`: its files, other weights."""
    from safetensors.numpy import save

    path.mkdir(parents=True, exist_ok=True)
    for name in KEPT:
        if (start.path / name).is_file():
            write_bytes(path / name, (start.path / name).read_bytes())
    write_bytes(path / "model.safetensors", save(tensors, metadata={"format": "pt"}))
    return path


def _zeros(n: int) -> np.ndarray:
    return np.zeros(n, np.float32)
