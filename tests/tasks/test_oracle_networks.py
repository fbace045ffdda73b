from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from botorch_roma.tasks import oracle_networks
from botorch_roma.tasks.oracle_cache import fingerprint_weights
from botorch_roma.tasks.oracle_networks import (
    CHUNK_ROWS,
    ConvolutionNetwork,
    EpistasisNetwork,
    OracleEnsemble,
    OracleSettings,
    fit_ensemble,
)

REFERENCE = torch.tensor([0, 1, 2, 3, 0, 1])


@pytest.fixture
def tiny(tiny_table: tuple[np.ndarray, np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    tokens, y = tiny_table
    return torch.from_numpy(tokens), torch.from_numpy(y).double()


class TestOracleSettings:
    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ({"network": "forest"}, r"`network` must be one of \['convolution', 'epistasis'\]"),
            ({"features": 0}, "`features` must be an integer of at least 1, received 0"),
            ({"epochs": 1.5}, "`epochs` must be an integer"),
            ({"num_networks": 0}, "`num_networks`"),
            ({"num_held_out": 2}, "`num_held_out` must be an integer of at least 3"),
            ({"seed": -1}, "`seed`"),
            ({"learning_rate": 0.0}, "`learning_rate` must be a finite number above 0"),
            ({"weight_decay": float("nan")}, "`weight_decay`"),
        ],
    )
    def test_malformed(self, option: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            OracleSettings(**{"network": "epistasis", **option})


class TestNetworks:
    @pytest.mark.parametrize("length", [3, 6, 50])
    def test_convolution_takes_any_length(self, length: int) -> None:
        network = ConvolutionNetwork(length, 4, features=3, width=5)
        assert network(torch.randint(4, (7, length))).shape == (7,)

    def test_convolution_knows_where_a_motif_is(self) -> None:
        torch.manual_seed(0)
        network = ConvolutionNetwork(30, 4, features=4, width=8).eval()
        tokens = torch.zeros(27, 30, dtype=torch.long)
        for i in range(27):
            tokens[i, i : i + 3] = torch.tensor([1, 3, 2])
        assert network(tokens).unique().numel() == 27

    def test_epistasis_is_a_sum_over_mutations(self) -> None:
        torch.manual_seed(0)
        network = EpistasisNetwork(REFERENCE, 4, features=1, width=8)
        for bag in (network.mutation, network.position, network.token):
            torch.nn.init.normal_(bag.weight)
        network.first = network.second = network.head = torch.nn.Identity()
        tokens = REFERENCE.repeat(4, 1)
        tokens[1, 0] = tokens[3, 0] = 2
        tokens[2, 5] = tokens[3, 5] = 0
        mutation, position, token = (
            bag.weight.detach().flatten()
            for bag in (network.mutation, network.position, network.token)
        )
        first = mutation[2] + position[0] + token[2]
        last = mutation[4 * 5] + position[5] + token[0]
        expected = torch.stack([torch.zeros(()), first, last, first + last])
        silu = torch.nn.functional.silu
        torch.testing.assert_close(network(tokens), silu(silu(expected)))

    @pytest.mark.parametrize("kind", ["convolution", "epistasis"])
    def test_a_row_is_scored_alone_as_in_company(
        self, kind: str, tiny: tuple[torch.Tensor, torch.Tensor]
    ) -> None:
        ensemble = OracleEnsemble(*tiny, 4, OracleSettings(kind, num_networks=2))
        tokens = tiny[0].repeat(6, 1)
        assert len(tokens) > CHUNK_ROWS
        together = ensemble(tokens)
        torch.testing.assert_close(ensemble(tokens[7:8]), together[7:8], atol=1e-5, rtol=0.0)
        torch.testing.assert_close(ensemble(tokens[-1:]), together[-1:], atol=1e-5, rtol=0.0)


class TestOracleEnsemble:
    def test_reference_is_the_most_frequent_token(self) -> None:
        tokens = torch.tensor([[0, 3], [2, 3], [2, 1], [0, 1]])
        ensemble = OracleEnsemble(
            tokens, torch.arange(4.0).double(), 4, OracleSettings("epistasis")
        )
        assert ensemble.networks[0].reference.tolist() == [0, 1]

    def test_mean_of_networks_in_the_units_and_range_of_the_values(
        self, tiny: tuple[torch.Tensor, torch.Tensor]
    ) -> None:
        tokens, values = tiny
        settings = OracleSettings("convolution", num_networks=3)
        ensemble = OracleEnsemble(tokens, 100.0 + values, 4, settings)
        scores = torch.stack([network(tokens.long()) for network in ensemble.networks])
        assert not torch.equal(scores[0], scores[1])
        expected = 100.0 + values.mean() + values.std(correction=0) * scores.double().mean(dim=0)
        torch.testing.assert_close(ensemble(tokens), expected)
        with torch.no_grad():
            ensemble.networks[0].head.bias += 1e3
            assert (ensemble(tokens) == 100.0 + values.max()).all()
            ensemble.networks[0].head.bias -= 2e3
            assert (ensemble(tokens) == 100.0 + values.min()).all()


class TestFitEnsemble:
    @pytest.mark.parametrize("kind", ["convolution", "epistasis"])
    def test_learns(
        self, kind: str, tiny: tuple[torch.Tensor, torch.Tensor], tiny_settings: OracleSettings
    ) -> None:
        tokens, values = tiny
        settings = replace(tiny_settings, network=kind, features=4)
        ensemble = fit_ensemble(tokens[:300], values[:300], 4, settings)
        assert not ensemble.training
        with torch.no_grad():
            assert spearmanr(ensemble(tokens[300:]), values[300:]).statistic > 0.9

    def test_same_seed_same_weights_whatever_the_surroundings(
        self, tiny: tuple[torch.Tensor, torch.Tensor], tiny_settings: OracleSettings
    ) -> None:
        def fit(settings: OracleSettings = tiny_settings) -> str:
            return fingerprint_weights(fit_ensemble(*tiny, 4, settings).state_dict())

        torch.set_num_threads(1)
        first = fit()
        torch.manual_seed(17)
        state = torch.get_rng_state()
        with torch.no_grad():
            assert fit() == first
        with torch.inference_mode():
            assert fit() == first
        torch.set_default_dtype(torch.float64)
        assert fit() == first
        assert torch.equal(torch.get_rng_state(), state)
        assert fit(replace(tiny_settings, seed=1)) != first

    def test_every_network_is_trained(
        self, tiny: tuple[torch.Tensor, torch.Tensor], tiny_settings: OracleSettings
    ) -> None:
        settings = replace(tiny_settings, num_networks=3)
        fresh = OracleEnsemble(*tiny, 4, settings)
        fitted = fit_ensemble(*tiny, 4, settings)
        for before, after in zip(fresh.networks, fitted.networks, strict=True):
            assert all(
                not torch.equal(p, q)
                for p, q in zip(before.parameters(), after.parameters(), strict=True)
            )

    def test_bar(
        self,
        tiny: tuple[torch.Tensor, torch.Tensor],
        tiny_settings: OracleSettings,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        seen: list[int] = []

        def track(sequence: Any, *, total: int, description: str, enabled: bool) -> Any:
            assert (total, enabled) == (2 * 5 * 13, True)
            for step in sequence:
                seen.append(step)
                yield step
            seen.append(-1)

        monkeypatch.setattr(oracle_networks, "track", track)
        fit_ensemble(*tiny, 4, replace(tiny_settings, num_networks=2), progress=True)
        assert seen == [*range(2 * 5 * 13), -1]
