"""Whose attention is recorded: every kind against what its own library says, and the table in the docs.

`python tests/test_attach_kinds.py` writes the table anew.
"""

import functools
import math
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

import vitlab

pytest.importorskip("open_clip")
pytest.importorskip("transformers")
pytest.importorskip("vit_pytorch")

from attach_kinds import Kind, all_kinds, randomised  # noqa: E402

PAGE = Path(__file__).parents[1] / "notebooks" / "reference" / "whose_attention.md"
LIBRARIES = ("timm", "torchvision", "transformers", "open_clip_torch", "vit-pytorch")
KINDS = {kind.id: kind for kind in all_kinds()}
EXACT = 1e-5  # in fp32


def difference(one, other) -> float:
    assert [each.shape for each in one] == [each.shape for each in other]
    return max(float((a.double() - b.double()).abs().max()) for a, b in zip(one, other, strict=True))


def models(kind: Kind, dtype=torch.float32):
    """(view, images) for each size: of one model where it takes both, else of one built for each."""
    for size in kind.sizes:
        torch.manual_seed(0)
        model = randomised(kind.build(kind.sizes[0] if kind.one_model else size)).to(dtype)
        keywords = {name: size if value is ... else value for name, value in kind.keywords.items()}
        images = torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(1))
        yield vitlab.attach(model, **keywords), images.to(dtype)


def recorded(view, images):
    """(weights by layer, then the pooling's; outputs while recording; outputs without)."""
    with torch.no_grad():
        plain = view(images)
        with vitlab.record_attention(view) as record:
            outputs = view(images)
    assert record.weights.dtype == torch.float32
    pooling = list(record["pooling"]) if "pooling" in record.passes else []
    return [*record.weights, *pooling], outputs, plain


@functools.cache
def measured(name: str) -> tuple[float, float]:
    """Largest differences in fp32 over a kind's sizes: of weights from the library's own, of outputs."""
    kind, of_weights, of_outputs = KINDS[name], 0.0, 0.0
    for view, images in models(kind):
        weights, outputs, plain = recorded(view, images)
        rows, columns = view.grid_of(tuple(images.shape[-2:]))
        tokens = rows * columns + kind.prefix
        assert (view.num_prefix_tokens, view.reads, view.num_layers) == (kind.prefix, kind.reads, 2)
        assert len(weights) == 2 + kind.pools
        assert all(each.shape[0] == 3 and each.shape[2:] == (tokens, tokens) for each in weights[:2])
        sums = [each.sum(dim=-1) for each in weights]
        assert difference(sums, [torch.ones_like(each) for each in sums]) < EXACT
        of_weights = max(of_weights, difference(weights, kind.reference(view.model, images)))
        of_outputs = max(of_outputs, difference([outputs], [plain]))
    return of_weights, of_outputs


@pytest.mark.parametrize("name", KINDS)
def test_kind(name):
    assert max(measured(name)) <= EXACT


@pytest.mark.parametrize("name", KINDS)
def test_kind_in_bf16(name):
    """Rounded like the library's own open path is, not more: the truth is the same bf16 weights in fp32."""
    kind = KINDS[name]
    for view, images in models(kind, torch.bfloat16):
        weights, outputs, plain = recorded(view, images)
        own = kind.reference(view.model, images)
        truth = kind.reference(view.model.float(), images.float())
        assert difference(weights, truth) <= 2 * difference(own, truth) + 2**-8
        sums = [each.sum(dim=-1) for each in weights]
        assert difference(sums, [torch.ones_like(each) for each in sums]) < EXACT
        assert difference([outputs], [plain]) <= 2**-5 * float(plain.abs().max())  # four roundings, 2⁻⁸ each


def table() -> str:
    """The page's table, one row a kind."""
    head = ["library", "kind", "prefix tokens", "reads", "weights differ by", "outputs differ by"]
    lines = [head, ["---"] * len(head)]
    for name, kind in KINDS.items():
        weights, outputs = measured(name)
        differences = [at_most(weights, 1e-6), at_most(outputs, 1e-5)]
        lines.append([kind.library, kind.name, str(kind.prefix), kind.reads, *differences])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def at_most(value: float, smallest: float) -> str:
    """Rounded up to a power of ten, and never below what another machine's rounding may give."""
    return f"1e{math.ceil(math.log10(max(value, smallest)) - 1e-9)}"


def page() -> str:
    head, _, _ = PAGE.read_text().partition("| library |")
    return head + table() + "\n"


def test_page():
    assert PAGE.read_text() == page(), "python tests/test_attach_kinds.py writes it anew"


def test_page_names_the_versions():
    words = PAGE.read_text()
    for library in LIBRARIES:
        assert f"{library} {version(library)}" in words
    pins = (Path(__file__).parents[1] / "constraints.txt").read_text().lower().splitlines()
    for library in LIBRARIES:
        assert f"{library}=={version(library)}" in pins


def test_forty_kinds():
    counts = {}
    for kind in KINDS.values():
        counts[kind.library] = counts.get(kind.library, 0) + 1
    assert counts["timm"] >= 15
    assert counts["torchvision"] == 5
    assert counts["transformers"] == 20
    assert counts["open_clip"] >= 1
    assert counts["vit-pytorch"] >= 6


if __name__ == "__main__":
    PAGE.write_text(page())
