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


def _first_norm_missing(x, norm1, attention, norm2, mlp):
    x = x + attention(x)
    return x + mlp(norm2(x))


def _layers_swapped(x, norm1, attention, norm2, mlp):
    return _block(x, norm1, mlp, norm2, attention)


def _second_norm_twice(x, norm1, attention, norm2, mlp):
    return _block(x, norm2, attention, norm2, mlp)


def _norm_at_the_end(x, norm1, attention, norm2, mlp):
    return norm2(_block(x, norm1, attention, norm2, mlp))


def _norm_around_the_sum(x, norm1, attention, norm2, mlp):
    x = norm1(x + attention(norm1(x)))
    return norm2(x + mlp(norm2(x)))


def _norm_around_the_sum_alone(x, norm1, attention, norm2, mlp):
    x = norm1(x + attention(x))
    return x + mlp(norm2(x))


def _norm_on_both_sides(x, norm1, attention, norm2, mlp):
    x = x + norm1(attention(norm1(x)))
    return x + norm2(mlp(norm2(x)))


def _mlp_twice_as_large(x, norm1, attention, norm2, mlp):
    return _block(x, norm1, attention, norm2, lambda y: 2 * mlp(y))


def _without_mlp(x, norm1, attention, norm2, mlp):
    return x + attention(norm1(x))


def _attention_twice(x, norm1, attention, norm2, mlp):
    return _block(x, norm1, attention, norm2, attention)


def _mlp_twice(x, norm1, attention, norm2, mlp):
    return _block(x, norm1, mlp, norm2, mlp)


def _subtracted(x, norm1, attention, norm2, mlp):
    return _block(x, norm1, lambda y: -attention(y), norm2, mlp)


def _both_subtracted(x, norm1, attention, norm2, mlp):
    return _block(x, norm1, lambda y: -attention(y), norm2, lambda y: -mlp(y))


def _x_added_twice(x, norm1, attention, norm2, mlp):
    return _block(x, norm1, lambda y: x + attention(y), norm2, mlp)


def _x_added_at_the_end(x, norm1, attention, norm2, mlp):
    return x + _block(x, norm1, attention, norm2, mlp)


def _one_after_the_other(x, norm1, attention, norm2, mlp):
    return x + mlp(norm2(attention(norm1(x))))


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
            _layers_swapped,
            "attention and mlp are swapped: attention comes first and reads norm1(x); mlp reads norm2's.",
        ),
        (_first_norm_missing, "attention reads x itself; it reads norm1(x)."),
        (_second_norm_twice, "norm2 is used for both; attention has a norm of its own, norm1."),
        (_norm_at_the_end, "a norm is put on the last sum; the block returns the sum as it is."),
        (
            _norm_around_the_sum,
            "norms are put around the sums as well; they are for what goes into attention and mlp alone.",
        ),
        (
            _norm_around_the_sum_alone,
            "norm1 is put around the sum, after attention; it is for what goes into attention.",
        ),
        (
            _norm_on_both_sides,
            "what attention and mlp return is normalised as well; norms are for what goes in.",
        ),
        (_mlp_twice_as_large, "the mlp's output is added twice; add it once."),
        (_without_mlp, "the mlp is missing: this is equation 2 alone; equation 3 follows."),
        (_attention_twice, "attention is used twice; the second layer is the mlp."),
        (_mlp_twice, "the mlp is used twice; the first layer is attention."),
        (_both_subtracted, "what attention and mlp return is subtracted; it is added."),
        (_subtracted, "attention's output is subtracted; it is added."),
        (_x_added_twice, "x is added twice in the first line; add it once."),
        (_x_added_at_the_end, "x is added once more at the end; it is in the sum already."),
        (
            _one_after_the_other,
            "mlp reads what attention returns, without x: the first residual connection is missing there, "
            "and attention's share is lost from the sum.",
        ),
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
