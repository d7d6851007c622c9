"""Exercise 2.6, an open task: a trained table of positions in as few numbers as possible."""

import torch

from vitlab.checks.engine import OpenTask, Refused

GARMENTS = 500
RIGHT = 0.88  # of them are to be named rightly


def measure(entry, generator) -> float:
    """How many numbers the matrices have that are not 0, if with their product the model is still good."""
    from vitlab import checkpoints, data

    model = checkpoints.load_checkpoint(checkpoints.bundled("fashion_mnist_vit"))
    test = data.fashion_mnist("test").subset(GARMENTS)
    table = model.pos_embed.detach()[0, 1:]  # (49, 96)
    matrices = _matrices(entry(table.clone()), tuple(table.shape))
    product = torch.linalg.multi_dot(matrices) if len(matrices) > 1 else matrices[0]
    with torch.inference_mode():
        model.pos_embed[0, 1:] = product
        right = (model(data.normalise(test.images)).argmax(dim=1) == test.labels).float().mean().item()
    if right < RIGHT:
        raise Refused(f"with this table {right:.1%} of the garments are named rightly, and 88 % are wanted.")
    return sum(int(matrix.count_nonzero()) for matrix in matrices)


def _matrices(made, shape) -> list:
    """The answer as matrices whose product has this shape; Refused says what is wrong with it."""
    matrices = list(made) if isinstance(made, (list, tuple)) else [made]
    if not matrices or any(not isinstance(it, torch.Tensor) or it.ndim != 2 for it in matrices):
        raise Refused("one matrix is wanted, or a list of matrices: torch tensors of two axes.")
    sizes = [tuple(matrix.shape) for matrix in matrices]
    if any(left[1] != right[0] for left, right in zip(sizes, sizes[1:], strict=False)):
        raise Refused(f"matrices of the sizes {', '.join(map(str, sizes))} have no product.")
    if (sizes[0][0], sizes[-1][1]) != shape:
        raise Refused(f"the product has to be {shape}; this is {(sizes[0][0], sizes[-1][1])}.")
    return [matrix.detach().float() for matrix in matrices]


def _six_patterns(table):
    U, S, V = torch.linalg.svd(table, full_matrices=False)
    return [U[:, :6] * S[:6], V[:6]]


def _turned(table):
    return table.T


def _in_the_wrong_order(table):
    U, S, V = torch.linalg.svd(table, full_matrices=False)
    return [V[:6], U[:, :6]]


def _one_row(table):
    return table[0]


EXERCISE = OpenTask(
    id="2.6",
    title="positions in few numbers",
    measure=measure,
    goal=900,
    best=_six_patterns,
    refused=[
        (_turned, "the product has to be (49, 96); this is (96, 49)."),
        (_in_the_wrong_order, "matrices of the sizes (6, 96), (49, 6) have no product."),
        (_one_row, "one matrix is wanted, or a list of matrices: torch tensors of two axes."),
    ],
    says="{:,.0f} numbers",
    seconds=60,
)
