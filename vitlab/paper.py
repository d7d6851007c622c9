"""The paper's numbers as data (arXiv 2010.11929), each under its table's number. Accuracies are in per cent.

Figures 2 to 12 have no printed values and are therefore not here; nor is anything read off a plot.
"""

# Table 1: layers, hidden size D, MLP size, heads, parameters in millions.
TABLE_1 = {
    "ViT-Base": {"layers": 12, "embed_dim": 768, "mlp_dim": 3072, "num_heads": 12, "parameters": 86},
    "ViT-Large": {"layers": 24, "embed_dim": 1024, "mlp_dim": 4096, "num_heads": 16, "parameters": 307},
    "ViT-Huge": {"layers": 32, "embed_dim": 1280, "mlp_dim": 5120, "num_heads": 16, "parameters": 632},
}

# Table 2: mean accuracy and standard deviation over three fine-tuning runs (None: not given); the last row is
# TPUv3-core-days of pre-training.
TABLE_2 = {
    "ImageNet": {
        "ViT-H/14 JFT": (88.55, 0.04),
        "ViT-L/16 JFT": (87.76, 0.03),
        "ViT-L/16 I21k": (85.30, 0.02),
        "BiT-L R152x4": (87.54, 0.02),
    },
    "ImageNet ReaL": {
        "ViT-H/14 JFT": (90.72, 0.05),
        "ViT-L/16 JFT": (90.54, 0.03),
        "ViT-L/16 I21k": (88.62, 0.05),
        "BiT-L R152x4": (90.54, None),
    },
    "CIFAR-10": {
        "ViT-H/14 JFT": (99.50, 0.06),
        "ViT-L/16 JFT": (99.42, 0.03),
        "ViT-L/16 I21k": (99.15, 0.03),
        "BiT-L R152x4": (99.37, 0.06),
    },
    "CIFAR-100": {
        "ViT-H/14 JFT": (94.55, 0.04),
        "ViT-L/16 JFT": (93.90, 0.05),
        "ViT-L/16 I21k": (93.25, 0.05),
        "BiT-L R152x4": (93.51, 0.08),
    },
    "Pets": {
        "ViT-H/14 JFT": (97.56, 0.03),
        "ViT-L/16 JFT": (97.32, 0.11),
        "ViT-L/16 I21k": (94.67, 0.15),
        "BiT-L R152x4": (96.62, 0.23),
    },
    "Flowers": {
        "ViT-H/14 JFT": (99.68, 0.02),
        "ViT-L/16 JFT": (99.74, 0.00),
        "ViT-L/16 I21k": (99.61, 0.02),
        "BiT-L R152x4": (99.63, 0.03),
    },
    "VTAB (19 tasks)": {
        "ViT-H/14 JFT": (77.63, 0.23),
        "ViT-L/16 JFT": (76.28, 0.46),
        "ViT-L/16 I21k": (72.72, 0.21),
        "BiT-L R152x4": (76.29, 1.70),
    },
    "TPUv3-core-days": {
        "ViT-H/14 JFT": (2500, None),
        "ViT-L/16 JFT": (680, None),
        "ViT-L/16 I21k": (230, None),
        "BiT-L R152x4": (9900, None),
    },
}

# Table 3: training on each data set (batch 4096, 10,000 warm-up steps, 224 px); a selection of its rows.
TABLE_3 = {
    ("ViT-B", "JFT-300M"): dict(epochs=7, learning_rate=8e-4, decay="linear", weight_decay=0.1, dropout=0.0),
    ("ViT-L/16", "JFT-300M"): dict(
        epochs=14, learning_rate=4e-4, decay="linear", weight_decay=0.1, dropout=0.0
    ),
    ("ViT-H/14", "JFT-300M"): dict(
        epochs=14, learning_rate=3e-4, decay="linear", weight_decay=0.1, dropout=0.0
    ),
    ("ViT-B", "ImageNet-21k"): dict(
        epochs=90, learning_rate=1e-3, decay="linear", weight_decay=0.03, dropout=0.1
    ),
    ("ViT-L", "ImageNet-21k"): dict(
        epochs=90, learning_rate=1e-3, decay="linear", weight_decay=0.03, dropout=0.1
    ),
    ("ViT", "ImageNet"): dict(epochs=300, learning_rate=3e-3, decay="cosine", weight_decay=0.3, dropout=0.1),
}

