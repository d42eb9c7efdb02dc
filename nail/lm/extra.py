"""The extra `lm`: whether it is there, in one sentence."""

from importlib.util import find_spec

from nail.checks import BadInput

NEEDED = ("tunix", "qwix", "transformers", "safetensors", "tokenizers")
"""packages that the extra brings; only what `nail lm` loads when it runs imports them"""


def require_extra() -> None:
    """Raise `BadInput` that says what to install if the packages of the extra `lm` are not all there."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise BadInput(
            f"nail lm needs packages that are not installed ({', '.join(missing)}): "
            "pip install 'nail[lm]', or in a clone pip install -e '.[lm]'"
        )
