"""Small models that begin at random, with a tokenizer of whole words: folders as the hub stores them."""

from collections.abc import Sequence
from pathlib import Path

from nail.lm.folders import Folder, Sizes, read_folder
from nail.lm.weights import hub_config, random_tensors, write_model

SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>", "user", "model")
STOPS = (1, 5)
"""<eos> and <end_of_turn> end a completion"""
TEMPLATE = (
    "{{ bos_token }}{% for turn in messages %}{% if turn.role == 'user' %}"
    "{{ ' <start_of_turn> user ' + turn.content + ' <end_of_turn>' }}"
    "{% elif turn.role == 'assistant' %}{{ ' <start_of_turn> model ' + turn.content + ' <end_of_turn>' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ ' <start_of_turn> model' }}{% endif %}"
)
"""the turns as Gemma has them, word by word; a system prompt, whose words are not in the vocabulary, is left out"""


def sizes_of(width: int, layers: int, heads: int, words: Sequence[str]) -> Sizes:
    """A model of `layers` layers whose heads share one key and value, as the 270m and 1b models' do."""
    return Sizes(
        num_layers=layers, num_embed=len(SPECIAL) + len(words), embed_dim=width, hidden_dim=3 * width,
        num_heads=heads, head_dim=max(8, width // heads), num_kv_heads=1, sliding_window_size=512,
        local_base_frequency=10_000, global_base_frequency=1_000_000,
    )  # fmt: skip


def write_tokenizer(path: Path, words: Sequence[str]) -> None:
    """A tokenizer of the words between blanks, with Gemma's first special tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *words])}
    plain = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>",
        padding_side="left", chat_template=TEMPLATE, additional_special_tokens=["<start_of_turn>", "<end_of_turn>"],
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    made.save_pretrained(str(path))


def write_fresh(path: Path, sizes: Sizes, words: Sequence[str], seed: int) -> Folder:
    """A folder with a random model of these sizes and a tokenizer of these words."""
    write_model(path, random_tensors(sizes, seed), hub_config(sizes, STOPS))
    write_tokenizer(path, words)
    return read_folder(path, "model")
