"""Exercise 3.1: scores, scale and softmax."""

import math

import torch

from vitlab.checks.engine import Exercise

SOFTMAXES = (
    *("softmax", "log_softmax", "softmin", "_softmax", "gumbel_softmax"),
    *("scaled_dot_product_attention", "multi_head_attention_forward"),
)


def _query_cases(generator):
    def pair(batch, tokens, width, dtype=torch.float32, size=1.0):
        return tuple(
            size * torch.randn(batch, tokens, width, dtype=dtype, generator=generator) for _ in range(2)
        )

    yield pair(2, 5, 16)
    yield pair(3, 7, 6)
    yield pair(2, 3, 9, dtype=torch.float64)
    yield pair(2, 4, 8, size=20.0)  # scores of some hundreds: their exponential is infinite


def _weights(queries, keys):
    batch, tokens, width = queries.shape
    weights = queries.new_zeros(batch, tokens, tokens)
    for b in range(batch):
        for i in range(tokens):
            products = [
                math.fsum((queries[b, i].double() * keys[b, j].double()).tolist()) for j in range(tokens)
            ]
            scores = [product / math.sqrt(width) for product in products]
            parts = [math.exp(score - max(scores)) for score in scores]
            weights[b, i] = torch.tensor([part / math.fsum(parts) for part in parts])
    return weights


def _products(queries, keys):
    return torch.einsum("bid,bjd->bij", queries, keys)


def _softmax(scores):
    return scores.softmax(dim=-1)


def _weights_unscaled(queries, keys):
    return _softmax(_products(queries, keys))


def _weights_scaled_by_d(queries, keys):
    return _softmax(_products(queries, keys) / queries.shape[-1])


def _weights_scaled_up(queries, keys):
    return _softmax(_products(queries, keys) * queries.shape[-1] ** 0.5)


def _weights_scaled_by_tokens(queries, keys):
    return _softmax(_products(queries, keys) / queries.shape[1] ** 0.5)


def _weights_down_the_columns(queries, keys):
    return (_products(queries, keys) / queries.shape[-1] ** 0.5).softmax(dim=1)


def _weights_keys_ask(queries, keys):
    return _softmax(_scores_only(keys, queries))


def _weights_overflow(queries, keys):
    parts = (_products(queries, keys) / queries.shape[-1] ** 0.5).exp()
    return parts / parts.sum(dim=-1, keepdim=True)


def _weights_without_exp(queries, keys):
    scores = _products(queries, keys) / queries.shape[-1] ** 0.5
    return scores / scores.sum(dim=-1, keepdim=True)


def _scores_only(queries, keys):
    return _products(queries, keys) / queries.shape[-1] ** 0.5


def _weights_not_normalised(queries, keys):
    scores = _scores_only(queries, keys)
    return (scores - scores.amax(dim=-1, keepdim=True)).exp()


def _weights_of_keys_not_transposed(queries, keys):
    return _softmax(queries @ keys / queries.shape[-1] ** 0.5)


def _weights_all_axes_turned(queries, keys):
    return _softmax(queries @ keys.permute(2, 1, 0) / queries.shape[-1] ** 0.5)


def _weights_axis_lost(queries, keys):
    parts = _weights_not_normalised(queries, keys)
    return parts / parts.sum(dim=-1)


def _weights_of_the_whole_table(queries, keys):
    parts = _weights_not_normalised(queries, keys)
    return parts / parts.sum()


def _weights_of_all_tables(queries, keys):
    scores = _scores_only(queries, keys)
    return scores.flatten().softmax(dim=0).view_as(scores)


def _weights_of_clipped_scores(queries, keys):
    return _softmax(_scores_only(queries, keys).clamp(max=80))


def _weights_less_a_pair(queries, keys):
    """`max` along an axis gives the largest and their places."""
    scores = _scores_only(queries, keys)
    return (scores - scores.max(dim=-1, keepdim=True)).exp()


