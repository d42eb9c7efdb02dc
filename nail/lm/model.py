"""A Gemma-3 model of the engine, from a folder: hidden states, logits of some of them, and weights as pytrees.

The engine's model returns logits of all positions; here it returns the last hidden states, and whoever needs logits
makes those of a few positions (the head is the embedding, transposed).
"""

from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int
from tunix.models import safetensors_loader
from tunix.models.gemma3 import params_safetensors
from tunix.models.gemma3.model import Gemma3, ModelConfig

from nail.checks import BadInput
from nail.lm.folders import Folder, Sizes

Weights = Any
"""a pytree of the arrays of a model, or of a part of it"""


class Body(Gemma3):
    """The engine's Gemma-3 without its head."""

    def __call__(self, last_tokens, positions=None, cache=None, attention_mask=None):
        """(hidden states (batch, length, width), cache) of tokens (batch, length)."""
        x = self._encode_and_get_inputs(tokens=last_tokens)
        after: dict[str, Any] = {}
        for i, layer in enumerate(self.layers):
            name = f"layer_{i}"
            after[name], x = layer(x, positions, cache[name] if cache else None, attention_mask)
        return self.final_norm(x), after if cache else None


class Model(NamedTuple):
    """A model as a function of its weights: what is trained, and what is fixed."""

    graph: Any
    trained: Weights
    fixed: Weights
    sizes: Sizes
    kind: Any
    """the type of number that it computes in; what is trained is kept as float32 and rounded to it"""

    def weights(self, trained: Weights | None = None) -> tuple[Weights, Weights]:
        """(trained, fixed), the pair that the functions below take; other trained weights in the place of its own."""
        return (self.trained if trained is None else trained, self.fixed)


def engine_config(sizes: Sizes, kind: Any) -> ModelConfig:
    """The engine's configuration of a model of these sizes, whose numbers are of the type `kind`."""
    return ModelConfig(**sizes._asdict(), param_dtype=kind)


def load(folder: Folder, kind: Any = jnp.bfloat16) -> nnx.Module:
    """The model of a folder with its weights as numbers of type `kind`; raises `BadInput` if they do not fit it."""
    config = engine_config(folder.sizes, kind)
    try:
        # the engine puts weights on the first of all devices, which may be another process's
        with mock.patch.object(jax, "devices", jax.local_devices):
            found = safetensors_loader.load_and_create_model(
                file_dir=str(folder.path), model_class=Body, config=config, dtype=kind,
                key_mapping=params_safetensors._get_key_and_transform_mapping,
                preprocess_fn=params_safetensors._make_preprocess_fn(config),
            )  # fmt: skip
        leaves = jax.tree.leaves(nnx.state(found, nnx.Param))
        if not all(isinstance(leaf, jax.Array) for leaf in leaves):
            raise ValueError("some weights are missing")
    except Exception as error:  # whatever damaged files make the engine raise
        raise BadInput(f"{folder.path} must hold the weights that its config.json describes ({error})") from error
    return found


def whole(module: nnx.Module, sizes: Sizes) -> Model:
    """A model of which all weights are trained."""
    graph, trained, rest = nnx.split(module, nnx.Param, ...)
    return Model(graph, as_float32(trained), rest, sizes, _kind(trained))


def frozen(module: nnx.Module, sizes: Sizes) -> Model:
    """A model of which nothing is trained."""
    graph, none, rest = nnx.split(module, nnx.LoRAParam, ...)
    return Model(graph, none, rest, sizes, _kind(rest))


def as_float32(weights: Weights) -> Weights:
    """The same weights with room for small steps."""
    return jax.tree.map(lambda x: x.astype(jnp.float32), weights)


def _kind(weights: Weights) -> Any:
    return jax.tree.leaves(weights)[0].dtype


def body(model: Model, weights: tuple[Weights, Weights]) -> nnx.Module:
    """The module with these weights; those of another type are rounded to the model's (masters may be float32)."""
    trained, fixed = weights
    return nnx.merge(model.graph, jax.tree.map(lambda x: x.astype(model.kind), trained), fixed)


def positions_of(real: Bool[Array, "batch length"]) -> Int[Array, "batch length"]:
    """Place of each token among the real ones of its row, from 0; padding has place 0."""
    return jnp.maximum(jnp.cumsum(real, axis=-1) - 1, 0)


def hidden_states(
    model: Model,
    weights: tuple[Weights, Weights],
    tokens: Int[Array, "batch length"],
    real: Bool[Array, "batch length"],
) -> Float[Array, "batch length width"]:
    """Last hidden states; tokens attend to real ones at or before them."""
    length = tokens.shape[1]
    mask = real[:, None, :] & jnp.tril(jnp.ones((length, length), bool))[None]
    return body(model, weights)(tokens, positions_of(real), None, mask)[0]


def head(model: Model, weights: tuple[Weights, Weights]) -> Float[Array, "tokens width"]:
    """The matrix whose product with a hidden state is its logits."""
    return body(model, weights).embedder.input_embedding[...]


def logits_of(
    hidden: Float[Array, "*batch width"], matrix: Float[Array, "tokens width"]
) -> Float[Array, "*batch tokens"]:
    """Logits of hidden states, as float32."""
    return jnp.einsum("...d,vd->...v", hidden, matrix).astype(jnp.float32)
