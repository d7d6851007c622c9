"""Exercise 7.2: the normalisation of other weights."""

import torch

from vitlab.checks.engine import Exercise
from vitlab.checks.exercises.your_images._shared import random_bytes


def _norm_cases(generator):
    yield random_bytes(generator, 2, 3, 4, 5), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    yield random_bytes(generator, 3, 2, 4, 4), [0.2, 0.7], [0.1, 0.4]
    yield random_bytes(generator, 2, 4, 3, 6), [0.5, 0.4, 0.3, 0.6], [0.3, 0.2, 0.25, 0.5]


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


def _norm_first_axis(images, mean, std):
    return (images.float() / 255 - _column(mean)[:, None]) / _column(std)[:, None]


def _norm_rows(images, mean, std):
    return (images.float() / 255 - torch.tensor(mean)[:, None]) / torch.tensor(std)[:, None]


def _norm_root(images, mean, std):
    return (images.float() / 255 - _column(mean)) / _column(std).sqrt()


def _norm_own_of_channels(images, mean, std):
    pixels = images.float()
    return (pixels - pixels.mean((0, 2, 3), True)) / pixels.std((0, 2, 3), keepdim=True)


def _norm_own_of_all(images, mean, std):
    return (images.float() - images.float().mean()) / images.float().std()


def _norm_first_for_all(images, mean, std):
    return (images.float() / 255 - mean[0]) / std[0]


def _norm_stretched(images, mean, std):
    return _normalised(images, mean, std) * 2 - 1


def _norm_cut(images, mean, std):
    return _normalised(images, mean, std).clamp(0, 1)


def _norm_images_turned(images, mean, std):
    return _normalised(images.flip(1), mean, std)


def _norm_times_255(images, mean, std):
    return _normalised(images, mean, std) * 255


def _norm_first_image(images, mean, std):
    return _normalised(images, mean, std)[0]


def _norm_by_the_largest(images, mean, std):
    return (images.float() / images.max() - _column(mean)) / _column(std)


def _norm_channel_for_image(images, mean, std):
    result = images.float() / 255
    for c in range(len(mean)):
        result[c] = (result[c] - mean[c]) / std[c]
    return result


def _norm_imagenets(images, mean, std):
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    return (images.float() / 255 - _column(mean)) / _column(std)


def _norm_of_lists(images, mean, std):
    return (images / 255 - mean) / std


EXERCISE = Exercise(
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
        (
            _norm_first_axis,
            "mean and std meet the first axis, the images; shape them (C, 1, 1) to meet the channels.",
        ),
        (_norm_rows, "mean and std meet the rows; shape them (C, 1, 1) to meet the channels."),
        (_norm_root, "this divides by the root of std; std is a deviation already."),
        (_norm_own_of_channels, "each channel's own mean and deviation are used; use the ones given."),
        (_norm_own_of_all, "the mean and deviation of all these pixels are used; use the ones given."),
        (_norm_first_for_all, "the first channel's mean and std serve all; each channel has its own."),
        (_norm_stretched, "this is brought to another range afterwards; (x - mean) / std is all."),
        (_norm_cut, "the result is cut to [0, 1]; it goes below 0 and above 1."),
        (_norm_images_turned, "the images' channels are in reverse order; keep it."),
        (_norm_times_255, "the result is multiplied by 255; (x - mean) / std is all."),
        (_norm_first_image, "only the first image is left."),
        (_norm_by_the_largest, "this divides by the largest of these pixels; the largest byte is 255."),
        (_norm_channel_for_image, "`images[c]` is image c; channel c of all images is images[:, c]."),
        (_norm_imagenets, "this is ImageNet's mean and std, whatever is given."),
        (_norm_of_lists, "mean and std are lists; make tensors of them, (C, 1, 1)."),
    ],
)
