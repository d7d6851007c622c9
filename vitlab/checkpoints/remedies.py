"""What to do with a model that `load_checkpoint` cannot make a ViT of: one wording for all refusals."""

PACKAGES = {"Hugging Face": "transformers"}  # where a library's name is not that of its package


def instead(library: str | None = None) -> str:
    """Whose model it stays, and how its attention is seen all the same.

    >>> instead("timm")
    'load it with timm, and vitlab.attach(model) shows its attention'
    """
    package = PACKAGES.get(library, library) or "the library that made it"
    return f"load it with {package}, and vitlab.attach(model) shows its attention"
