"""JSON files of annotation tools that are not COCO -> which tool it is."""

from __future__ import annotations

_EXPORT = "export the data from that tool as COCO, YOLO or Pascal VOC"
_WHOLE = "name the whole file, with its images and categories"

_TOP = {
    "LabelMe, for one image": {"shapes", "imagePath"},
    "VGG Image Annotator": {"_via_img_metadata"},
    "VoTT": {"assets"},
    "FiftyOne": {"samples"},
    "Supervisely": {"objects", "size"},
}
_ROW = {
    "Label Studio": {"annotations", "data"},
    "CreateML": {"annotations", "image"},
    "Labelbox": {"data_row"},
    "BDD100K or Scalabel": {"name", "labels"},
}
"""Keys of the whole, or of the first row of a list, that files of a tool have, and COCO's have not."""


def other_tool(document: object) -> tuple[str, str] | None:
    """Return what a JSON document is, as the end of "it looks like ...", and what to do; None if that is not known."""
    if isinstance(document, dict):
        regions = [value for value in document.values() if isinstance(value, dict) and "regions" in value]
        tool = "VGG Image Annotator" if regions and "filename" in regions[0] else _first(_TOP, document)
        return None if tool is None or "images" in document else (f"the file of {tool}", _EXPORT)
    if not isinstance(document, list) or not document or not isinstance(document[0], dict):
        return None
    if {"image_id", "category_id", "bbox"} <= document[0].keys():
        what = "detections" if "score" in document[0] else "the annotations of a file, without the rest"
        return what, _WHOLE
    tool = _first(_ROW, document[0])
    return None if tool is None else (f"the file of {tool}", _EXPORT)


def _first(keys_of: dict[str, set[str]], row: dict[str, object]) -> str | None:
    return next((tool for tool, keys in keys_of.items() if keys <= row.keys()), None)
