from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from botorch.exceptions import InputDataError
from botorch.exceptions.errors import ModelFittingError
from botorch.models.transforms import Normalize, Standardize
from hypothesis import given, settings
from hypothesis import strategies as st

from botorch_roma import RoMAModel, fit_roma_model
from botorch_roma.latent import OneHotEncoding, Vocabulary
from botorch_roma.saved import load_weights, save_weights

X = torch.rand(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double)
Y = torch.stack([X.sum(dim=-1), X.prod(dim=-1)], dim=-1)


def make(rows: int = 20, **options: Any) -> RoMAModel:
    return RoMAModel(X[:rows], Y[:rows], **{"hidden_sizes": (4, 4), "num_members": 2, **options})


def fitted(**options: Any) -> RoMAModel:
    model = make(**options)
    fit_roma_model(model, epochs=1, num_ascent_steps=1, seed=1)
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[RoMAModel, Path]:
    path, model = tmp_path_factory.mktemp("saved") / "m.weights", fitted()
    save_weights(model, path)
    return model, path


@pytest.mark.parametrize("existing", [False, True])
def test_full_disk(tmp_path: Path, existing: bool, full_disk: None) -> None:
    """Old weights stay, and none are half-written."""
    path, model = tmp_path / "m.weights", fitted(hidden_sizes=(60, 60))
    if existing:
        path.write_bytes(b"before")
    with pytest.raises(OSError, match=r"m\.weights' could not be written: File too large"):
        save_weights(model, path, force=True)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"before"] * existing


def write(path: Path, content: bytes, version: object = 1) -> None:
    checksum = hashlib.sha256(content).hexdigest()
    path.write_bytes(f"botorch_roma weights {version} 0.0.7 {checksum}\n".encode() + content)


def refused(path: Path, message: str, model: RoMAModel | None = None) -> None:
    """The file is refused, and the model stays as it is."""
    model = make() if model is None else model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises((InputDataError, ValueError), match=message) as error:
        load_weights(model, path)
    assert str(error.value).count("\n") == 0
    assert str(error.value).rstrip(".").endswith(("again", "another one", "saved"))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not model.is_fitted


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"activation": "silu", "num_members": 1},
        {"input_transform": Normalize(d=3), "outcome_transform": Standardize(m=2)},
    ],
)
def test_round_trip(tmp_path: Path, options: dict[str, Any]) -> None:
    model = fitted(**options)
    save_weights(model, tmp_path / "m")
    again = make(rows=15, **options)
    load_weights(again, str(tmp_path / "m"))
    assert again.is_fitted
    for value, other in zip(model.posterior(X).mean, again.posterior(X).mean, strict=True):
        assert torch.equal(value, other)
    assert torch.equal(model.posterior(X).variance, again.posterior(X).variance)
    assert (tmp_path / "m").read_bytes().startswith(b"botorch_roma weights 1 ")
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_round_trip_of_an_encoding(tmp_path: Path) -> None:
    tokens = torch.randint(3, (20, 4), generator=torch.Generator().manual_seed(0)).double()
    models = [
        RoMAModel(tokens, Y[:, :1], OneHotEncoding(Vocabulary("abc"), 4), hidden_sizes=(4,))
        for _ in range(2)
    ]
    fit_roma_model(models[0], epochs=1, seed=1)
    save_weights(models[0], tmp_path / "m")
    load_weights(models[1], tmp_path / "m")
    assert torch.equal(*(m.posterior(tokens).mean for m in models))


@settings(max_examples=10)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    members=st.integers(1, 3),
    activation=st.sampled_from(["softplus", "tanh"]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 2**31),
)
def test_any_architecture(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    members: int,
    activation: str,
    dtype: torch.dtype,
    seed: int,
) -> None:
    """What is loaded predicts the same to the bit; the same weights are the same file."""
    options = {"hidden_sizes": sizes, "num_members": members, "activation": activation}
    model, other = (RoMAModel(X.to(dtype), Y.to(dtype), **options, seed=s) for s in (seed, 7))
    fit_roma_model(model, epochs=1, num_ascent_steps=1, seed=seed)
    path, again = (tmp_path_factory.mktemp("any") / name for name in "ab")
    save_weights(model, path)
    load_weights(other, path)
    for part in ("mean", "variance"):
        values = [getattr(m.posterior(X.to(dtype)), part) for m in (model, other)]
        assert torch.equal(*values)
        assert values[1].dtype == dtype
    assert other.is_fitted
    save_weights(other, again)
    assert again.read_bytes() == path.read_bytes()


