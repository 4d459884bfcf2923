from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin

import pytest
from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, ValidationError

from smnas_optuna.arch import CASCADE_STAGES, NORMS, DetectorConstants, decode
from smnas_optuna.arch.spec import BACKBONE_FAMILIES
from smnas_optuna.config import SearchSettings, StructuralSpace, StudySettings, TrainSettings, load_settings
from smnas_optuna.config.settings import Settings
from smnas_optuna.errors import ConfigError
from smnas_optuna.search_space import StructuralSearchSpace

ARCH = "64x48.resnet18-w8.fpn-p2-p5-c16.rpn.fc-w32"
OTHER = "64x48.resnet18-w8.fpn-p3-p6-c16.none.retina"
MINIMAL = f"""
[search]
baselines = ["{ARCH}"]
"""
STUDIES = sorted((Path(__file__).parents[2] / "studies").glob("*/study.toml"))


@pytest.fixture
def study_dir(tmp_path: Path) -> Path:
    (tmp_path / "study.toml").write_text(MINIMAL)
    return tmp_path


def _refusal(study_dir: Path, toml: str) -> ConfigError:
    (study_dir / "study.toml").write_text(toml, encoding="utf-8")
    with pytest.raises(ConfigError) as refusal:
        load_settings(study_dir)
    assert refusal.value.message.startswith(f"{study_dir / 'study.toml'}: ")
    return refusal.value


def _with(toml: str, study_dir: Path) -> StudySettings:
    (study_dir / "study.toml").write_text(toml, encoding="utf-8")
    return load_settings(study_dir)


def test_a_minimal_file_has_the_defaults(study_dir: Path) -> None:
    settings = load_settings(study_dir)

    assert settings.search.baselines == (ARCH,)
    assert (settings.search.trials, settings.search.population, settings.search.seed) == (60, 10, 0)
    assert settings.detector.constants() == DetectorConstants()
    assert (settings.train.epochs, settings.train.batch_size, settings.train.optimizer) == (12, 16, "adamw")
    assert settings.data.train == "instances_train.json"
    assert settings.data.val is None
    assert settings.data.shapes is None
    assert settings.space.structural == StructuralSpace()


@pytest.mark.parametrize(
    ("modular", "individuals"),
    [
        ("", 5),
        ("trials = 600", 50),
        ("trials = 600\nparents = 1", 150),
        ("trials = 12", 4),
        ("population = 7", 7),
        ("population = 2\ntrials = 600", 2),
    ],
)
def test_a_generation_of_stage_2_is_a_quarter_of_a_parents_share(
    study_dir: Path, modular: str, individuals: int
) -> None:
    text = (study_dir / "study.toml").read_text(encoding="utf-8")

    assert _with(f"{text}\n[modular]\n{modular}\n", study_dir).modular.individuals == individuals


def test_the_surrogate_is_on_by_default_and_can_be_switched_off(study_dir: Path) -> None:
    assert load_settings(study_dir).search.surrogate
    assert not SearchSettings(surrogate=False).surrogate


def test_the_default_space_is_the_papers() -> None:
    space = StructuralSpace()

    assert space.backbones == BACKBONE_FAMILIES
    assert (space.necks, space.neck_extras) == (("c4", "fpn"), ("pool", "conv_c5"))
    assert space.rpns == ("rpn", "ga")
    assert space.heads == ("retina", "fc", *(f"cascade{stages}" for stages in CASCADE_STAGES))


def test_a_space_without_a_pyramid_has_roi_heads_only(study_dir: Path) -> None:
    settings = _with(MINIMAL + "[space.structural]\nnecks = ['c4']\nheads = ['fc', 'cascade3']", study_dir)

    assert settings.space.structural.necks == ("c4",)


@pytest.mark.parametrize("norm", NORMS)
def test_every_norm_can_be_set(study_dir: Path, norm: str) -> None:
    assert _with(f"{MINIMAL}[detector]\nnorm = '{norm}'", study_dir).detector.constants().norm == norm


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.parent.name)
def test_every_study_of_the_repository_loads_and_its_space_holds_its_baselines(path: Path) -> None:
    settings = load_settings(path.parent)

    assert settings.search.baselines
    for arch in settings.search.baselines:
        assert StructuralSearchSpace(settings.space.structural).genome(decode(arch))


