"""Annotations in several formats, read where they lie: nothing is converted, and nothing is written beside them.

Every format becomes the rows of a COCO annotation file, so that each check exists once
(:func:`smnas_optuna.data.coco.check_dataset`); messages name the file, and the line or the object, that a row is from.

=========  =============================================================================================
COCO       the files that ``[data]`` names
Roboflow   Roboflow's COCO export: ``train/_annotations.coco.json`` beside the images, ``valid/``, ``test/``
YOLO       ``data.yaml``, ``classes.txt`` or ``obj.names``; a text file of labels for each image
VOC        Pascal VOC: an XML file for each image; ``ImageSets/Main`` where it is there
=========  =============================================================================================
"""

from smnas_optuna.data.formats.one_split import load_one_split
from smnas_optuna.data.formats.read import annotation_files, load_datasets
from smnas_optuna.data.formats.recognise import Recognised, recognise

__all__ = ["Recognised", "annotation_files", "load_datasets", "load_one_split", "recognise"]
