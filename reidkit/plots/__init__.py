"""Every picture of the course: plain functions from arrays and DataFrames to a matplotlib figure.

`people` draws crops (sheets, ranked lists, activation maps), `embeddings` draws points (t-SNE, PCA), `charts`
draws results and `counts` draws data sets and matrices. All of them keep to one visual language:

- **camera = colour, identity = marker**, in every figure of every notebook. Colours are Okabe and Ito's,
  which people with any common colour vision can tell apart, and no meaning rests on colour alone: cameras
  carry their number, right answers a tick, wrong ones a cross.
- Cameras are named as the file names and the papers name them, from 1: `c1` is camid 0.
- Metrics come as fractions, as `evaluate` returns them, and are printed in percent.

A function returns a `Picture`, which a notebook shows when it is a cell's last value (or through `display`)
and which `savefig` writes. pyplot is never touched: no figure stays open, no "current" figure changes, and
matplotlib's settings are as they were. Anything about a picture can be changed afterwards through
`picture.axes`.
"""

from .charts import ablation_chart, cmc_curve, dial_chart, loss_curves
from .counts import camera_pair_heatmap, identities_per_camera, images_per_identity, similarity_histogram
from .diagrams import pipeline
from .embeddings import embedding_map, embedding_maps
from .graphs import association_graph
from .people import activation_overlay, contact_sheet, dial, protocol_picture, ranked_lists
from .style import Picture, camera_colours

__all__ = [
    "Picture",
    "ablation_chart",
    "activation_overlay",
    "association_graph",
    "camera_colours",
    "camera_pair_heatmap",
    "cmc_curve",
    "contact_sheet",
    "dial",
    "dial_chart",
    "embedding_map",
    "embedding_maps",
    "identities_per_camera",
    "images_per_identity",
    "loss_curves",
    "pipeline",
    "protocol_picture",
    "ranked_lists",
    "similarity_histogram",
]
