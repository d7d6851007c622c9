"""Lesson 07, your images: exercises 7.1–7.4 and predictions 7.a–7.h."""

import math

import torch
import torch.nn.functional as F

from vitlab.checks.engine import Exercise
from vitlab.checks.predictions import Prediction, Question


def _bytes(generator, *shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


# ---------------------------------------------------------------------------------------- 7.1 a picture fits


def _picture_cases(generator):
    yield _bytes(generator, 3, 12, 20), 4
    yield _bytes(generator, 2, 24, 8), 4
    yield _bytes(generator, 1, 9, 15), 3


def _prepare(picture, size):
    channels, height, width = picture.shape
    side = min(height, width)
    top, left, block = (height - side) // 2, (width - side) // 2, side // size
    small = torch.zeros(channels, size, size)
    for c in range(channels):
        for row in range(size):
            for column in range(size):
                total = 0
                for y in range(block):
                    for x in range(block):
                        total += int(picture[c, top + row * block + y, left + column * block + x])
                small[c, row, column] = total / block**2 / 127.5 - 1
    return small


def _square(picture):
    side = min(picture.shape[1:])
    top, left = ((length - side) // 2 for length in picture.shape[1:])
    return picture[:, top : top + side, left : left + side]


def _shrunk(picture, size):
    return F.adaptive_avg_pool2d(picture.float(), size)


def _prepare_squeezed(picture, size):
    return _shrunk(picture, size) / 127.5 - 1


def _prepare_corner(picture, size):
    side = min(picture.shape[1:])
    return _shrunk(picture[:, :side, :side], size) / 127.5 - 1


def _prepare_far_corner(picture, size):
    side = min(picture.shape[1:])
    return _shrunk(picture[:, -side:, -side:], size) / 127.5 - 1


def _prepare_zero_to_one(picture, size):
    return _shrunk(_square(picture), size) / 255


def _prepare_bytes(picture, size):
    return _shrunk(_square(picture), size)


def _prepare_nearest(picture, size):
    return F.interpolate(_square(picture)[None].float(), size=size, mode="nearest")[0] / 127.5 - 1


def _prepare_tiny_crop(picture, size):
    top, left = ((length - size) // 2 for length in picture.shape[1:])
    return picture[:, top : top + size, left : left + size].float() / 127.5 - 1


def _prepare_own_range(picture, size):
    small = _shrunk(_square(picture), size)
    return 2 * (small - small.min()) / (small.max() - small.min()) - 1


def _prepare_offsets_swapped(picture, size):
    side = min(picture.shape[1:])
    top, left = ((length - side) // 2 for length in picture.shape[1:])
    return F.avg_pool2d(picture[:, left : left + side, top : top + side].float(), side // size) / 127.5 - 1


def _prepare_blocks_of_size(picture, size):
    return F.avg_pool2d(_square(picture).float(), size) / 127.5 - 1


def _prepare_bilinear(picture, size):
    square = _square(picture)[None].float()
    return F.interpolate(square, size=(size, size), mode="bilinear")[0] / 127.5 - 1


def _resized(picture, size, **how):
    square = _square(picture)[None].float()
    return F.interpolate(square, size=(size, size), **how)[0] / 127.5 - 1


def _prepare_antialiased(picture, size):
    return _resized(picture, size, mode="bilinear", antialias=True)


def _prepare_bicubic(picture, size):
    return _resized(picture, size, mode="bicubic")


def _prepare_bicubic_antialiased(picture, size):
    return _resized(picture, size, mode="bicubic", antialias=True)


def _prepare_antialiased_bytes(picture, size):
    small = F.interpolate(_square(picture)[None].float(), size=(size, size), mode="bilinear", antialias=True)
    return small[0].round() / 127.5 - 1


def _prepare_largest(picture, size):
    return F.adaptive_max_pool2d(_square(picture).float(), size) / 127.5 - 1


def _prepare_rounded(picture, size):
    return _shrunk(_square(picture), size).round() / 127.5 - 1


def _prepare_cut_to_bytes(picture, size):
    return _shrunk(_square(picture), size).floor() / 127.5 - 1


def _prepare_padded(picture, size):
    channels, height, width = picture.shape
    side = max(height, width)
    whole = torch.zeros(channels, side, side)
    top, left = (side - height) // 2, (side - width) // 2
    whole[:, top : top + height, left : left + width] = picture
    return F.adaptive_avg_pool2d(whole, size) / 127.5 - 1


def _prepare_doubled(picture, size):
    return _shrunk(_square(picture), size) / 255 * 2


def _prepare_by_128(picture, size):
    return _shrunk(_square(picture), size) / 128 - 1


def _prepare_mean_of_bytes(picture, size):
    square = _square(picture)
    return F.avg_pool2d(square, square.shape[-1] // size) / 127.5 - 1


# ------------------------------------------------------------------------------------- 7.2 a model's own norm


def _norm_cases(generator):
    yield _bytes(generator, 2, 3, 4, 5), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    yield _bytes(generator, 3, 2, 4, 4), [0.2, 0.7], [0.1, 0.4]
    yield _bytes(generator, 2, 4, 3, 6), [0.5, 0.4, 0.3, 0.6], [0.3, 0.2, 0.25, 0.5]


def _normalised(images, mean, std):
    result = torch.zeros(images.shape)
    for b in range(images.shape[0]):
        for c in range(images.shape[1]):
            for y in range(images.shape[2]):
                for x in range(images.shape[3]):
                    result[b, c, y, x] = (int(images[b, c, y, x]) / 255 - mean[c]) / std[c]
    return result


def _column(values):
    return torch.tensor(values)[:, None, None]


def _norm_of_bytes(images, mean, std):
    return (images.float() - _column(mean)) / _column(std)


def _norm_last_axis(images, mean, std):
    return (images.float() / 255 - torch.tensor(mean)) / torch.tensor(std)


def _norm_divided_first(images, mean, std):
    return images.float() / 255 / _column(std) - _column(mean)


def _norm_times(images, mean, std):
    return (images.float() / 255 - _column(mean)) * _column(std)


def _norm_variance(images, mean, std):
    return (images.float() / 255 - _column(mean)) / _column(std) ** 2


def _norm_googles(images, mean, std):
    return images.float() / 127.5 - 1


def _norm_own(images, mean, std):
    own, deviation = images.float().mean((2, 3), True), images.float().std((2, 3), keepdim=True)
    return (images.float() - own) / deviation


def _norm_channels_turned(images, mean, std):
    return (images.float() / 255 - _column(mean[::-1])) / _column(std[::-1])


def _norm_joint(images, mean, std):
    return (images.float() / 255 - sum(mean) / len(mean)) / (sum(std) / len(std))


def _norm_without_brackets(images, mean, std):
    return images.float() / 255 - _column(mean) / _column(std)


def _norm_from_minus_one(images, mean, std):
    return (images.float() / 127.5 - 1 - _column(mean)) / _column(std)


def _norm_whole_numbers(images, mean, std):
    return (images // 255 - _column(mean)) / _column(std)


def _norm_image_by_image(images, mean, std):
    result = images.float() / 255
    for c in range(len(result)):
        result[c] = (result[c] - mean[c]) / std[c]
    return result


def _norm_added(images, mean, std):
    return (images.float() / 255 + _column(mean)) / _column(std)


def _norm_by_256(images, mean, std):
    return (images.float() / 256 - _column(mean)) / _column(std)


def _norm_mean_alone(images, mean, std):
    return images.float() / 255 - _column(mean)


def _norm_std_alone(images, mean, std):
    return images.float() / 255 / _column(std)


def _norm_swapped(images, mean, std):
    return (images.float() / 255 - _column(std)) / _column(mean)


def _norm_scaled_as_well(images, mean, std):
    return (images.float() / 255 - 255 * _column(mean)) / (255 * _column(std))


def _norm_of_lists(images, mean, std):
    return (images / 255 - mean) / std


# ---------------------------------------------------------------------------------------- 7.3 a map on pixels


def _map_cases(generator):
    yield torch.rand(2, 3, 4, generator=generator), 2
    yield torch.rand(3, 2, 5, generator=generator), 3
    yield torch.rand(2, 4, 3, generator=generator), 4


def _to_pixels(maps, patch_size):
    count, rows, columns = maps.shape
    result = maps.new_zeros(count, rows * patch_size, columns * patch_size)
    for y in range(rows * patch_size):
        for x in range(columns * patch_size):
            # in patches from the middle of the first one, and held at the border
            row = min(max((y + 0.5) / patch_size - 0.5, 0), rows - 1)
            column = min(max((x + 0.5) / patch_size - 0.5, 0), columns - 1)
            up, left = min(int(row), rows - 2), min(int(column), columns - 2)
            down, right = row - up, column - left
            result[:, y, x] = (
                (1 - down) * (1 - right) * maps[:, up, left]
                + (1 - down) * right * maps[:, up, left + 1]
                + down * (1 - right) * maps[:, up + 1, left]
                + down * right * maps[:, up + 1, left + 1]
            )
    return result


def _stretched(maps, size, **how):
    return F.interpolate(maps[:, None], size=size, **how)[:, 0]


def _size(maps, patch_size):
    return maps.shape[1] * patch_size, maps.shape[2] * patch_size


def _pixels_flat(maps, patch_size):
    return maps.repeat_interleave(patch_size, 1).repeat_interleave(patch_size, 2)


def _pixels_tiled(maps, patch_size):
    return maps.repeat(1, patch_size, patch_size)


def _pixels_corners(maps, patch_size):
    return _stretched(maps, _size(maps, patch_size), mode="bilinear", align_corners=True)


def _pixels_bicubic(maps, patch_size):
    return _stretched(maps, _size(maps, patch_size), mode="bicubic", align_corners=False)


def _pixels_turned(maps, patch_size):
    return _stretched(maps, _size(maps, patch_size)[::-1], mode="bilinear", align_corners=False)


def _pixels_with_channel(maps, patch_size):
    return F.interpolate(maps[:, None], size=_size(maps, patch_size), mode="bilinear", align_corners=False)


def _pixels_shared(maps, patch_size):
    return _stretched(maps, _size(maps, patch_size), mode="bilinear", align_corners=False) / patch_size**2


def _pixels_of_the_first_map(maps, patch_size):
    return _pixels_with_channel(maps, patch_size)[0]


def _pixels_without_channel(maps, patch_size):
    return F.interpolate(maps, size=_size(maps, patch_size), mode="bilinear", align_corners=False)


# ---------------------------------------------------------------------------------- 7.4 asked about a class


def _asked_cases(generator):
    for batch, heads, grid in ((2, 3, (3, 4)), (3, 4, (5, 2)), (2, 2, (2, 4))):
        shape = (batch, heads, 1 + math.prod(grid), 1 + math.prod(grid))
        attention = torch.randn(shape, generator=generator).mul(2).softmax(dim=-1)
        yield attention, torch.randn(shape, generator=generator), grid


def _asked_map(attention, gradient, grid_size):
    batch, heads, _, _ = attention.shape
    rows, columns = grid_size
    result = attention.new_zeros(batch, rows, columns)
    for b in range(batch):
        for row in range(rows):
            for column in range(columns):
                token = 1 + row * columns + column
                for head in range(heads):
                    product = attention[b, head, 0, token] * gradient[b, head, 0, token]
                    if product > 0:
                        result[b, row, column] += product / heads
    return result


def _on_grid(line, grid_size):
    return line.unflatten(-1, grid_size)


def _asked_signed(attention, gradient, grid_size):
    return _on_grid((attention * gradient)[:, :, 0, 1:].mean(1), grid_size)


def _asked_clamped_late(attention, gradient, grid_size):
    return _on_grid((attention * gradient)[:, :, 0, 1:].mean(1).clamp(min=0), grid_size)


def _asked_absolute(attention, gradient, grid_size):
    return _on_grid((attention * gradient)[:, :, 0, 1:].abs().mean(1), grid_size)


def _asked_attention_alone(attention, gradient, grid_size):
    return _on_grid(attention[:, :, 0, 1:].mean(1), grid_size)


def _asked_gradient_alone(attention, gradient, grid_size):
    return _on_grid(gradient[:, :, 0, 1:].clamp(min=0).mean(1), grid_size)


def _asked_column(attention, gradient, grid_size):
    return _on_grid((attention * gradient)[:, :, 1:, 0].clamp(min=0).mean(1), grid_size)


def _asked_shifted(attention, gradient, grid_size):
    return _on_grid((attention * gradient)[:, :, 0, :-1].clamp(min=0).mean(1), grid_size)


def _asked_sum(attention, gradient, grid_size):
    return _on_grid((attention * gradient)[:, :, 0, 1:].clamp(min=0).sum(1), grid_size)


def _asked_means_first(attention, gradient, grid_size):
    product = attention[:, :, 0, 1:].mean(1) * gradient[:, :, 0, 1:].mean(1)
    return _on_grid(product.clamp(min=0), grid_size)


def _asked_turned(attention, gradient, grid_size):
    return _on_grid((attention * gradient)[:, :, 0, 1:].clamp(min=0).mean(1), grid_size[::-1])


def _asked_matrix_product(attention, gradient, grid_size):
    return _on_grid((attention @ gradient)[:, :, 0, 1:].clamp(min=0).mean(1), grid_size)


def _asked_of_all_rows(attention, gradient, grid_size):
    return _on_grid((attention * gradient)[:, :, 1:, 1:].clamp(min=0).mean((1, 2)), grid_size)


def _asked_positive_heads_alone(attention, gradient, grid_size):
    product = (attention * gradient)[:, :, 0, 1:]
    kept = product > 0
    return _on_grid((product * kept).sum(1) / kept.sum(1).clamp(min=1), grid_size)


def _asked_strongest(attention, gradient, grid_size):
    return _on_grid((attention * gradient)[:, :, 0, 1:].clamp(min=0).amax(1), grid_size)


def _asked_first_head(attention, gradient, grid_size):
    return _on_grid((attention * gradient)[:, 0, 0, 1:].clamp(min=0), grid_size)


def _asked_added(attention, gradient, grid_size):
    return _on_grid((attention + gradient)[:, :, 0, 1:].clamp(min=0).mean(1), grid_size)


def _asked_against(attention, gradient, grid_size):
    return _on_grid((attention * gradient)[:, :, 0, 1:].clamp(max=0).mean(1), grid_size)


def _asked_against_positive(attention, gradient, grid_size):
    return -_asked_against(attention, gradient, grid_size)


def _asked_flat(attention, gradient, grid_size):
    return (attention * gradient)[:, :, 0, 1:].clamp(min=0).mean(1)


def _asked_own_entry_kept(attention, gradient, grid_size):
    rows, columns = grid_size
    return (attention * gradient).clamp(min=0).mean(dim=1)[:, 0].reshape(-1, rows, columns)


EXERCISES = [
    Exercise(
        "7.1",
        "a picture as the model takes it",
        cases=_picture_cases,
        oracle=_prepare,
        mistakes=[
            (_prepare_squeezed, "the whole picture is squeezed; cut out the largest centred square first."),
            (_prepare_corner, "the square is cut out at the upper left; take it from the middle."),
            (_prepare_far_corner, "the square is cut out at the lower right; take it from the middle."),
            (_prepare_zero_to_one, "this is in [0, 1]; the model was trained on [-1, 1]."),
            (_prepare_bytes, "this is still 0 to 255; divide by 127.5 and subtract 1."),
            (_prepare_nearest, "one pixel is picked from each block; the mean of the block is wanted."),
            (_prepare_tiny_crop, "a square of size × size is cut out; cut the largest one, and shrink it."),
            (
                _prepare_own_range,
                "this stretches each picture to its own range; 0 is -1 and 255 is 1 for all.",
            ),
            (
                _prepare_offsets_swapped,
                "the offsets are swapped: rows begin at (H - side) // 2, columns at (W - side) // 2.",
            ),
            (_prepare_blocks_of_size, "the blocks are `size` pixels wide; they are side // size."),
            (
                _prepare_bilinear,
                "this is bilinear, which looks at four pixels; the mean of the whole block is wanted.",
            ),
            (
                _prepare_antialiased,
                "this is bilinear with antialiasing, which reaches over the block; take its mean alone.",
            ),
            (
                _prepare_antialiased_bytes,
                "this is an antialiased resize to bytes; the mean of the block alone is wanted.",
            ),
            (
                _prepare_bicubic,
                "this is bicubic, of sixteen pixels, some counted negative; take the block's mean.",
            ),
            (
                _prepare_bicubic_antialiased,
                "this is bicubic with antialiasing, which overshoots; the mean of the block is wanted.",
            ),
            (_prepare_largest, "this is the largest pixel of each block; its mean is wanted."),
            (_prepare_rounded, "the means are rounded to bytes; keep what is behind the point."),
            (_prepare_cut_to_bytes, "the means are cut to bytes; keep what is behind the point."),
            (_prepare_padded, "the picture is padded to a square; cut the largest square out of it."),
            (_prepare_doubled, "this is in [0, 2]; subtract 1."),
            (_prepare_by_128, "this divides by 128, so that 255 stays below 1; divide by 127.5."),
            (_prepare_mean_of_bytes, "bytes cannot be averaged; make them floats first: `.float()`."),
        ],
    ),
    Exercise(
        "7.2",
        "the normalisation of other weights",
        cases=_norm_cases,
        oracle=_normalised,
        mistakes=[
            (_norm_of_bytes, "mean and std are for pixels in [0, 1]; divide by 255 first."),
            (
                _norm_last_axis,
                "mean and std meet the last axis, the columns; shape them (C, 1, 1) to meet the channels.",
            ),
            (_norm_divided_first, "the mean is subtracted after dividing; subtract it first."),
            (_norm_times, "this multiplies by std; divide by it."),
            (_norm_variance, "this divides by the variance; divide by std itself."),
            (_norm_googles, "this is [-1, 1] whatever mean and std are; use the ones given."),
            (_norm_own, "the image's own mean and deviation are used; use the ones given."),
            (_norm_channels_turned, "the channels are in reverse order, as for BGR; keep their order."),
            (_norm_joint, "one mean and one std serve all channels; each channel has its own."),
            (
                _norm_without_brackets,
                "only the mean is divided by std; subtract it first, with brackets around the difference.",
            ),
            (_norm_from_minus_one, "the pixels are in [-1, 1]; mean and std are for [0, 1]."),
            (_norm_whole_numbers, "`//` leaves 0 or 1 of each pixel; divide with `/`."),
            (_norm_image_by_image, "the first axis is the images; channels are the second, images[:, c]."),
            (_norm_added, "the mean is added; subtract it."),
            (_norm_by_256, "this divides by 256; the largest byte is 255, and becomes 1."),
            (_norm_mean_alone, "nothing is divided by std."),
            (_norm_std_alone, "the mean is not subtracted."),
            (_norm_swapped, "mean and std are swapped; subtract the mean, divide by std."),
            (
                _norm_scaled_as_well,
                "pixels are in [0, 1], mean and std were made 255 times as large: one or the other.",
            ),
            (_norm_of_lists, "mean and std are lists; make tensors of them, (C, 1, 1)."),
        ],
    ),
    Exercise(
        "7.3",
        "a map laid over the pixels",
        cases=_map_cases,
        oracle=_to_pixels,
        mistakes=[
            (_pixels_flat, "each patch is one flat square; go linearly from middle to middle."),
            (_pixels_tiled, "the whole map is repeated side by side; enlarge it instead."),
            (
                _pixels_corners,
                "corners lie on corners; a patch's value belongs to its middle (align_corners=False).",
            ),
            (_pixels_bicubic, "this is bicubic, and leaves the range of the map; linear is wanted."),
            (_pixels_turned, "height and width are swapped: a map is (B, rows, columns)."),
            (_pixels_with_channel, "the axis that interpolate needs for channels is still there."),
            (_pixels_shared, "the values are divided by P²; they stay as large as they were."),
            (
                _pixels_of_the_first_map,
                "only the first map is left; the channels' axis is the second: [:, 0].",
            ),
            (
                _pixels_without_channel,
                "`interpolate` wants (B, channels, h, w); give the maps one channel: maps[:, None].",
            ),
        ],
    ),
    Exercise(
        "7.4",
        "a map that can be asked about a class",
        cases=_asked_cases,
        oracle=_asked_map,
        mistakes=[
            (_asked_signed, "negative products are still in it; only what speaks for the class is wanted."),
            (_asked_clamped_late, "the heads are averaged first, and cancel; drop negatives head by head."),
            (_asked_absolute, "this takes absolute values; what is negative speaks against the class."),
            (_asked_attention_alone, "the gradient is not used, so no class was asked about."),
            (_asked_gradient_alone, "the attention is not used; weigh the gradient with it."),
            (_asked_column, "this is the class token's column; its row is what it takes in."),
            (_asked_shifted, "the row is cut at the wrong end: token 0 is the class token itself."),
            (_asked_sum, "the heads are summed; their mean is wanted."),
            (_asked_means_first, "the heads are averaged before multiplying; multiply head by head."),
            (_asked_turned, "rows and columns of the grid are swapped: grid_size is (rows, columns)."),
            (_asked_matrix_product, "`@` is the matrix product; multiply entry by entry, with `*`."),
            (_asked_strongest, "the heads' maximum is taken; their mean is wanted."),
            (_asked_first_head, "this is the first head alone; average over all of them."),
            (_asked_added, "attention and gradient are added; multiply them."),
            (_asked_against, "what is negative is kept; keep what is positive."),
            (_asked_against_positive, "this is what speaks against the class; keep what is positive."),
            (_asked_flat, "the patches are still in a line; lay them out on the grid."),
            (
                _asked_of_all_rows,
                "this is the mean over the patches' rows; the class token's, row 0, is wanted.",
            ),
            (
                _asked_positive_heads_alone,
                "the mean is over the positive heads alone; a negative one counts as 0 in the mean of all.",
            ),
            (
                _asked_own_entry_kept,
                "the class token's own entry is still there, one number more than patches; take [:, 0, 1:].",
            ),
        ],
    ),
]

PREDICTIONS = [
    Prediction(
        "7.a",
        "The cat's photo has 288 × 448 pixels. The model takes 48 × 48. "
        "How many numbers reach it, for each hundred in the photo?",
        [
            (
                "All of them, in smaller patches",
                "Patches are cut from 48 × 48 pixels; the photo is shrunk first.",
            ),
            (
                "About 64",
                "That much is left after cutting out the square. Then it is shrunk six times each way.",
            ),
            (
                "About 17",
                "48 of 288 is a sixth: but of the rows and of the columns, and the sides were cut off.",
            ),
            (
                "Fewer than two",
                "48 · 48 of 288 · 448 are 1.8 %. Every number that arrives is a mean of many.",
            ),
        ],
        right=3,
    ),
    Prediction(
        "7.b",
        "The model knows ten garments and has never been taught a cat. "
        "What do its ten probabilities for the cat sum to?",
        [
            ("0: there is no garment", "It has no way to say so: a softmax shares out exactly 1."),
            (
                "1, as for every picture",
                "The softmax always shares out exactly 1, be there a garment or not.",
            ),
            ("Much less than 1", "They may be even, 0.1 each, but they still sum to 1."),
            ("It depends on the photo", "Which class gets how much depends on it. The sum does not."),
        ],
        right=1,
    ),
    Prediction(
        "7.c",
        "Pixels in [0, 1] instead of [-1, 1]; 0 to 255; ImageNet's mean and deviation; red and blue swapped; "
        "nearest instead of averaged pixels. How many of these five raise an error?",
        [
            ("All five", "An error needs something that does not fit, and here shape and type always fit."),
            (
                "Two or three",
                "None of the five changes the shape or the type, which is all that is looked at.",
            ),
            ("Only 0 to 255", "To the first layer, 255 is a number like any other, only larger."),
            ("None", "Shape and type are right each time. You get an answer, and no word about it."),
        ],
        right=3,
    ),
    Prediction(
        "7.d",
        "You ask for another class than the one that the model chose. Which maps change?",
        [
            (
                "All of them",
                "Attention is made before there is any class; no class can enter a map made of it.",
            ),
            (
                "Those made of attention alone",
                "Attention is made before there is any class: just these stay.",
            ),
            (
                "Those with a gradient, and occlusion",
                "Both ask how this one class's score changes, with a small step or with a part hidden.",
            ),
            ("None of them", "A gradient is the gradient of something: of the logit of the class asked for."),
        ],
        right=2,
    ),
    Prediction(
        "7.e",
        "18 images were held out, and 15 of them are classified rightly: 83 %. "
        "In which range does the true accuracy lie, with 95 % confidence?",
        [
            ("About 60 % to 95 %", "With 18 images one more or less is 6 points, and chance moves several."),
            (
                "About 75 % to 90 %",
                "That would need about 100 images. Chance goes with the root of their number.",
            ),
            ("82 % to 84 %", "That would need about 5,000 images: 18 say very little."),
            (
                "It is 83 %, as measured",
                "On these 18. Another 18 of the same kind would give another number.",
            ),
        ],
        right=0,
    ),
    Prediction(
        "7.f",
        "You saved the model and send the file to a friend. What must you tell her besides?",
        [
            ("The patch size and the width", "They are in the file: the config is stored with the weights."),
            (
                "How good it is, and on which pictures that was measured",
                "No file of weights says it. With the card she knows, and can measure the same.",
            ),
            ("The position embeddings", "They are a tensor like any other, and are in the file."),
            (
                "What the classes are called",
                "Training has told the model, and the file keeps it. Other libraries' files often do not.",
            ),
        ],
        right=1,
    ),
    Prediction(
        "7.g",
        "Weights trained with one form of GELU (tanh) are loaded into a model with the other (erf). "
        "What do you notice?",
        [
            ("An error on loading", "A GELU has no weights, so nothing in the file can fail to fit."),
            ("Answers by chance", "The two curves are never further apart than half a thousandth."),
            (
                "Next to nothing: small differences",
                "They differ by 0.0005 at most: few answers change, if any.",
            ),
            ("Nothing: both are GELU", "They are two curves. Compare logits to many digits, and you see it."),
        ],
        right=2,
    ),
    Prediction(
        "7.h",
        "Each patch's features, hundreds of numbers, are brought down to three principal components over all "
        "pictures, and these are shown as red, green and blue. What will patches of one colour have in "
        "common?",
        [
            (
                "The colour that they have in the picture",
                "Some do. But by then a patch has seen the whole picture, and is more than its pixels.",
            ),
            (
                "Their place in the picture",
                "Positions are in the features, too, and fade with depth. Look at the same corner of each.",
            ),
            (
                "The kind of thing, or of ground, that they are part of",
                "The strongest directions part things from ground, and kinds of ground. Nobody named them.",
            ),
            (
                "The class of the picture",
                "Then each picture would have one colour. Features of patches differ within a picture.",
            ),
        ],
        right=2,
    ),
]


def quiz(
    *,
    image_size: int = 48,
    held_out: int = 71,
    fine_tuned: float = 0.65,
    from_scratch: float = 0.45,
    kept: float = 0.66,
    passed: float = 0.12,
) -> list[Question]:
    """Five questions: two accuracies on held-out images; which shares of right answers and of empty pictures
    are above 90 % confidence."""
    low, high = _interval(fine_tuned, held_out)
    low_scratch, high_scratch = _interval(from_scratch, held_out)
    apart = low > high_scratch or low_scratch > high
    ranges = f"{low:.0%} to {high:.0%}, and {low_scratch:.0%} to {high_scratch:.0%}"
    return [
        Question(
            "7.q1",
            f"On {held_out} held-out images the fine-tuned model is right in {fine_tuned:.0%}, the one from "
            f"scratch in {from_scratch:.0%}. The 95 % ranges of the true accuracy are {ranges}. What do you "
            "report?",
            [
                (
                    "The two accuracies; the larger one wins",
                    "Two numbers without their ranges hide how few images they come from.",
                ),
                (
                    "Both with ranges; they are told apart",
                    f"Two numbers are told apart where their ranges do not overlap. These are {ranges}.",
                ),
                (
                    "Both with ranges; they cannot be told apart",
                    f"That would be so where the ranges overlap. These are {ranges}.",
                ),
                (
                    "Nothing: with so few images no number counts",
                    "Few images give a wide range, and a range is something to report.",
                ),
            ],
            right=1 if apart else 2,
        ),
        Question(
            "7.q2",
            f"{kept:.0%} of the right answers and {passed:.0%} of the pictures without a garment had a "
            "confidence above 90 %. You trust only such answers. What becomes of the right ones?",
            [
                (
                    "All of them are kept",
                    "A right answer may be an unsure one. The threshold does not know what is right.",
                ),
                (
                    f"{1 - kept:.0%} of them are lost",
                    "What lies below the threshold is thrown away, right or not.",
                ),
                (f"{passed:.0%} of them are lost", "This is how many of the empty pictures come through."),
                (
                    "It depends on the pictures without a garment",
                    "These add wrong answers to those trusted. They take no right one away.",
                ),
            ],
            right=1,
        ),
        Question(
            "7.q3",
            f"You have weights for {image_size} × {image_size} pixels, and do not know how pixels were "
            "normalised. How do you find out?",
            [
                ("A wrong way raises an error", "None of those in section 3 did: the shapes all fit."),
                (
                    "The right way has the highest confidence",
                    "Reshaped pixels in section 3 had nearly as much of it, and answers hardly better than "
                    "chance.",
                ),
                (
                    "By the accuracy on images whose classes you know",
                    "Only this tells a right answer from a sure one.",
                ),
                (
                    "By looking at the filters",
                    "They are fitted to the range of the input, but no range can be read off them.",
                ),
            ],
            right=2,
        ),
        Question(
            "7.q4",
            "All weights of a model are shuffled, and one kind of map hardly changes. What does this map "
            "show?",
            [
                (
                    "What every model of this form has learnt",
                    "The shuffled model has learnt nothing, and gets the same map.",
                ),
                (
                    "Something about the picture, or the middle of it",
                    "What does not change with the weights cannot be about them.",
                ),
                (
                    "That the map is robust, and can be trusted",
                    "It is robust against the very thing that it is meant to explain.",
                ),
                (
                    "That shuffling did not work",
                    "Other kinds of maps of the same shuffled model changed altogether.",
                ),
            ],
            right=1,
        ),
        Question(
            "7.q5",
            "Table 2 of the paper gives 88.55 ± 0.04 for ViT-H/14 on ImageNet, whose test set has 50,000 "
            "images: mean and deviation of three fine-tuning runs. How surely is the true accuracy known?",
            [
                ("To 0.04 points", "This is how far runs differ that are all tested on the same images."),
                (
                    "To 0.04 / √3 points",
                    "More runs make the mean over runs surer. They do not make the test set larger.",
                ),
                (
                    "To about 0.14 points: the test set is a sample",
                    "√(0.8855 · 0.1145 / 50,000) is 0.0014. That part is the same in all three runs.",
                ),
                (
                    "Exactly: 50,000 images are enough",
                    "Enough for many purposes; and yet a draw of others would give another number.",
                ),
            ],
            right=2,
        ),
    ]


def _interval(share: float, number: int) -> tuple[float, float]:
    """The 95 % range of a true share (Wilson 1927)."""
    middle, spread = share + 1.92 / number, 1.96 * (share * (1 - share) / number + 0.96 / number**2) ** 0.5
    return (middle - spread) / (1 + 3.84 / number), (middle + spread) / (1 + 3.84 / number)