def test_what_is_saved(tmp_path: Path, saved: tuple[RoMAModel, Path]) -> None:
    with pytest.raises(ModelFittingError, match=r"call `fit_roma_model\(model\)` before"):
        save_weights(make(), tmp_path / "m")
    (tmp_path / "m").write_text("before")
    with pytest.raises(FileExistsError, match="exists already"):
        save_weights(saved[0], tmp_path / "m")
    assert (tmp_path / "m").read_text() == "before"
    save_weights(saved[0], tmp_path / "m", force=True)
    load_weights(make(), tmp_path / "m")


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_nothing_is_executed(tmp_path: Path) -> None:
    trap, buffer = tmp_path / "trap", io.BytesIO()
    torch.save({"architecture": {}, "state": {"network": Trap(trap)}}, buffer)
    for content in (buffer.getvalue(), pickle.dumps(Trap(trap))):
        write(tmp_path / "m", content)
        refused(tmp_path / "m", r"it holds no weights: there is more .* never executed; fit the")
        (tmp_path / "m").write_bytes(content)
        refused(tmp_path / "m", "it is no file of `save_weights`")
    assert not trap.exists()
    pickle.loads(pickle.dumps(Trap(trap)))
    assert trap.exists()


@pytest.mark.parametrize("version", [0, 2, "x"])
def test_other_formats_are_refused_by_name(
    tmp_path: Path, saved: tuple[RoMAModel, Path], version: object
) -> None:
    content = saved[1].read_bytes().partition(b"\n")[2]
    write(tmp_path / "m", content, version)
    message = f"its format is {version}, of botorch_roma 0.0.7, and 1 is read here; use that ver"
    refused(tmp_path / "m", message)


@pytest.mark.parametrize("content", [b"", b"\n", b"PK\x03\x04", b"a,y\n1,2\n", bytes(99)])
def test_foreign_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m").write_bytes(content)
    refused(tmp_path / "m", r"The weights '.*m' cannot be read: it is no file of `save_weights`")


def test_a_plain_state_dict_is_a_foreign_file(tmp_path: Path) -> None:
    torch.save(fitted().state_dict(), tmp_path / "m")
    refused(tmp_path / "m", "it is no file of `save_weights`")


def test_missing_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(FileNotFoundError, match="There is no file"):
            load_weights(make(), path)


@given(data=st.data())
def test_damaged_files(saved: tuple[RoMAModel, Path], data: st.DataObject) -> None:
    """Cut short, or with one bit flipped, anywhere."""
    whole = saved[1].read_bytes()
    position = data.draw(st.integers(0, len(whole) - 1))
    damaged = bytearray(whole)
    if data.draw(st.booleans()):
        damaged = damaged[:position]
    else:
        damaged[position] ^= 1 << data.draw(st.integers(0, 7))
    path = saved[1].with_name("damaged")
    path.write_bytes(damaged)
    version = whole.split()[3]
    start = whole.index(version)
    if len(damaged) == len(whole) and start <= position < start + len(version):
        return  # of the package that wrote it nothing depends
    refused(path, "cannot be read: ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_sizes": (4, 5)}, r"hidden_sizes=\[4, 5\], .* a model with hidden_sizes=\[4, 4\]"),
        ({"num_members": 3}, "num_members=3, .* num_members=2; make it as"),
        ({"activation": "tanh"}, "activation=tanh, .* activation=softplus"),
        ({"input_transform": Normalize(d=3)}, "input_transform=Normalize, .*=None"),
    ],
)
def test_other_architectures(
    saved: tuple[RoMAModel, Path], options: dict[str, Any], message: str
) -> None:
    refused(saved[1], message, make(**options))


def test_other_data(saved: tuple[RoMAModel, Path]) -> None:
    for model, message in (
        (RoMAModel(X[:, :2], Y, hidden_sizes=(4, 4), num_members=2), "num_inputs=2, .*=3"),
        (RoMAModel(X, Y[:, :1], hidden_sizes=(4, 4), num_members=2), "num_outputs=1, .*=2"),
        (RoMAModel(X.float(), Y.float(), hidden_sizes=(4, 4), num_members=2), "float32, .*float64"),
    ):
        refused(saved[1], message, model)


def test_weights_that_do_not_fit_or_are_not_finite(tmp_path: Path, saved: Any) -> None:
    content = io.BytesIO(saved[1].read_bytes().partition(b"\n")[2])
    stored = torch.load(content, weights_only=True)
    for value, message in (
        (torch.nan, "weights are not finite"),
        (None, r"differ in \['y_std'"),
    ):
        state = dict(stored["state"])
        state["y_std"] = state["y_std"][:1] if value is None else state["y_std"] * value
        buffer = io.BytesIO()
        torch.save({**stored, "state": state}, buffer)
        write(tmp_path / "m", buffer.getvalue())
        refused(tmp_path / "m", message)