# Table 4: fine-tuning (SGD with momentum 0.9, batch 512, cosine, no weight decay, clipping at 1, 384 px).
TABLE_4 = {
    "ImageNet": {"steps": 20_000, "learning_rates": (0.003, 0.01, 0.03, 0.06)},
    "CIFAR-100": {"steps": 10_000, "learning_rates": (0.001, 0.003, 0.01, 0.03)},
    "CIFAR-10": {"steps": 10_000, "learning_rates": (0.001, 0.003, 0.01, 0.03)},
    "Pets": {"steps": 500, "learning_rates": (0.001, 0.003, 0.01, 0.03)},
    "Flowers": {"steps": 500, "learning_rates": (0.001, 0.003, 0.01, 0.03)},
    "VTAB (19 tasks)": {"steps": 2_500, "learning_rates": (0.01,)},
}

# Table 5: ImageNet accuracy at 384 px by pre-training set (None: not trained).
TABLE_5 = {
    "ImageNet": {"B/16": 77.91, "B/32": 73.38, "L/16": 76.53, "L/32": 71.16, "H/14": None},
    "ImageNet-21k": {"B/16": 83.97, "B/32": 81.28, "L/16": 85.15, "L/32": 80.99, "H/14": 85.13},
    "JFT-300M": {"B/16": 84.15, "B/32": 80.73, "L/16": 87.12, "L/32": 84.37, "H/14": 88.04},
}

# The sets of table 5: images and classes (section 4.1).
PRETRAINING_SETS = {
    "ImageNet": {"images": 1_300_000, "classes": 1_000},
    "ImageNet-21k": {"images": 14_000_000, "classes": 21_000},
    "JFT-300M": {"images": 303_000_000, "classes": 18_000},
}

# Table 6: pre-trained on JFT-300M: (model, epochs): ImageNet accuracy, exaFLOPs of pre-training.
TABLE_6 = {
    ("ViT-B/32", 7): (80.73, 55),
    ("ViT-B/16", 7): (84.15, 224),
    ("ViT-L/32", 7): (84.37, 196),
    ("ViT-L/16", 7): (86.30, 783),
    ("ViT-L/16", 14): (87.12, 1567),
    ("ViT-H/14", 14): (88.08, 4262),
    ("R50x1", 7): (77.54, 50),
    ("R50x2", 7): (82.12, 199),
    ("R101x1", 7): (80.67, 96),
    ("R152x1", 7): (81.88, 141),
    ("R152x2", 7): (84.97, 563),
    ("R152x2", 14): (85.56, 1126),
    ("R200x3", 14): (87.22, 3306),
    ("R50+ViT-B/32", 7): (84.90, 106),
    ("R50+ViT-B/16", 7): (85.58, 274),
    ("R50+ViT-L/32", 7): (85.68, 246),
    ("R50+ViT-L/16", 7): (86.60, 859),
    ("R50+ViT-L/16", 14): (87.12, 1668),
}

# Table 8: ViT-B/16, ImageNet 5-shot linear accuracy, by kind of position embedding and where it is added.
TABLE_8 = {
    "none": {"stem": 61.382},
    "1-D": {"stem": 64.206, "every layer": 63.964, "every layer, shared": 64.292},
    "2-D": {"stem": 64.001, "every layer": 64.046, "every layer, shared": 64.022},
    "relative": {"stem": 64.032},
}

# BERT-Base (arXiv 1810.04805, section 3), the encoder that ViT-Base takes over. Its paper says about 30,000
# word pieces; the vocabulary of the released uncased model has 30,522. Appendix A.2: at most 512 tokens.
BERT_BASE = {
    "layers": 12,
    "embed_dim": 768,
    "mlp_dim": 3072,
    "num_heads": 12,
    "parameters": 110,
    "vocabulary": 30_522,
    "positions": 512,
    "segments": 2,
}