def test_every_table_is_read(study_dir: Path) -> None:
    settings = _with(
        f"""
        [data]
        train = "a.json"
        val = "b.json"
        drop_empty_boxes = true
        [data.shapes]
        train_images = 8
        val_images = 4
        [space.structural]
        input_sizes = ["64x48", "96x64"]
        neck_min_levels = [2]
        necks = ["fpn"]
        neck_max_levels = [5, 7]
        neck_extras = ["conv_p5"]
        rpns = ["ga"]
        heads = ["cascade4", "retina"]
        [search]
        trials = 3
        baselines = ["{ARCH}", "{OTHER}"]
        [detector]
        anchor_scale = 4
        guided_proposals = 50
        guided_roi_samples = 20
        norm = "bn"
        [train]
        scale_jitter = [1.0, 1.0]
        [latency]
        reference = "{OTHER}"
        precision = 0.05
        """,
        study_dir,
    )

    assert (settings.data.train, settings.data.val, settings.data.drop_empty_boxes) == ("a.json", "b.json", True)
    assert settings.data.shapes is not None
    assert (settings.data.shapes.train_images, settings.data.shapes.width) == (8, 256)
    space = settings.space.structural
    assert space.input_sizes == ("64x48", "96x64")
    assert (space.necks, space.neck_max_levels, space.neck_extras) == (("fpn",), (5, 7), ("conv_p5",))
    assert (space.rpns, space.heads) == (("ga",), ("cascade4", "retina"))
    assert settings.detector.constants() == DetectorConstants(
        anchor_scale=4.0, guided_proposals=50, guided_roi_samples=20, norm="bn"
    )
    assert settings.train.scale_jitter == (1.0, 1.0)
    assert settings.latency.precision == 0.05


def test_the_reference_is_the_first_baseline_unless_one_is_named(study_dir: Path) -> None:
    assert load_settings(study_dir).reference == ARCH
    assert _with(f'{MINIMAL}\n[latency]\nreference = "{OTHER}"', study_dir).reference == OTHER
    assert _with(f'[latency]\nreference = "{OTHER}"', study_dir).reference == OTHER


def test_settings_cannot_be_changed(study_dir: Path) -> None:
    settings = load_settings(study_dir)

    with pytest.raises(ValidationError, match="frozen"):
        settings.train.epochs = 3  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        settings.search = settings.search  # type: ignore[misc]


