"""An exported detector at work, without torch: its description, the runtimes that run it, images in, detections out.

Importing it, or anything in it, needs numpy and Pillow; running a detector needs its runtime. It is all that a machine
needs that only detects, so nothing here imports torch, pydantic or Optuna.
"""
