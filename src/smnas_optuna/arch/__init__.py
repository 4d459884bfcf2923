"""An architecture is plain data, and its canonical string is its name everywhere."""

from smnas_optuna.arch.baselines import BASELINES
from smnas_optuna.arch.codec import decode, describe, encode
from smnas_optuna.arch.constants import DetectorConstants
from smnas_optuna.arch.spec import (
    BackboneSpec,
    DetectorSpec,
    EncodedBackboneSpec,
    FcHeadSpec,
    HeadSpec,
    InputSize,
    NeckSpec,
    RetinaHeadSpec,
    RpnSpec,
)

__all__ = [
    "BASELINES",
    "BackboneSpec",
    "DetectorConstants",
    "DetectorSpec",
    "EncodedBackboneSpec",
    "FcHeadSpec",
    "HeadSpec",
    "InputSize",
    "NeckSpec",
    "RetinaHeadSpec",
    "RpnSpec",
    "decode",
    "describe",
    "encode",
]
