"""Fixtures and settings of all tests; seeds are the business of each test."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

# No window is ever opened, and matplotlib is not imported here to see to that.
os.environ["MPLBACKEND"] = "Agg"

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    import pandas as pd

    from botorch_roma import Proposal
    from botorch_roma.latent import LatentSpace, Vocabulary
    from botorch_roma.tasks.oracle_networks import OracleSettings
    from botorch_roma.tasks.trained_oracle import TrainedOracle

# `too_slow` compares data generation with the wall clock, which a loaded machine fails.
settings.register_profile(
    "ci",
    deadline=None,
    derandomize=True,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow],
)
# To look for counterexamples by chance: pytest --hypothesis-profile=thorough
settings.register_profile(
    "thorough", settings.get_profile("ci"), derandomize=False, max_examples=500
)
settings.load_profile("ci")

DATA_DIR_VARIABLE = "BOTORCH_ROMA_DATA"
DEFAULT_DATA_DIR = Path(__file__).resolve().parents[2] / "shared/data/design_bench_data"


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the benchmarks, on the path as when one of them is run."""
    folder = Path(__file__).resolve().parents[1] / "benchmarks"
    if not folder.is_dir():
        pytest.skip("the benchmarks are not part of the sdist")
    monkeypatch.syspath_prepend(folder)
    return folder


@pytest.fixture(autouse=True)
def restore_torch_state() -> Iterator[None]:
    """Put the default dtype and the number of threads back after every test."""
    dtype, num_threads = torch.get_default_dtype(), torch.get_num_threads()
    yield
    torch.set_default_dtype(dtype)
    if torch.get_num_threads() != num_threads:
        torch.set_num_threads(num_threads)


class LargestTensor(TorchFunctionMode):
    """Records the most numbers of a tensor that is made, other than views of a table."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.table, self.numbers = table.untyped_storage().data_ptr(), 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            if isinstance(value, torch.Tensor):
                storage = value.untyped_storage()
                if storage.data_ptr() != self.table:
                    self.numbers = max(self.numbers, storage.nbytes() // value.element_size())
        return result


@pytest.fixture
def largest_tensor() -> type[LargestTensor]:
    """What records large tensors."""
    return LargestTensor


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> type[LargestTensor]:
    """Chunks of 16 rows wherever a table is gone through, and what records large tensors."""
    from botorch_roma import chunks
    from botorch_roma.optim import initializers

    monkeypatch.setattr(chunks, "CHUNK_ROWS", 16)
    monkeypatch.setattr(initializers, "CHUNK_SIZE", 16)
    return LargestTensor


@pytest.fixture
def hears_interrupts() -> Iterator[None]:
    """Ctrl-C is heard, also in a job in the background, and ends the tests afterwards."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file gets larger than 10 kB, which a writer finds out as it finds out a full disk."""
    resource = pytest.importorskip("resource", reason="needs limits of a process")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="session", params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Run the test on the CPU, and again on a GPU where there is one."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return torch.device(request.param)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder with the data of the real tasks, in the layout of Design-Bench."""
    named = os.environ.get(DATA_DIR_VARIABLE)
    path = Path(named) if named else DEFAULT_DATA_DIR
    if path.is_dir():
        return path
    if named:
        pytest.fail(f"{DATA_DIR_VARIABLE} names {path}, which is no folder", pytrace=False)
    pytest.skip(
        f"needs the data of the real tasks: set {DATA_DIR_VARIABLE} to a folder in the layout of "
        "Design-Bench's design_bench_data"
    )


@pytest.fixture(scope="session")
def lossless_space() -> Callable[..., LatentSpace]:
    """Makes latent spaces by hand: two latents a position, in which its tokens lie on a circle."""
    from botorch_roma.latent import LatentSpace
    from botorch_roma.latent.training import VAEHistory
    from botorch_roma.latent.vae import SequenceVAE

    def make(vocabulary: Vocabulary, tokens: torch.Tensor, **options: Any) -> LatentSpace:
        k, length = vocabulary.num_classes, tokens.shape[1]
        vae = SequenceVAE(k, length, latent_dim=2 * length, hidden_sizes=())
        angles = 2.0 * torch.pi * torch.arange(k) / k
        circle = torch.stack([angles.cos(), angles.sin()], dim=1)
        of_tokens = torch.block_diag(*[circle] * length)
        with torch.no_grad():
            for layer in (vae.encoder[0], vae.decoder[0]):
                layer.bias.zero_()
            vae.encoder[0].weight.zero_()
            vae.encoder[0].weight[: 2 * length] = of_tokens.T
            vae.decoder[0].weight.copy_(of_tokens)
        history = VAEHistory([0.0], [1.0], [0.75], [0.0], num_validation=4)
        return LatentSpace(vae, vocabulary, tokens, history, **options)

    return make


