"""What to do with a model that `load_checkpoint` cannot make a ViT of: one wording for all refusals."""

PACKAGES = {"Hugging Face": "transformers"}  # where a library's name is not that of its package


def instead(library: str | None = None, attention: bool = True) -> str:
    """Whose model it stays and, where it has attention in PyTorch, how that is seen all the same.

    >>> instead("timm")
    'load it with timm, and vitlab.attach(model) shows its attention'
    """
    if library == "Google":
        return "load it with Google's own code in JAX (vision_transformer or big_vision)"
    package = PACKAGES.get(library, library) or "the library that made it"
    return f"load it with {package}" + ", and vitlab.attach(model) shows its attention" * attention