def _weights_less_the_largest_of_all(queries, keys):
    scores = _scores_only(queries, keys)
    parts = (scores - scores.max()).exp()
    return parts / parts.sum(dim=-1, keepdim=True)


def _weights_scaled_late(queries, keys):
    return _weights_unscaled(queries, keys) / queries.shape[-1] ** 0.5


def _weights_scaled_by(width):
    return lambda queries, keys: _softmax(_products(queries, keys) / width**0.5)


def _weights_scaled_by_batch(queries, keys):
    return _softmax(_products(queries, keys) / queries.shape[0] ** 0.5)


def _weights_scaled_by_the_square(queries, keys):
    return _softmax(_products(queries, keys) / queries.shape[-1] ** 2)


def _weights_of_negative_scores(queries, keys):
    return _softmax(-_scores_only(queries, keys))


def _weights_over_the_images(queries, keys):
    return _scores_only(queries, keys).softmax(dim=0)


def _weights_of_each_table(queries, keys):
    scores = _scores_only(queries, keys)
    return scores.flatten(1).softmax(dim=-1).view_as(scores)


def _weights_of_each_sum(queries, keys):
    parts = _weights_not_normalised(queries, keys)
    return parts / parts.sum(dim=(1, 2), keepdim=True)


def _weights_less_the_smallest(queries, keys):
    scores = _scores_only(queries, keys)
    parts = (scores - scores.amin(dim=-1, keepdim=True)).exp()
    return parts / parts.sum(dim=-1, keepdim=True)


def _weights_to_base_2(queries, keys):
    return _softmax(_scores_only(queries, keys) * math.log(2))


def _weights_causal(queries, keys):
    scores = _scores_only(queries, keys)
    return _softmax(scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -math.inf))


def _weights_but_for_itself(queries, keys):
    scores = _scores_only(queries, keys)
    return _softmax(scores.masked_fill(torch.eye(scores.shape[-1]).bool(), -math.inf))


def _weights_of_directions(queries, keys):
    queries, keys = (part / part.norm(dim=-1, keepdim=True) for part in (queries, keys))
    return _softmax(_scores_only(queries, keys))


def _weights_of_directions_unscaled(queries, keys):
    queries, keys = (part / part.norm(dim=-1, keepdim=True) for part in (queries, keys))
    return _softmax(_products(queries, keys))


def _weights_over_their_length(queries, keys):
    parts = _weights_not_normalised(queries, keys)
    return parts / parts.norm(dim=-1, keepdim=True)


def _weights_all_to_the_largest(queries, keys):
    scores = _products(queries, keys)
    return (scores == scores.amax(dim=-1, keepdim=True)).to(scores.dtype)


def _weights_mean_instead_of_sum(queries, keys):
    return _softmax(_scores_only(queries, keys)) * queries.shape[1]


def _weights_divided_again(queries, keys):
    return _softmax(_scores_only(queries, keys)) / queries.shape[1]


def _weights_of_the_first_image(queries, keys):
    return _softmax(_scores_only(queries, keys))[0]


def _weights_batch_merged(queries, keys):
    return _softmax(_scores_only(queries, keys)).flatten(0, 1)