@pytest.mark.parametrize(
    ("search", "epochs", "rungs"),
    [
        ("", 12, (3,)),
        ("", 8, (2,)),
        ("", 4, (1,)),
        ("", 3, ()),
        ("", 1, ()),
        ("rungs = []", 12, ()),
        ("rungs = [2, 11]", 12, (2, 11)),
    ],
)
def test_rungs_are_a_quarter_of_the_epochs_unless_some_are_named(
    study_dir: Path, search: str, epochs: int, rungs: tuple[int, ...]
) -> None:
    toml = MINIMAL.replace("[search]", f"[search]\n{search}") + f"[train]\nepochs = {epochs}"

    assert _with(toml, study_dir).rungs == rungs


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (
            "rungs = [2, 4]",
            "the study: `rungs < epochs` must hold, but got ([search] rungs = [2, 4], [train] epochs = 4)",
        ),
        ("rungs = [2, 1]", "search.rungs: epochs must ascend, each above the one before, but got [2, 1]"),
        ("rungs = [1, 1]", "search.rungs: epochs must ascend, each above the one before, but got [1, 1]"),
        ("rungs = [0]", "search.rungs.0: Input should be greater than 0, but got 0"),
        ("rungs = 1", "search.rungs: Input should be a valid tuple, but got 1"),
        ("rung_margin = 1.5", "search.rung_margin: Input should be less than or equal to 1, but got 1.5"),
        ("rung_margin = -0.5", "search.rung_margin: Input should be greater than or equal to 0, but got -0.5"),
    ],
)
def test_rungs_that_cannot_be_are_refused(study_dir: Path, search: str, message: str) -> None:
    toml = MINIMAL.replace("[search]", f"[search]\n{search}") + "[train]\nepochs = 4"

    assert message in _refusal(study_dir, toml).message


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[train]\nepochs = 0", "train.epochs: Input should be greater than 0, but got 0"),
        ("[train]\nepochs = 1.5", "train.epochs: Input should be a valid integer, but got 1.5"),
        ("[train]\nepochs = 'many'", "train.epochs: Input should be a valid integer"),
        ("[train]\nlearning_rate = nan", "train.learning_rate: Input should be"),
        ("[train]\nlearning_rate = inf", "train.learning_rate: Input should be a finite number, but got inf"),
        ("[train]\noptimizer = 'lion'", "train.optimizer: Input should be 'adamw' or 'sgd', but got 'lion'"),
        ("[train]\nwarmup = 1.0", "train.warmup: Input should be less than 1, but got 1.0"),
        ("[train]\nflip = 1.5", "train.flip: Input should be less than or equal to 1, but got 1.5"),
        (
            "[train]\nscale_jitter = [1.2, 0.8]",
            "train.scale_jitter: `low <= high` must hold, but got (low=1.2, high=0.8)",
        ),
        ("[train]\nscale_jitter = [1.2]", "train.scale_jitter.1: Field required"),
        ("[data]\ntrain = 3", "data.train: Input should be a valid string, but got 3"),
        ("[data]\nval_fraction = 0", "data.val_fraction: Input should be greater than 0, but got 0"),
        ("[data.shapes]\ntrain_images = 3", "data.shapes.val_images: Field required"),
        ("[latency]\nprecision = 1.0", "latency.precision: Input should be less than 1, but got 1.0"),
        ("[detector]\nscore_threshold = 1", "detector.score_threshold: Input should be less than 1, but got 1"),
        ("[space.structural]\nheads = []", "space.structural.heads: Tuple should have at least 1 item"),
        (
            "[space.structural]\nheads = ['cascade']",
            "space.structural.heads.0: Input should be 'retina', 'fc', 'cascade2', 'cascade3' or 'cascade4'",
        ),
        (
            "[space.structural]\nheads = ['cascade5']",
            "space.structural.heads.0: Input should be 'retina', 'fc', 'cascade2', 'cascade3' or 'cascade4', "
            "but got 'cascade5'",
        ),
        ("[space.structural]\nnecks = ['none']", "space.structural.necks.0: Input should be 'c4' or 'fpn', but got 'n"),
        ("[space.structural]\nrpns = ['none']", "space.structural.rpns.0: Input should be 'rpn' or 'ga', but got 'no"),
        (
            "[space.structural]\nneck_extras = ['pool', 'convc5']",
            "space.structural.neck_extras.1: the pyramid's extra levels: 'convc5' is not known; "
            "take one of pool, conv_c5, conv_p5",
        ),
        ("[space.structural]\nneck_extras = []", "space.structural.neck_extras: Tuple should have at least 1 item"),
        (
            "[space.structural]\nnecks = ['c4']",
            "space.structural: `retina` among the heads needs a pyramid, but `fpn` is not among the necks",
        ),
        ("[detector]\nnorm = 'ln'", "detector.norm: Input should be 'gn' or 'bn', but got 'ln'"),
        ("[detector]\nguided_proposals = 0", "detector.guided_proposals: Input should be greater than 0"),
        ("[space.structural]\nbackbones = ['vgg']", "space.structural.backbones.0: backbone: 'vgg' is not known; take"),
        (
            "[space.structural]\nbackbone_widths = [2]",
            "space.structural.backbone_widths.0: head: a width of 2 channels",
        ),
        ("[space.structural]\nneck_min_levels = [2, 5]", "space.structural.neck_min_levels.1: the pyramid's first"),
        (
            "[space.structural]\nneck_max_levels = [9]",
            "space.structural.neck_max_levels.0: the pyramid's last level: 9",
        ),
        (
            "[space.structural]\ninput_sizes = ['48x64']",
            "space.structural.input_sizes.0: input size 48x64: 32 <= short",
        ),
        (
            "[space.structural]\ninput_sizes = ['64x48', '064x48']",
            "space.structural.input_sizes.1: input size '064x48' is 64x48; write it without zeros in front",
        ),
        ("[space.structural]\ninput_sizes = ['64']", "space.structural.input_sizes.0: input size '64' cannot be read"),
        ("[space.structural]\nneck_channels = [8, 4, 8]", "space.structural.neck_channels: 8 is listed twice"),
        ("[ray]\ngpus = 1.5", "ray.gpus: it must be a whole number, or less than 1, but got 1.5"),
        (
            "[latency]\nruntime = 'cuda'",
            "latency: runtime = 'cuda' is for a device with a stopwatch, and device is not set; a GPU of this machine",
        ),
        (
            "[latency]\nruntime = 'graph'\ndevice = 'http://a:1'",
            "latency: a stopwatch runs exported files, but got runtime = 'graph' (device is set)",
        ),
        ("[latency]\nreference = 'r50'", "latency.reference: architecture 'r50': 1 modules instead of 5"),
    ],
)
def test_an_impossible_value_is_refused_with_its_place(study_dir: Path, toml: str, message: str) -> None:
    refusal = _refusal(study_dir, MINIMAL + toml)

    assert refusal.message.startswith(f"{study_dir / 'study.toml'}: {message}")
    assert refusal.fix == "correct that value"


