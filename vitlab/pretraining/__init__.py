"""Pre-training beyond one supervised run: the studies of lesson 04."""

from vitlab.pretraining.studies import MATCHED_RESNET, STUDIES, data_size

__all__ = ["MATCHED_RESNET", "STUDIES", "data_size"]
