"""A notebook with every explorer, each of which forgets what it has drawn."""

from pathlib import Path

import lab
import latency
import nbformat
import notebook_tools as tools
from playwright.sync_api import Locator, Page

SETUP = """\
import torch
import vitlab
from vitlab.fine_tuning import few_label_results
from vitlab.studies import read_results
from vitlab.widgets import *

test = vitlab.data.fashion_mnist("test")
model = vitlab.load_checkpoint(vitlab.checkpoints.bundled("fashion_mnist_vit"))
images = {"first": test.images[0], "second": test.images[1]}
with vitlab.record_attention(model) as record, torch.no_grad():
    model(vitlab.data.normalise(test.images[:1]))
by_size = vitlab.load_checkpoint(vitlab.checkpoints.bundled("scenes_vit"))
scene = vitlab.data.scenes(1, 0, 48, split="test")
labels, tables = few_label_results(read_results("few_labels"), "cut-outs")"""

EXPLORERS = {
    "DataPathExplorer": "DataPathExplorer(model, images, test.classes)",
    "PatchExplorer": "PatchExplorer(vitlab.data.photos())",
    "PatchVectorExplorer": "PatchVectorExplorer(vitlab.data.photos())",
    "FilterExplorer": 'FilterExplorer({"a": model.patch_embed, "b": vitlab.PatchEmbed(4, 1, 96)}, images)',
    "PositionExplorer": 'PositionExplorer({"a": model.pos_embed[0, 1:], "b": torch.eye(49)}, (7, 7))',
    "HeadConstructionExplorer": "HeadConstructionExplorer()",
    "AttentionStepExplorer": "AttentionStepExplorer(model, images)",
    "HeadExplorer": "HeadExplorer(model, images)",
    "RecipeExplorer": "RecipeExplorer(test, test.subset(100))",
    "DebugExplorer": "DebugExplorer(test, test.subset(100), steps=10)",
    "LabelsExplorer": "LabelsExplorer(test, tables, labels)",
    "ResolutionExplorer": "ResolutionExplorer(model, test.subset([0, 1]), list(images), [20, 28, 40, 56])",
    "AttentionMapExplorer": "AttentionMapExplorer(model, images)",
    "HeadDistanceExplorer": "HeadDistanceExplorer(record.weights, model.config)",
    "InterventionExplorer": "InterventionExplorer(model, images, test)",
    "FlexiExplorer": "FlexiExplorer(model, images, test.subset(range(100)), [2, 4, 7, 14])",
    "AlikePatchesExplorer": "AlikePatchesExplorer(\n"
    "    lambda size: vitlab.fine_tuning.adapt(by_size, image_size=size), vitlab.data.photos(), [48, 64]\n)",
    "MapExplorer": "MapExplorer(\n"
    '    vitlab.load_checkpoint(vitlab.checkpoints.bundled("scenes_vit")),\n'
    '    {"scene": scene.images[0], **vitlab.data.photos()}, test.classes\n)',
}


def write(folder: Path) -> str:
    """Write the notebook into the folder that JupyterLab serves; returns its name."""
    cells = [nbformat.v4.new_code_cell(source) for source in (latency.FORGET, SETUP, *EXPLORERS.values())]
    tools.write(nbformat.v4.new_notebook(cells=cells, metadata=tools.METADATA), folder / "explorers.ipynb")
    return "explorers"


def find(page: Page, name: str) -> Locator:
    """The explorer of this class, in sight."""
    explorer = page.locator(lab.EXPLORERS).nth(list(EXPLORERS).index(name))
    explorer.scroll_into_view_if_needed()
    return explorer