def test_a_baseline_that_is_no_architecture_is_refused_with_its_number(study_dir: Path) -> None:
    bad = ARCH.replace("w8", "w08")

    refusal = _refusal(study_dir, f'[search]\nbaselines = ["{ARCH}", "{bad}"]')

    assert f"search.baselines.1: architecture '{bad}' is not written canonically; write {ARCH}" in refusal.message


def test_a_study_without_reference_is_refused(study_dir: Path) -> None:
    refusal = _refusal(study_dir, "[search]\ntrials = 3")

    assert "[latency] reference must be set if [search] baselines is empty" in refusal.message


def test_choices_are_counted_in_a_moment(study_dir: Path) -> None:
    sizes = [f"{long}x{short}" for long in range(400, 500) for short in range(100, 140)]

    refusal = _refusal(study_dir, f"{MINIMAL}[space.structural]\ninput_sizes = {sizes}")

    assert "space.structural.input_sizes: Tuple should have at most 1000 items" in refusal.message


def _numbers(model: type[Settings], table: str = "") -> Iterator[tuple[str, list[object]]]:
    """The place of every number of a study file, and its constraints."""
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *get_args(field.annotation)]
        tables = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Settings)]
        if tables:
            yield from _numbers(tables[0], f"{table}{name}.")
        elif any(kind in (int, float) for kind in _plain(field.annotation)):
            yield f"{table}{name}", [*field.metadata, *_constraints(field.annotation)]


def _plain(annotation: object) -> list[object]:
    """The annotation without ``Annotated``, unions and tuples."""
    inside = get_args(annotation)
    if not inside or get_origin(annotation) is Literal:
        return [annotation]
    if get_origin(annotation) is Annotated:
        return _plain(inside[0])
    return [plain for part in inside for plain in _plain(part)]


def _constraints(annotation: object) -> list[object]:
    if get_origin(annotation) is Annotated:
        _, *found = get_args(annotation)
        flat = [each for found_one in found for each in (getattr(found_one, "metadata", None) or [found_one])]
        return [*flat, *_constraints(get_args(annotation)[0])]
    return [found for part in get_args(annotation) for found in _constraints(part)]


NUMBERS = dict(_numbers(StudySettings))


def test_all_tables_have_numbers() -> None:
    assert len(NUMBERS) > 45
    assert {name.rpartition(".")[0] for name in NUMBERS} >= {"train", "search", "data.shapes", "space.structural"}


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_has_a_lower_and_an_upper_bound(name: str) -> None:
    found = NUMBERS[name]
    checked_by_a_spec = any(isinstance(each, AfterValidator) for each in found)

    assert checked_by_a_spec or any(isinstance(each, Ge | Gt) for each in found)
    assert checked_by_a_spec or any(isinstance(each, Le | Lt) for each in found)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("[train]\nbatch_size = 100_000_000_000_000_000_000", "less than or equal to 65536, but got 1000000000"),
        ("[train]\nbatch_size = 1e20", "valid integer, but got 1e+20"),
        ("[train]\nepochs = 100_001", "less than or equal to 100000, but got 100001"),
        ("[train]\nlearning_rate = 1e300", "less than or equal to 1000, but got 1e+300"),
        ("[train]\nlearning_rate = 1e-300", "greater than or equal to 0.000000000001, but got 1e-300"),
        ("[train]\nscale_jitter = [1e-300, 1]", "greater than or equal to 0.01, but got 1e-300"),
        ("[train]\nscale_jitter = [1, 1e30]", "less than or equal to 100, but got 1e+30"),
        ("[train]\nclip_norm = 1e-300", "greater than or equal to 0.000001, but got 1e-300"),
        ("[detector]\nroi_samples = 9_000_000_000", "less than or equal to 100000, but got 9000000000"),
        ("[detector]\nanchor_scale = 1e308", "less than or equal to 4096, but got 1e+308"),
        ("[latency]\nnoise = 1e-320", "latency.noise: it must be 0 or at least 1e-06, but got 1e-320"),
        ("[latency]\nmax_seconds = 1e308", "less than or equal to 86400, but got 1e+308"),
        ("[latency]\nprecision = 1e-300", "greater than or equal to 0.000001, but got 1e-300"),
        (
            "[data.shapes]\ntrain_images = 1\nval_images = 1\nwidth = 1_000_000_000",
            "less than or equal to 4096, but got 1000000000",
        ),
        (
            "[data.shapes]\ntrain_images = 1\nval_images = 1\nseed = 9223372036854775808",
            "less than 9223372036854775808, but got 9223372036854775808",
        ),
        ("[modular]\nparents = 4_000_000_000", "less than or equal to 1000, but got 4000000000"),
    ],
)
def test_a_number_that_no_arithmetic_survives_is_refused(study_dir: Path, setting: str, message: str) -> None:
    assert message in _refusal(study_dir, MINIMAL + setting).message


