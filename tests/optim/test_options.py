from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import pytest
from botorch.exceptions.errors import UnsupportedError

from botorch_roma import RoMAOptions, optimize_acqf_roma


def test_defaults_are_those_of_optimize_acqf_roma() -> None:
    parameters = inspect.signature(optimize_acqf_roma).parameters
    defaults = {name: parameters[name].default for name in RoMAOptions.names()}
    assert RoMAOptions() == RoMAOptions(**defaults)


@pytest.mark.parametrize("field", dataclasses.fields(RoMAOptions), ids=lambda f: f.name)
def test_every_setting_has_a_default_and_is_keyword_only(field: dataclasses.Field[Any]) -> None:
    assert field.default is not dataclasses.MISSING
    assert field.kw_only


def test_edges_that_are_allowed() -> None:
    options = RoMAOptions(
        radius=0, num_adaptation_steps=0, alpha=0.0, num_updates=0, region=None, lr=1e-300
    )
    assert options.region is None
    assert options.num_updates == 0


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("radius", -0.1, r"`radius` must be a finite number at least 0, received -0\.1"),
        ("radius", float("nan"), r"`radius` .* received nan"),
        ("radius", float("inf"), r"`radius` .* received inf"),
        ("radius", "big", r"`radius` .* received 'big'"),
        ("num_adaptation_steps", -1, r"`num_adaptation_steps` .* at least 0, received -1"),
        ("num_adaptation_steps", 2.5, r"`num_adaptation_steps` must be an integer .* received 2.5"),
        ("num_adaptation_steps", True, r"`num_adaptation_steps` .* received True"),
        ("alpha", -1.0, r"`alpha` .* received -1\.0"),
        ("mode", "both", r"`mode` must be one of \['per_candidate', 'shared'\], received 'both'"),
        ("pseudo_label_loss", "l1", r"`pseudo_label_loss` must be one of .* received 'l1'"),
        ("initial_pseudo_label", None, r"`initial_pseudo_label` must be one of .* received None"),
        ("first_layer", "sparse", r"`first_layer` must be one of .* received 'sparse'"),
        ("early_stop", 1, "`early_stop` must be True or False, received 1"),
        ("reuse_steps", -1, "`reuse_steps` must be an integer of at least 0, received -1"),
        (
            "reuse_steps",
            10,
            "`reuse_steps` must be below `num_adaptation_steps`, which is 10, .*, received 10",
        ),
        ("step_rule", "sgd", r"`step_rule` must be one of \['adam', 'gradient'\], received 'sgd'"),
        ("lr", 0.0, r"`lr` must be a finite number above 0, received 0\.0"),
        ("lr", -1e-3, r"`lr` .* received -0\.001"),
        ("num_updates", -1, r"`num_updates` .* at least 0, received -1"),
        ("num_updates", 3.0, r"`num_updates` must be an integer .* received 3\.0"),
        ("region", 0.0, r"`region` must be a finite number above 0, received 0\.0"),
        ("region", float("nan"), r"`region` .* received nan"),
        ("max_spread", 0.0, r"`max_spread` must be .* above 0, received 0\.0"),
        ("min_distance", -1.0, r"`min_distance` must be .* above 0, received -1\.0"),
        ("reencode_every", 0, r"`reencode_every` must be an integer of at least 1, received 0"),
        ("reencode_every", 1.5, r"`reencode_every` .* received 1\.5"),
    ],
)
def test_values_out_of_range(name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RoMAOptions(**{name: value})


def test_from_mapping_takes_settings_and_leaves_the_rest() -> None:
    options = RoMAOptions.from_mapping({"radius": 0.1, "batch_limit": 5, "maxiter": 3})
    assert options == RoMAOptions(radius=0.1)
    with pytest.raises(ValueError, match="`lr`"):
        RoMAOptions.from_mapping({"lr": -1.0, "batch_limit": 5})


def test_settings_cannot_be_changed_behind_the_checks() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        RoMAOptions().radius = -1.0  # type: ignore[misc]


def test_step_size_goes_by_the_rule_and_the_inputs() -> None:
    assert RoMAOptions().step_size(25) == 0.01
    assert RoMAOptions(step_rule="gradient").step_size(25) == pytest.approx(0.5)
    for rule in ("adam", "gradient"):
        assert RoMAOptions(step_rule=rule, lr=0.3).step_size(25) == 0.3  # type: ignore[arg-type]


def test_what_has_no_meaning_with_a_model() -> None:
    RoMAOptions().check_applies(1, encoded=False)
    RoMAOptions(max_spread=0.5, reencode_every=3).check_applies(2, encoded=True)
    with pytest.raises(UnsupportedError, match=r"`max_spread` is 0\.5, .* more `num_members`"):
        RoMAOptions(max_spread=0.5).check_applies(1, encoded=True)
    with pytest.raises(UnsupportedError, match=r"`reencode_every` needs .* received 3 and none"):
        RoMAOptions(reencode_every=3).check_applies(2, encoded=False)
