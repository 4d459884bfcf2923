"""Architectures as plain data. The canonical string of an architecture is its name everywhere."""

from smnas_optuna.arch.baselines import BASELINES, find_spec
from smnas_optuna.arch.codec import canonical, decode, describe, encode, spellings
from smnas_optuna.arch.constants import NORMS, DetectorConstants
from smnas_optuna.arch.spec import (
    CASCADE_STAGES,
    EXTRA_LEVELS,
    AnyRpnSpec,
    BackboneSpec,
    CascadeHeadSpec,
    DetectorSpec,
    EncodedBackboneSpec,
    FcHeadSpec,
    GuidedRpnSpec,
    HeadSpec,
    InputSize,
    MobileNetSpec,
    NeckSpec,
    RetinaHeadSpec,
    RpnSpec,
)

__all__ = [
    "BASELINES",
    "CASCADE_STAGES",
    "EXTRA_LEVELS",
    "NORMS",
    "AnyRpnSpec",
    "BackboneSpec",
    "CascadeHeadSpec",
    "DetectorConstants",
    "DetectorSpec",
    "EncodedBackboneSpec",
    "FcHeadSpec",
    "GuidedRpnSpec",
    "HeadSpec",
    "InputSize",
    "MobileNetSpec",
    "NeckSpec",
    "RetinaHeadSpec",
    "RpnSpec",
    "canonical",
    "decode",
    "describe",
    "encode",
    "find_spec",
    "spellings",
]
