"""Annotations and images -> batches on the device."""

from smnas_optuna.data.augment import augment
from smnas_optuna.data.cache import CachePool, ImageCache
from smnas_optuna.data.coco import CocoDataset, ImageRecord, load_coco
from smnas_optuna.data.loader import DetectionLoader
from smnas_optuna.data.splits import Splits, load_apart, train_and_val
from smnas_optuna.data.start import load_splits

__all__ = [
    "CachePool",
    "CocoDataset",
    "DetectionLoader",
    "ImageCache",
    "ImageRecord",
    "Splits",
    "augment",
    "load_apart",
    "load_coco",
    "load_splits",
    "train_and_val",
]