@pytest.fixture(scope="session")
def X() -> torch.Tensor:
    """30 designs of three inputs of very different scales; nothing may change them."""
    unit = torch.rand(30, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    return unit * torch.tensor([1.0, 10.0, 200.0]) - torch.tensor([0.0, 5.0, 0.0])


@pytest.fixture(scope="session")
def Y(X: torch.Tensor) -> torch.Tensor:
    """Their outcomes, ``30 x 1``."""
    scaled = (X - X.mean(dim=0)) / X.std(dim=0)
    return 3.0 - (scaled - 0.5).square().sum(dim=-1, keepdim=True)


@pytest.fixture(scope="session")
def frame(X: torch.Tensor, Y: torch.Tensor) -> pd.DataFrame:
    """The same as a table."""
    import pandas as pd

    return pd.DataFrame(torch.cat([X, Y], dim=1).numpy(), columns=["a", "b", "c", "y"])


@pytest.fixture(scope="session")
def fast() -> dict[str, Any]:
    """Arguments of ``propose`` that make a run short; nothing may change them."""
    from botorch_roma import Preset

    return {
        "preset": Preset("plain"),  # what the functions do by themselves
        "fit_options": {"epochs": 5, "num_ascent_steps": 1, "batch_size": 16},
        "model_options": {"hidden_sizes": (8,)},
        "optimize_options": {"num_updates": 5, "num_adaptation_steps": 2, "lr": 0.05},
    }


@pytest.fixture(scope="session")
def make(fast: dict[str, Any]) -> Callable[..., Proposal]:
    """``propose`` with short training, of four designs where nothing else is said."""
    from botorch_roma import propose

    def make(train_X: Any, train_Y: Any, *args: Any, **kwargs: Any) -> Proposal:
        return propose(train_X, train_Y, *args, **{"q": 4, **fast, **kwargs})

    return make


@pytest.fixture
def tiny_settings() -> OracleSettings:
    """Settings of an oracle that is trained in a fraction of a second."""
    from botorch_roma.tasks.oracle_networks import OracleSettings

    return OracleSettings(
        "epistasis",
        features=2,
        width=8,
        epochs=5,
        batch_size=32,
        learning_rate=0.03,
        num_held_out=50,
    )


@pytest.fixture
def tiny_table() -> tuple[np.ndarray, np.ndarray]:
    """400 sequences of 6 DNA letters; the value counts the letter c, in 0..6."""
    tokens = np.random.default_rng(0).integers(4, size=(400, 6), dtype=np.uint8)
    return tokens, (tokens == 1).sum(axis=1).astype(np.float32)


@pytest.fixture
def make_oracle(
    tmp_path: Path, tiny_settings: OracleSettings, tiny_table: tuple[np.ndarray, np.ndarray]
) -> Callable[..., TrainedOracle]:
    """Make a trained oracle of the tiny table, whose cache is the folder of the test."""
    from botorch_roma.tasks.trained_oracle import TrainedOracle

    def make(**options: Any) -> TrainedOracle:
        tokens, y = tiny_table
        defaults: dict[str, Any] = {
            "tokens": tokens,
            "y": y,
            "num_classes": 4,
            "settings": tiny_settings,
            "cache_dir": tmp_path,
        }
        return TrainedOracle("tiny", **{**defaults, **options})

    return make


class Page(HTMLParser):
    """What a browser would make of a page: tags with attributes, texts, rows of the table."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.rows: list[list[str]] = []
        self.scripts: list[str] = []
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append(dict(attrs).get("data-value") or "")

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            self.scripts.append(data)
        elif self._open != "style" and data.strip():
            self.texts.append(data)
            if self._open in ("td", "button") and not self.rows[-1][-1]:
                self.rows[-1][-1] = data

    @property
    def text(self) -> str:
        """All that can be read but for the figures."""
        return " ".join(" ".join(self.texts).split())

    @property
    def ids(self) -> list[str]:
        """The figures, in their order."""
        found = (attributes.get("id") or "" for _, attributes in self.tags)
        return [name for name in found if name.startswith("figure-")]


@pytest.fixture
def parse_page() -> Callable[[str | Path], Page]:
    """A page, or the file that holds it, as a browser would read it."""

    def parse(page: str | Path) -> Page:
        return Page(page.read_text("utf-8") if isinstance(page, Path) else page)

    return parse