@pytest.mark.parametrize("noise", [0.0, 1e-6, 0.04])
def test_noise_is_none_or_a_step(study_dir: Path, noise: float) -> None:
    assert _with(f"{MINIMAL}[latency]\nnoise = {noise}", study_dir).latency.noise == noise


RECIPE = {"epochs": 3, "scale_jitter": (0.5, 1.0), "flip": 0.5}


def test_stage_2_has_the_recipe_of_stage_1_and_what_its_own_table_changes(study_dir: Path) -> None:
    own = "[modular.train]\nepochs = 3\nscale_jitter = [0.5, 1]\nflip = 0.5\n[train]\nlearning_rate = 0.04\n"
    settings = _with(MINIMAL + own, study_dir)

    assert settings.modular.train.given == RECIPE
    assert settings.train == TrainSettings(learning_rate=0.04)
    assert settings.for_modular().train == TrainSettings(learning_rate=0.04, epochs=3, scale_jitter=(0.5, 1.0))
    assert settings.for_modular().model_copy(update={"train": settings.train}) == settings
    assert (settings.rungs, settings.for_modular().rungs) == ((3,), ())
    assert settings.for_modular().for_modular() == settings.for_modular()


def test_without_a_table_of_its_own_stage_2_has_the_settings_of_stage_1(study_dir: Path) -> None:
    settings = load_settings(study_dir)

    assert settings.modular.train.given == {}
    assert settings.for_modular() is settings


def test_bf16_on_a_cpu_is_written_only_if_it_is_wanted(study_dir: Path) -> None:
    """Studies from before there was such a setting are compared with what is written."""
    assert "bf16_on_cpu" not in load_settings(study_dir).train.model_dump(mode="json")

    settings = _with(MINIMAL + "[modular.train]\nbf16_on_cpu = false\n[train]\nbf16_on_cpu = true\n", study_dir)
    assert settings.train.model_dump(mode="json")["bf16_on_cpu"] is True
    own = settings.for_modular().train
    assert not own.bf16_on_cpu
    assert TrainSettings.model_validate(own.model_dump(mode="json")) == own


def test_only_what_the_file_has_of_the_recipe_of_stage_2_is_written(study_dir: Path) -> None:
    settings = _with(MINIMAL + "[modular.train]\nepochs = 3\n[train]\nflip = 0\n", study_dir)

    written = settings.model_dump(mode="json")

    assert written["modular"]["train"] == {"epochs": 3}
    assert StudySettings.model_validate(written).for_modular() == settings.for_modular()


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("[modular.train]\nepoch = 3", "unknown key `modular.train.epoch`"),
        ("[modular.train]\nepochs = 0", "modular.train.epochs: Input should be greater than 0"),
        ("[modular.train]\nscale_jitter = [2, 1]", "modular.train.scale_jitter: `low <= high` must hold"),
        (
            "rungs = [3]\n[modular.train]\nepochs = 3",
            "`rungs < epochs` must hold, but got ([search] rungs = [3], [modular.train] epochs = 3)",
        ),
        (
            "rungs = [12]\n[modular.train]\nepochs = 13",
            "`rungs < epochs` must hold, but got ([search] rungs = [12], [train] epochs = 12)",
        ),
    ],
)
def test_an_impossible_recipe_of_stage_2_is_refused(study_dir: Path, lines: str, said: str) -> None:
    assert said in _refusal(study_dir, MINIMAL + lines).message
