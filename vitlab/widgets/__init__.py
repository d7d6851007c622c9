"""Interactive explorers: controls, one picture, and a caption that says in words and numbers what it shows.

In a notebook, an explorer as the last expression of a cell is all there is to it::

    from vitlab import data
    from vitlab.widgets import PatchExplorer
    PatchExplorer(data.photos())

An explorer is driven from code as well as by hand, which is how it is tested::

    explorer.set(patch_size=32)     # as if the control had been moved; one redraw for all names given
    explorer.state                  # {"image": "coffee", "patch_size": 32, ...}
    explorer.picture                # the picture now, as PNG bytes
    explorer.caption                # the caption now, as plain text
    explorer.error                  # None, or what the last state raised
    explorer.reset()                # what the Reset button does

To write one, give `Explorer` a plain function from state to (picture, caption) and the controls that make up
the state; `patching.py` is the pattern to follow::

    def draw(layer, head):
        return tiles.colour(weights[layer - 1, head - 1]), f"Layer {layer}, head {head}: ..."

    Explorer(draw, {"layer": IntSlider(1, 1, 4, description="layer"), "head": ...}, size=(440, 440))

The picture is an RGB uint8 array or a PIL image (fast: see `tiles`), or a figure from `figure(size)` where
axes matter. A figure takes ten times as long: one that stays is drawn once, and marked where `places` says.
Everything expensive is computed before the explorer is built; `draw` only looks it up. Only what ipywidgets
7.7 and 8.1 share is used; nothing here touches pyplot.
"""

from vitlab.widgets.alike_patches import AlikePatchesExplorer
from vitlab.widgets.attention_analysis import AttentionMapExplorer
from vitlab.widgets.attention_step import AttentionStepExplorer
from vitlab.widgets.data_path import DataPathExplorer
from vitlab.widgets.embeddings import FilterExplorer, PositionExplorer
from vitlab.widgets.encoder import HeadExplorer
from vitlab.widgets.explorer import Explorer, figure
from vitlab.widgets.fine_tuning import LabelsExplorer, ResolutionExplorer
from vitlab.widgets.flexi import FlexiExplorer
from vitlab.widgets.head_construction import HeadConstructionExplorer
from vitlab.widgets.head_distances import HeadDistanceExplorer
from vitlab.widgets.image_sizes import ImageSizeExplorer
from vitlab.widgets.interventions import InterventionExplorer
from vitlab.widgets.live_curves import LiveCurves
from vitlab.widgets.patch_vector import PatchVectorExplorer
from vitlab.widgets.patching import PatchExplorer
from vitlab.widgets.pretraining import DebugExplorer, RecipeExplorer
from vitlab.widgets.training_panel import TrainingPanel
from vitlab.widgets.your_images import MapExplorer, PictureUpload

__all__ = [
    "AlikePatchesExplorer",
    "AttentionMapExplorer",
    "AttentionStepExplorer",
    "DataPathExplorer",
    "DebugExplorer",
    "Explorer",
    "FilterExplorer",
    "FlexiExplorer",
    "HeadConstructionExplorer",
    "HeadDistanceExplorer",
    "HeadExplorer",
    "LabelsExplorer",
    "ImageSizeExplorer",
    "InterventionExplorer",
    "LiveCurves",
    "MapExplorer",
    "PatchExplorer",
    "PatchVectorExplorer",
    "PictureUpload",
    "PositionExplorer",
    "RecipeExplorer",
    "ResolutionExplorer",
    "TrainingPanel",
    "figure",
]
