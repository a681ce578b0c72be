"""Options of training, one at a time: flips, accumulated gradients, compilation, precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from entroselect.loop import batches, config, data, diffusion, seeds, train  # noqa: E402

NET = config.Model(network="mlp", width=16, blocks=1, conditional=True)


def some(n: int = 12) -> data.Images:
    pixels = seeds.numbers(0).integers(0, 256, (n, 4, 5, 1)).astype(np.uint8)
    return data.Images(pixels, np.arange(n) % 3, data.origins(data.REAL, n))


def steps(noise: config.Diffusion | None = None, **options: Any) -> train.Steps:
    net = diffusion.network(NET, (4, 5, 1), 3, seeds.noise(0))
    given = config.Train(**({"steps": 9, "batch": 8, "warmup": 1} | options))
    return train.Steps(some(), net, noise or config.Diffusion(), given)


def batch_of(step: int, flip: bool) -> batches.Batch:
    taking = steps(batch=12, flip=flip)
    return taking.batches.at(step, seeds.noise(7, step))


def test_flips_mirror_half_of_the_images_and_change_nothing_else() -> None:
    turned = []
    for step in range(40):
        plain, flipped = batch_of(step, False), batch_of(step, True)
        mirrored = plain.clean.flip(-1)
        kept = [torch.equal(a, b) for a, b in zip(flipped.clean, plain.clean, strict=True)]
        other = [torch.equal(a, b) for a, b in zip(flipped.clean, mirrored, strict=True)]
        assert all(a != b for a, b in zip(kept, other, strict=True))
        turned.append(other)
        assert torch.equal(flipped.clean, batch_of(step, True).clean)
        for name in ("noise", "level", "labels"):
            assert torch.equal(getattr(flipped, name), getattr(plain, name))
    assert 0.4 < np.mean(turned) < 0.6
    assert all(0 < np.mean(batch) < 1 for batch in turned)  # a draw per image, not per batch


@pytest.mark.parametrize("noise", [config.Diffusion(), config.Diffusion(kind="edm")])
@pytest.mark.parametrize("parts", [2, 3, 8])
def test_accumulated_gradients_are_those_of_the_whole_batch(
    noise: config.Diffusion, parts: int
) -> None:
    whole, cut = steps(noise, clip=1e9), steps(noise, clip=1e9, accumulate=parts)
    sizes: list[int] = []
    loss = cut.loss
    cut.loss = lambda net, batch: (sizes.append(len(batch.clean)), loss(net, batch))[1]  # type: ignore[assignment]
    whole.take()
    cut.take()
    assert len(sizes) == parts
    assert sum(sizes) == 8
    assert max(sizes) - min(sizes) <= 1
    torch.testing.assert_close(cut.total, whole.total)
    for name, tensor in whole.parameters.items():
        torch.testing.assert_close(cut.parameters[name].grad, tensor.grad, msg=name)
    assert any(tensor.grad.abs().max() > 1e-3 for tensor in whole.parameters.values())
    assert cut.judged() == pytest.approx(whole.judged(), rel=1e-3)
    assert len(sizes) == 2 * parts  # in parts too, for their memory


def test_a_part_has_its_own_labels_and_levels() -> None:
    batch = batch_of(0, False)
    parts = [part for _, part in batch.parts(5)]
    for name in ("clean", "noise", "level", "labels"):
        assert torch.equal(torch.cat([getattr(p, name) for p in parts]), getattr(batch, name))
    assert [share * 12 for share, _ in batch.parts(5)] == pytest.approx([3, 3, 2, 2, 2])


def test_a_compiled_network_is_what_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def compiled(net: Any) -> Any:
        return lambda *given: (calls.append(net), net(*given))[1]

    monkeypatch.setattr(torch, "compile", compiled)
    plain, fast = steps(), steps(compile=True)
    for _ in range(3):
        plain.take()
        assert not calls
    for _ in range(3):
        fast.take()
    assert calls == [fast.net] * 3
    for name, tensor in plain.finish().state_dict().items():
        assert torch.equal(tensor, fast.finish().state_dict()[name])


def test_auto_is_bf16_where_a_gpu_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert train.precision_on("cpu", "auto") == "fp32"
    for has, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda emulated, has=has: has)
        assert train.precision_on("cuda:0", "auto") == expected
        assert train.precision_on("cuda:0", "fp16") == "fp16"
    assert steps().precision == "fp32"
    assert config.Train().precision == "auto"


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_near_the_full_one(precision: Any) -> None:
    full, half = steps(clip=1e9), steps(clip=1e9, precision=precision)
    for _ in range(3):
        full.take()
        half.take()
    assert half.precision == precision
    assert not torch.equal(half.total, full.total)
    torch.testing.assert_close(half.total, full.total, rtol=0.02, atol=0)


def test_an_unknown_option_of_training_is_named() -> None:
    net = diffusion.network(NET, (4, 5, 1), 3, seeds.noise(0))
    with pytest.raises(TypeError, match="learning_rat"):
        train.train(some(), net, config.Diffusion(), learning_rat=1.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["train.batch=8", "train.accumulate=9"], r"9 parts of a batch of 8; .*=8 or less"),
        (["model.network=mpl"], "model.network: 'mpl' is unknown; did you mean mlp"),
        (["data.held_out=0", "measure.spaces=['judge']"], "judge is .* set data.held_out"),
        (["data.held_out=0", "select.space=judge"], "judge is .* set data.held_out"),
    ],
)
def test_options_that_do_not_go_together(settings: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config.resolve("digits", settings=settings)


def test_what_a_unet_needs_is_not_asked_of_an_mlp() -> None:
    odd = ["model.channels=[12,20]", "model.attention=[7]"]
    made = config.resolve("digits", settings=["model.network=mlp", *odd])
    diffusion.network(made.model, (5, 7, 2), 0, seeds.noise(0))
    with pytest.raises(ValueError, match=r"model.attention"):
        config.resolve("digits", settings=odd)
    with pytest.raises(ValueError, match=r"divisible by 2, got 7 x 5; model.network=mlp takes any"):
        diffusion.network(config.Model(), (5, 7, 2), 0, seeds.noise(0))