EXERCISE = Exercise(
    "3.1",
    "scores, scale and softmax",
    without=SOFTMAXES,
    cases=_query_cases,
    oracle=_weights,
    mistakes=[
        (_weights_scaled_by(24), "the scale is √24, of the notebook's heads; d is queries.shape[-1]."),
        (_weights_scaled_by(96), "the scale is √96, of the notebook's D; d is queries.shape[-1], a head's."),
        (
            _weights_scaled_by_batch,
            "the scale comes from B, the size of the batch; d is the last axis, queries.shape[-1].",
        ),
        (_weights_scaled_by_the_square, "the scores are divided by the square of d; it is the square root."),
        (_weights_of_negative_scores, "the sign is turned: the largest score gets the smallest weight."),
        (_weights_over_the_images, "the softmax runs over the images of the batch; it runs along each row."),
        (
            _weights_of_each_table,
            "the softmax runs over the whole (T, T) table of an image; each row has a sum of its own.",
        ),
        (
            _weights_of_all_tables,
            "the softmax runs over all images' scores at once; each row has a sum of its own.",
        ),
        (
            _weights_of_clipped_scores,
            "large scores are cut off, which makes them equal; subtract the row's largest instead.",
        ),
        (
            _weights_less_a_pair,
            "`max` along an axis gives two things, the largest and their places: take `.values`, or `amax`.",
        ),
        (
            _weights_of_each_sum,
            "a whole (T, T) table is divided by one sum; each row has its own: dim=-1, keepdim=True.",
        ),
        (
            _weights_less_the_smallest,
            "each row's smallest score is subtracted, which makes exponentials larger; subtract the largest.",
        ),
        (_weights_to_base_2, "these are powers of 2; a softmax takes powers of e, `exp`."),
        (
            _weights_causal,
            "the keys after the query are left out, a causal mask, as for text; every patch sees all others.",
        ),
        (_weights_but_for_itself, "the diagonal is left out; a token may attend to itself, too."),
        (
            _weights_of_directions,
            "queries and keys are brought to length 1; their length counts, so leave it.",
        ),
        (
            _weights_of_directions_unscaled,
            "this is a softmax of cosines: queries and keys have lost their length; it counts.",
        ),
        (
            _weights_over_their_length,
            "each row is divided by its length, the root of the sum of squares; divide by its sum.",
        ),
        (_weights_all_to_the_largest, "the largest score takes all; a softmax leaves the others a share."),
        (
            _weights_mean_instead_of_sum,
            "the rows sum to T: they are divided by their mean; divide each by its sum.",
        ),
        (_weights_divided_again, "the rows sum to 1/T: they are divided twice, by their sum and by T."),
        (_weights_of_the_first_image, "these are the weights of the first image alone; there are B."),
        (_weights_batch_merged, "the images of the batch are joined; keep B as the first axis."),
        (_weights_unscaled, "the scale is missing: each score is divided by the square root of d."),
        (_weights_scaled_by_d, "the scores are divided by d; it is the square root of d."),
        (_weights_scaled_up, "the scores are multiplied by the square root of d; divide by it."),
        (
            _weights_scaled_by_tokens,
            "the scale comes from T, the number of tokens; it comes from d, the length of a query.",
        ),
        (
            _weights_down_the_columns,
            "the softmax runs over the queries: columns sum to 1. Each row is one query; rows sum to 1.",
        ),
        (_weights_keys_ask, "queries and keys are swapped: rows are queries, columns are keys."),
        (
            _weights_overflow,
            "the exponential of a large score is infinite; subtract each row's largest score before it.",
        ),
        (
            _weights_without_exp,
            "the scores are divided by their sum without `exp`, so weights can be below 0.",
        ),
        (_scores_only, "these are the scores; the softmax over each row is still to come."),
        (_weights_not_normalised, "the rows do not sum to 1; divide each by its sum."),
        (
            _weights_of_keys_not_transposed,
            "the keys are not transposed: queries @ keys.mT compares each query with each key.",
        ),
        (
            _weights_all_axes_turned,
            "`.T` turns all three axes; `.mT` swaps the last two and leaves the batch.",
        ),
        (
            _weights_axis_lost,
            "a maximum or sum along the rows has lost its axis; keepdim=True keeps it as (B, T, 1).",
        ),
        (
            _weights_of_the_whole_table,
            "everything is divided by one sum; each row has its own: dim=-1, keepdim=True.",
        ),
        (
            _weights_less_the_largest_of_all,
            "the largest score of all is subtracted, so a row far below it becomes 0 / 0; each row has "
            "its own largest.",
        ),
        (_weights_scaled_late, "the weights are divided by √d; the scores are, before the softmax."),
    ],
)
