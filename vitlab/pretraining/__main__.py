"""`python -m vitlab.pretraining`: lesson 04 from a shell, masked patch prediction and the studies."""

import argparse
import sys

from torch import nn

from vitlab import studies
from vitlab.fine_tuning import adapt
from vitlab.pretraining.masked import TARGETS, MaskedPatchViT, masked_patch_prediction
from vitlab.pretraining.studies import STUDIES
from vitlab.training import command
from vitlab.vit import ViT

PROGRAM = "python -m vitlab.pretraining"


def main(arguments: list[str] | None = None) -> None:
    """Pre-train a ViT on masked patches, or run the studies of lesson 04."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["masked"]:
        task, choices = masked_patch_prediction, dict(target=TARGETS)
        command.main(arguments[1:], f"{PROGRAM} masked", task, to_predict_patches, choices)
        return
    parser = argparse.ArgumentParser(prog=PROGRAM, description=main.__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(required=True, dest="command")
    commands.add_parser("masked", help="pre-train a ViT on masked patches; masked --help has the options")
    study = commands.add_parser("study", help="run studies, or go on with them", allow_abbrev=False)
    studies.add_arguments(study, STUDIES)
    options = parser.parse_args(arguments)
    try:
        studies.from_command_line(options, STUDIES, f"{PROGRAM} study")
    except ValueError as error:
        study.error(str(error))


def to_predict_patches(model: nn.Module, target: str) -> MaskedPatchViT:
    """A classifier made ready to predict the mean colours or pixels of masked patches, without its head."""
    if not isinstance(model, ViT):
        raise ValueError(f"only a ViT has patches to mask; got a {type(model).__name__}: leave --model out")
    return MaskedPatchViT(adapt(model, num_classes=0), target)


if __name__ == "__main__":
    main()
