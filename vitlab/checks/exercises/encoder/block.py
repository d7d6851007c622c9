"""Exercise 3.3: the pre-norm block."""

import torch

from vitlab.checks.engine import Exercise


def norm1(x):
    return (x - x.mean(dim=-1, keepdim=True)) / x.std(dim=-1, keepdim=True)


def norm2(x):
    return 3 * norm1(x) + 0.5


def attention(x):
    return x.cumsum(dim=1).tanh()


def mlp(x):
    return 2 * x.flip(-1).sigmoid()


def _block_cases(generator):
    for shape, dtype in (((2, 5, 8), torch.float32), ((3, 4, 6), torch.float32), ((2, 3, 7), torch.float64)):
        yield torch.randn(shape, dtype=dtype, generator=generator), norm1, attention, norm2, mlp


def _block(x, norm1, attention, norm2, mlp):
    between = torch.stack([x, attention(norm1(x))]).sum(dim=0)
    return torch.stack([between, mlp(norm2(between))]).sum(dim=0)


def _post_norm(x, norm1, attention, norm2, mlp):
    x = norm1(x + attention(x))
    return norm2(x + mlp(x))


def _no_residual(x, norm1, attention, norm2, mlp):
    return mlp(norm2(attention(norm1(x))))


def _first_residual_only(x, norm1, attention, norm2, mlp):
    return mlp(norm2(x + attention(norm1(x))))


def _second_residual_only(x, norm1, attention, norm2, mlp):
    x = attention(norm1(x))
    return x + mlp(norm2(x))


def _residual_after_norm(x, norm1, attention, norm2, mlp):
    x = norm1(x)
    x = norm2(x + attention(x))
    return x + mlp(x)


def _no_norm(x, norm1, attention, norm2, mlp):
    x = x + attention(x)
    return x + mlp(x)


def _side_by_side(x, norm1, attention, norm2, mlp):
    return x + attention(norm1(x)) + mlp(norm2(x))


def _second_residual_from_the_start(x, norm1, attention, norm2, mlp):
    return x + mlp(norm2(x + attention(norm1(x))))


def _mlp_first(x, norm1, attention, norm2, mlp):
    x = x + mlp(norm2(x))
    return x + attention(norm1(x))


def _norm_of_the_branch(x, norm1, attention, norm2, mlp):
    x = x + norm1(attention(x))
    return x + norm2(mlp(x))


def _same_norm_twice(x, norm1, attention, norm2, mlp):
    x = x + attention(norm1(x))
    return x + mlp(norm1(x))


def _norms_swapped(x, norm1, attention, norm2, mlp):
    return _block(x, norm2, attention, norm1, mlp)


def _second_norm_missing(x, norm1, attention, norm2, mlp):
    x = x + attention(norm1(x))
    return x + mlp(x)


def _second_residual_after_norm(x, norm1, attention, norm2, mlp):
    x = norm2(x + attention(norm1(x)))
    return x + mlp(x)


def _attention_not_kept(x, norm1, attention, norm2, mlp):
    """As after a line `x + attention(norm1(x))` that is assigned to nothing."""
    return x + mlp(norm2(x))


EXERCISE = Exercise(
    "3.3",
    "the pre-norm block",
    cases=_block_cases,
    oracle=_block,
    mistakes=[
        (
            _post_norm,
            "this is the post-norm block of BERT: the norm comes after the sum; here before the layer.",
        ),
        (_no_residual, "both residual connections are missing: add x to what attention and mlp return."),
        (
            _first_residual_only,
            "the second residual connection is missing: the mlp's output is added too.",
        ),
        (
            _second_residual_only,
            "the first residual connection is missing: attention's output is added to x.",
        ),
        (
            _residual_after_norm,
            "the residual connection carries the normalised tokens; it carries x itself, untouched.",
        ),
        (_no_norm, "the norms are missing."),
        (
            _side_by_side,
            "the mlp reads the block's input; it reads what attention has added to (equation 3).",
        ),
        (
            _second_residual_from_the_start,
            "the mlp's output is added to the block's input, and attention's share is lost from the sum.",
        ),
        (_mlp_first, "attention and mlp are swapped: attention comes first."),
        (
            _norm_of_the_branch,
            "the norm is applied to what attention and mlp return; it belongs before them.",
        ),
        (_same_norm_twice, "norm1 is used for both; the mlp has a norm of its own, norm2."),
        (_norms_swapped, "norm1 and norm2 are swapped; norm1 is attention's."),
        (_second_norm_missing, "the mlp reads x itself; it reads norm2(x)."),
        (
            _second_residual_after_norm,
            "the mlp's output is added to the normalised tokens; add it to x, as it was before norm2.",
        ),
        (
            _attention_not_kept,
            "attention's output is lost: its sum with x has to be assigned, as x = x + ….",
        ),
    ],
)
