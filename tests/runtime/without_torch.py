"""The beginning of a program for which only what a torch-free part needs can be imported."""

WITHOUT_TORCH = """
import sys
BLOCKED = ("torch", "torchvision", "pydantic", "optuna", "typer", "rich", "sqlalchemy", "pycocotools", "matplotlib",
    "safetensors", "filelock", "scipy", "sklearn", "onnx")
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ImportError(f"{name} is not to be imported")
sys.meta_path.insert(0, Blocked())
"""
