from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from botorch.exceptions import BotorchTensorDimensionError, InputDataError, InputDataWarning
from torch import Tensor

from botorch_roma.validation import (
    check_bounds,
    check_callable,
    check_choice,
    check_device,
    check_dtype,
    check_flag,
    check_float,
    check_int,
    check_mapping,
    check_path,
    check_same_kind,
    check_tensor,
    check_training_data,
    constant_columns,
    warn_constant_columns,
)

NAN, INF = math.nan, math.inf


def table(*rows: list[float], dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(rows, dtype=dtype)


X = table([0.0, 1.0], [1.0, 0.5], [2.0, 0.0])
Y = table([1.0], [2.0], [3.0])


class TestNumbers:
    def test_good_values_are_returned(self) -> None:
        assert check_int("q", 3, minimum=3) == 3
        assert check_float("lr", 0) == 0.0
        assert check_float("lr", torch.tensor(0.5)) == 0.5
        assert check_float("lr", 1e-300, exclusive=True) == 1e-300
        assert check_choice("mode", "shared", ("shared", "other")) == "shared"
        assert check_flag("early_stop", True) is True

    @pytest.mark.parametrize("value", [2, -1, 3.0, "3", True, None, NAN])
    def test_int(self, value: Any) -> None:
        with pytest.raises(ValueError, match="`q` must be an integer of at least 3, received "):
            check_int("q", value, minimum=3)

    @pytest.mark.parametrize("value", [-0.1, NAN, INF, -INF, "0.1", True, None, [1.0]])
    def test_float(self, value: Any) -> None:
        message = "`lr` must be a finite number at least 0, received "
        with pytest.raises(ValueError, match=message) as error:
            check_float("lr", value)
        assert repr(value) in str(error.value)

    @pytest.mark.parametrize("value", [0, 1, None, "yes", 1.0])
    def test_flag(self, value: Any) -> None:
        message = f"`early_stop` must be True or False, received {value!r}"
        with pytest.raises(ValueError, match=message):
            check_flag("early_stop", value)

    def test_float_above(self) -> None:
        message = "`timeout_sec` must be a finite number above 0 seconds, received 0"
        with pytest.raises(ValueError, match=message):
            check_float("timeout_sec", 0, exclusive=True, unit=" seconds")
        with pytest.raises(ValueError, match="`k` must be a finite number at least 2, received 1"):
            check_float("k", 1, minimum=2)

    @pytest.mark.parametrize("value", ["Shared", "", None, 3, ["shared"]])
    def test_choice(self, value: Any) -> None:
        with pytest.raises(ValueError, match=r"`mode` must be one of \['shared'\], received "):
            check_choice("mode", value, ("shared",))


class TestDevice:
    @pytest.mark.parametrize("value", [None, "cpu", torch.device("cpu")])
    def test_good_devices(self, value: Any) -> None:
        check_device("device", value)

    @pytest.mark.parametrize("value", ["gpu", "cuda:99", torch.device("cuda:99"), ""])
    def test_bad_devices(self, value: Any) -> None:
        message = f"`device` must be a device of this machine, received {str(value)!r}: "
        with pytest.raises(ValueError, match=message) as error:
            check_device("device", value)
        assert "\n" not in str(error.value)


class TestTensor:
    def test_good_values_are_returned(self) -> None:
        assert check_tensor("X", X, dim=2, rows=3) is X
        assert check_tensor("X", X[:0], dim=2).numel() == 0

    @pytest.mark.parametrize(
        ("value", "error", "message"),
        [
            ([[1.0]], InputDataError, "`X` must be a torch.Tensor, received list"),
            (None, InputDataError, "`X` must be a torch.Tensor, received NoneType"),
            (
                X[0],
                BotorchTensorDimensionError,
                r"`X` must have 2 dimensions, received shape \(2,\)",
            ),
            (X[None], BotorchTensorDimensionError, r"2 dimensions, received shape \(1, 3, 2\)"),
            (X[:2], BotorchTensorDimensionError, r"`X` must have 3 rows, received shape \(2, 2\)"),
            (X.long(), InputDataError, r"`X` must be floating point, received torch.int64; call"),
            (X > 0, InputDataError, "`X` must be floating point, received torch.bool"),
            (X / 0, InputDataError, r"`X` holds 6 NaN or infinite .*first at index \[0, 0\]"),
            (
                table([0.0, 0.0], [0.0, -INF], [0.0, 0.0]),
                InputDataError,
                r"`X` holds 1 NaN or infinite values \(the first at index \[1, 1\]\); drop",
            ),
        ],
    )
    def test_bad_values(self, value: Any, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            check_tensor("X", value, dim=2, rows=3)

    def test_same_kind(self) -> None:
        check_same_kind("X", X, Y)
        message = r"`X` must share dtype .* received torch.float32 on cpu for torch.float64 on cpu"
        with pytest.raises(InputDataError, match=message):
            check_same_kind("X", X.float(), Y)
        with pytest.raises(InputDataError, match=r"received torch.float64 on meta"):
            check_same_kind("X", X.to("meta"), Y)


class TestTrainingData:
    def test_good_data(self) -> None:
        check_training_data(X, Y)
        check_training_data(X[:2].float(), Y[:2].float())
        check_training_data(X[[0, 0, 1]], Y)  # duplicate rows happen in real tables

    @pytest.mark.parametrize(
        ("train_X", "train_Y", "error", "message"),
        [
            (X.tolist(), Y, InputDataError, "`train_X` must be a torch.Tensor, received list"),
            (X, Y.tolist(), InputDataError, "`train_Y` must be a torch.Tensor, received list"),
            (X[0], Y, BotorchTensorDimensionError, r"`train_X` must have 2 .*shape \(2,\)"),
            (X[None], Y, BotorchTensorDimensionError, "`train_X` must have 2 dimensions"),
            (X, Y[:, 0], BotorchTensorDimensionError, r"`train_Y` must have 2 .*shape \(3,\)"),
            (X, Y[:2], BotorchTensorDimensionError, r"`train_Y` must have 3 rows.*\(2, 1\)"),
            (X.long(), Y, InputDataError, "`train_X` must be floating point, .*torch.int64"),
            (X, Y.int(), InputDataError, "`train_Y` must be floating point, .*torch.int32"),
            (X * NAN, Y, InputDataError, "`train_X` holds 6 NaN or infinite values"),
            (X, Y / 0, InputDataError, "`train_Y` holds 3 NaN or infinite values"),
            (
                X.float(),
                Y,
                InputDataError,
                "must share dtype and device, received torch.float32 on cpu and torch.float64",
            ),
            (X[:0], Y[:0], InputDataError, r"at least two rows.*`train_X` of shape \(0, 2\)"),
            (X[:1], Y[:1], InputDataError, r"at least two rows.*`train_X` of shape \(1, 2\)"),
            (X[:, :0], Y, InputDataError, r"one input .*`train_X` of shape \(3, 0\)"),
            (X, Y[:, :0], InputDataError, r"one outcome, .*`train_Y` of \(3, 0\)"),
            (
                X,
                torch.cat([Y, 0 * Y + 7], dim=1),
                InputDataError,
                r"`train_Y` is constant in column 1 \(value 7\): there is nothing to learn",
            ),
        ],
    )
    def test_bad_data(
        self, train_X: Any, train_Y: Any, error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            check_training_data(train_X, train_Y)


class TestConstantColumns:
    def test_indices(self) -> None:
        assert constant_columns(X) == []
        assert constant_columns(table([1.0, 2.0, 3.0], [1.0, 0.0, 3.0])) == [0, 2]

    def test_warning_points_at_the_caller_of_the_caller(self) -> None:
        def build(X: Tensor) -> None:
            warn_constant_columns(X)

        with pytest.warns(InputDataWarning, match=r"`train_X` is constant in columns \[1\]") as log:
            build(table([0.0, 2.0], [1.0, 2.0]))
        assert log[0].filename == __file__
        assert log[0].lineno > build.__code__.co_firstlineno + 1

    def test_no_warning(self) -> None:
        with warnings.catch_warnings(record=True) as log:
            warnings.simplefilter("always")
            warn_constant_columns(X)
        assert not log


class TestBounds:
    def test_good_bounds(self) -> None:
        bounds = table([0.0, -1.0], [1.0, -1.0])
        assert check_bounds(bounds, 2) is bounds
        assert check_bounds(bounds) is bounds

    @pytest.mark.parametrize(
        ("bounds", "message"),
        [
            ([[0.0], [1.0]], "`bounds` must be a 2 x d tensor, received list"),
            (torch.zeros(2), r"`bounds` must be a 2 x 2 tensor, received shape \(2,\)"),
            (torch.zeros(2, 3), r"`bounds` must be a 2 x 2 tensor, received shape \(2, 3\)"),
            (torch.zeros(3, 2), r"`bounds` must be a 2 x 2 tensor, received shape \(3, 2\)"),
            (
                table([0.0, 2.0], [1.0, 1.5]),
                "lower <= upper; column 1 has lower=2.0 and upper=1.5",
            ),
            (table([NAN, 0.0], [1.0, 1.0]), "column 0 has lower=nan and upper=1.0"),
            (table([0.0, 0.0], [1.0, NAN]), "column 1 has lower=0.0 and upper=nan"),
            (table([0.0, 0.0], [1.0, INF]), "column 1 has lower=0.0 and upper=inf"),
        ],
    )
    def test_bad_bounds(self, bounds: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            check_bounds(bounds, 2)


class TestKinds:
    """What is None is left out."""

    def test_good_values(self) -> None:
        for value in (None, len):
            check_callable("f", value)
        for options in (None, {}, {"a": 1}):
            check_mapping("options", options, ["a"])
        check_mapping("options", {"any": 1})
        for path in (None, "a", Path("a")):
            check_path("checkpoint", path)
        for dtype in (None, torch.float32, torch.float64):
            check_dtype("dtype", dtype)

    def test_others(self) -> None:
        with pytest.raises(ValueError, match="`f` must be a function or None, received 3"):
            check_callable("f", 3)
        with pytest.raises(ValueError, match="`o` must map names to values, received 3"):
            check_mapping("o", 3)
        with pytest.raises(ValueError, match=r"`o` has unknown keys \['b'\]; known are \['a'\]"):
            check_mapping("o", {"a": 1, "b": 2}, ["a"])
        with pytest.raises(ValueError, match="`p` must be a path or None, received 3"):
            check_path("p", 3)
        for dtype in (torch.float16, torch.int64, "float"):
            with pytest.raises(InputDataError, match=r"`d` must be torch\.float32 or .* received"):
                check_dtype("d", dtype)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision(self, dtype: torch.dtype) -> None:
        message = f"`X` must be of single or double precision, received {dtype}; call"
        with pytest.raises(InputDataError, match=message):
            check_tensor("X", X.to(dtype), dim=2)
