"""Muon's orthogonalisation: what it gives, and in which precision a CPU computes it."""

import pytest
import torch

from training.run import muon


@pytest.mark.parametrize("shape", [(1, 16, 64), (3, 64, 16), (1, 256, 256)])
@pytest.mark.parametrize("amx", [False, True])
def test_singular_values_come_near_one(shape: tuple[int, ...], amx: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muon, "_has_amx", lambda: amx)
    updates = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(muon.orthogonalise(updates))
    assert values.median() == pytest.approx(1, abs=0.35) and values.max() < 1.4


def test_a_cpu_computes_in_bf16_where_it_has_tiles_and_the_matrices_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounding tells: only then does the outcome differ from that without tiles."""

    def error(updates: torch.Tensor) -> float:
        near = muon.orthogonalise(updates).double()
        monkeypatch.setattr(muon, "_has_amx", lambda: False)
        return float((near - muon.orthogonalise(updates).double()).abs().max())

    for size, rounded in ((64, False), (256, True)):
        monkeypatch.setattr(muon, "_has_amx", lambda: True)
        updates = torch.randn(1, size, size, generator=torch.Generator().manual_seed(1))
        assert (error(updates) > 1e-3) == rounded


def test_a_pytorch_that_cannot_tell_of_tiles_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    muon._has_amx.cache_clear()
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    assert not muon._has_amx()
    muon._has_amx.cache_clear()
