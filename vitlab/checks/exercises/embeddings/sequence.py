"""Exercise 2.2: class token in front, positions added."""

import torch

from vitlab.checks.engine import Exercise


def _token_cases(generator):
    def case(batch, number, embed_dim, dtype=torch.float32):
        shapes = (batch, number, embed_dim), (1, 1, embed_dim), (1, number + 1, embed_dim)
        return tuple(torch.randn(shape, dtype=dtype, generator=generator) for shape in shapes)

    yield case(2, 6, 4)
    yield case(3, 12, 5)
    yield case(2, 4, 8, dtype=torch.float64)
    yield case(1, 9, 3)


def _to_sequence(patches, cls_token, pos_embed):
    batch, number, embed_dim = patches.shape
    tokens = patches.new_empty(batch, number + 1, embed_dim)
    for b in range(batch):
        for t in range(number + 1):
            content = cls_token[0, 0] if t == 0 else patches[b, t - 1]
            tokens[b, t] = content + pos_embed[0, t]
    return tokens


def _class_token_last(patches, cls_token, pos_embed):
    return torch.cat([patches, cls_token.expand(len(patches), -1, -1)], dim=1) + pos_embed


def _without_positions(patches, cls_token, pos_embed):
    return _to_sequence(patches, cls_token, torch.zeros_like(pos_embed))


def _class_token_without_position(patches, cls_token, pos_embed):
    placed = pos_embed.clone()
    placed[:, 0] = 0
    return _to_sequence(patches, cls_token, placed)


def _positions_one_off(patches, cls_token, pos_embed):
    """The positions are added before the class token is put in front."""
    return torch.cat([cls_token.expand(len(patches), -1, -1), patches + pos_embed[:, :-1]], dim=1)


def _without_class_token(patches, cls_token, pos_embed):
    return patches + pos_embed[:, 1:]


def _class_token_added(patches, cls_token, pos_embed):
    return patches + cls_token + pos_embed[:, 1:]


def _positions_beside(patches, cls_token, pos_embed):
    tokens = _without_positions(patches, cls_token, pos_embed)
    return torch.cat([tokens, pos_embed.expand(len(patches), -1, -1)], dim=2)


def _class_token_not_expanded(patches, cls_token, pos_embed):
    return torch.cat([cls_token, patches], dim=1) + pos_embed


def _joined_along_the_batch(patches, cls_token, pos_embed):
    return torch.cat([cls_token.expand(len(patches), -1, -1), patches]) + pos_embed


def _joined_along_the_width(patches, cls_token, pos_embed):
    return torch.cat([cls_token.expand(len(patches), -1, -1), patches], dim=-1) + pos_embed


def _positions_before_the_class_token(patches, cls_token, pos_embed):
    return torch.cat([cls_token.expand(len(patches), -1, -1), patches + pos_embed], dim=1)


def _positions_twice(patches, cls_token, pos_embed):
    return _to_sequence(patches, cls_token, 2 * pos_embed)


def _patches_positions_twice(patches, cls_token, pos_embed):
    return _to_sequence(patches + pos_embed[:, 1:], cls_token, pos_embed)


def _class_token_in_one_image(patches, cls_token, pos_embed):
    tokens = _to_sequence(patches, torch.zeros_like(cls_token), pos_embed)
    tokens[0, 0] += cls_token[0, 0]
    return tokens


def _class_token_empty(patches, cls_token, pos_embed):
    return _to_sequence(patches, torch.zeros_like(cls_token), pos_embed)


def _mean_for_the_class_token(patches, cls_token, pos_embed):
    return torch.cat([patches.mean(dim=1, keepdim=True), patches], dim=1) + pos_embed


def _one_position_for_all(patches, cls_token, pos_embed):
    return _without_positions(patches, cls_token, pos_embed) + pos_embed[:, :1]


def _positions_multiplied(patches, cls_token, pos_embed):
    return _without_positions(patches, cls_token, pos_embed) * pos_embed


def _positions_subtracted(patches, cls_token, pos_embed):
    return _to_sequence(patches, cls_token, -pos_embed)


def _positions_of_the_class_token_last(patches, cls_token, pos_embed):
    """Row 0 of the table is taken for the first patch's, the last row for the class token's."""
    return _to_sequence(patches, cls_token, pos_embed.roll(1, dims=1))


def _last_without_positions(patches, cls_token, pos_embed):
    return torch.cat([patches, cls_token.expand(len(patches), -1, -1)], dim=1)


def _one_image_only(patches, cls_token, pos_embed):
    return _to_sequence(patches[:1], cls_token, pos_embed)


def _scaled(patches, cls_token, pos_embed):
    """Tokens times √D, as Transformers for language do."""
    return _without_positions(patches, cls_token, pos_embed) * patches.shape[-1] ** 0.5 + pos_embed


EXERCISE = Exercise(
    "2.2",
    "class token in front, positions added",
    cases=_token_cases,
    oracle=_to_sequence,
    mistakes=[
        (_class_token_last, "the class token is at the end; it goes in front, to position 0."),
        (_without_positions, "the position embeddings were not added."),
        (
            _class_token_without_position,
            "the class token got no position; row 0 of pos_embed belongs to it.",
        ),
        (
            _positions_one_off,
            "the positions are off by one: row 0 is the class token's, row 1 the first patch's. "
            "Put the class token in front first, then add.",
        ),
        (_without_class_token, "there is no class token: N tokens instead of N + 1."),
        (_class_token_added, "the class token was added to every patch; it is a token of its own."),
        (_positions_beside, "the positions were put beside the tokens; they are added, so D stays D."),
        (
            _class_token_not_expanded,
            "there is one class token and a batch of B images: expand it to (B, 1, D) first.",
        ),
        (
            _joined_along_the_batch,
            "`cat` joins along the batch, its default; tokens are the second axis: dim=1.",
        ),
        (_joined_along_the_width, "`cat` joins along the width; tokens are the second axis: dim=1."),
        (
            _positions_before_the_class_token,
            "the N patches have no use for N + 1 positions: put the class token in front, then add.",
        ),
        (_positions_twice, "the positions are added twice; once is asked for."),
        (
            _patches_positions_twice,
            "the patches got their positions twice, the class token once; add them once.",
        ),
        (_class_token_in_one_image, "only the first image got the class token; each of the B images has it."),
        (_class_token_empty, "row 0 has its position but not the class token itself."),
        (_mean_for_the_class_token, "row 0 is the mean of the patches; it is the class token given."),
        (_one_position_for_all, "every token got row 0 of pos_embed; token t gets row t."),
        (_positions_multiplied, "the positions are multiplied; they are added."),
        (_positions_subtracted, "the positions are subtracted; they are added."),
        (
            _positions_of_the_class_token_last,
            "the positions are rolled by one: row 0 is the class token's, and it comes first.",
        ),
        (_last_without_positions, "the class token is at the end, and the positions were not added."),
        (_one_image_only, "only the first image is left; do it for all B of them."),
        (_scaled, "the tokens are scaled by √D; equation 1 only adds."),
    ],
)
