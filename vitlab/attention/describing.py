"""What an object says of itself: sizes, tokens, what its head reads. Never a guess."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor, nn

from vitlab.patches import as_pair

READS = ("token", "pair", "mean", "max", "mean+max", "mean_all", "max_all", "mean+max_all", "token+mean")
READS += ("attention", "tokens")


@dataclass
class Description:
    """What is known of a model; None is what its object does not say.

    `reads` is what the output is made of: "token" (the first prefix token), "pair" (the first two, class and
    distillation), "mean", "max" or "mean+max" (over the patches), "mean_all", "max_all" or "mean+max_all"
    (over prefix and patches), "token+mean" (side by side), "attention" (a pooling of its own), or "tokens"
    (nothing is pooled).
    """

    image_size: tuple[int, int] | None = None
    patch_size: tuple[int, int] | None = None
    num_prefix_tokens: int | None = None
    prefix: tuple[str, ...] = ()  # what the prefix tokens are, one by one, where that is known
    reads: str | None = None
    channels: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    blocks: Sequence[nn.Module] | None = None
    rounds_up: bool = False  # are pictures padded to whole patches, or cut?
    classifies: bool | None = None  # is the output one logit a class?
    parallel: bool = False  # may a block have several attentions side by side?
    call: Callable[[nn.Module, Tensor], Any] = lambda model, images: model(images)
    check_call: Callable[[tuple, dict], None] = lambda args, kwargs: None  # before a call that is recorded

    def __post_init__(self):
        for name in ("image_size", "patch_size"):
            if getattr(self, name) is not None:
                setattr(self, name, as_pair(getattr(self, name)))
        for name in ("mean", "std"):
            values = getattr(self, name)
            setattr(self, name, None if values is None else tuple(float(value) for value in values))

    def with_keywords(self, **given) -> "Description":
        """What the user says where the object is silent; raises ValueError where they say different things.

        An image size may differ, as some models take several; and where the model pools no tokens, the user
        knows what a head behind it reads.

        >>> Description(patch_size=16).with_keywords(num_prefix_tokens=1, patch_size=None).num_prefix_tokens
        1
        """
        said = {each.name: getattr(self, each.name) for each in fields(self)}
        given = vars(Description(**{name: value for name, value in given.items() if value is not None}))
        for name in ("patch_size", "num_prefix_tokens", "reads", "channels"):
            silent = said[name] in (None, "tokens") or given[name] is None
            if not silent and said[name] != given[name]:
                raise ValueError(f"the model says {name}={said[name]}; got {name}={given[name]}")
        names = ("image_size", "patch_size", "num_prefix_tokens", "reads", "channels", "mean", "std")
        return Description(**said | {name: given[name] for name in names if given[name] is not None})

    def check(self, model: nn.Module) -> None:
        """Raises ValueError that names the keywords for what has to be known and is not."""
        needed = dict(
            image_size="(height, width) in pixels",
            patch_size="(height, width) in pixels",
            num_prefix_tokens="how many tokens stand before the patches: class, distillation, registers",
            channels="of its images",
        )
        missing = [name for name in needed if getattr(self, name) is None]
        if missing:
            words = ", ".join(f"{name} ({needed[name]})" for name in missing)
            raise ValueError(
                f"{type(model).__name__} does not say {words}; give it as keyword: "
                f"attach(model, {', '.join(f'{name}=…' for name in missing)})"
            )
        if self.num_prefix_tokens < 0 or min(self.image_size + self.patch_size + (self.channels,)) < 1:
            raise ValueError(f"sizes are whole numbers from 1, prefix tokens from 0; got {words_of(self)}")
        if self.reads not in (None, *READS):
            raise ValueError(f"reads is one of {', '.join(READS)}; got {self.reads!r}")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if values is not None and len(values) not in (1, self.channels):
                raise ValueError(f"{name} has one number for each of {self.channels} channels; got {values}")

    def prefix_names(self) -> tuple[str, ...]:
        """A name for each token before the patches.

        >>> Description(num_prefix_tokens=2, prefix=prefix_of(1, 1)).prefix_names()
        ('class token', 'register 1')
        >>> Description(num_prefix_tokens=1).prefix_names()
        ('prefix token 1',)
        """
        if len(self.prefix) == self.num_prefix_tokens:
            return self.prefix
        return tuple(f"prefix token {number}" for number in range(1, self.num_prefix_tokens + 1))

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of patches in a picture of a size in pixels.

        >>> Description(patch_size=(16, 8)).grid((40, 64))
        (2, 8)
        """
        pairs = zip(size, self.patch_size, strict=True)
        return tuple(-(-side // patch) if self.rounds_up else side // patch for side, patch in pairs)


def prefix_of(class_tokens: int, registers: int = 0) -> tuple[str, ...]:
    """The names of prefix tokens: none, one or two class tokens, and registers after them.

    >>> prefix_of(1, registers=2)
    ('class token', 'register 1', 'register 2')
    """
    names = ("class token", "distillation token")[:class_tokens]
    return (*names, *(f"register {number}" for number in range(1, registers + 1)))


def words_of(description: Description) -> str:
    """The sizes of a description as text."""
    names = ("image_size", "patch_size", "num_prefix_tokens", "channels")
    return ", ".join(f"{name}={getattr(description, name)}" for name in names)


def first_channels(model: nn.Module) -> int | None:
    """The channels that the first convolution takes, or None where there is none.

    >>> first_channels(nn.Sequential(nn.Conv2d(3, 8, 4), nn.Conv2d(8, 8, 1)))
    3
    """
    return next((each.in_channels for each in model.modules() if isinstance(each, nn.Conv2d)), None)
