"""Priors: nets of any size, trainings that go on where they stopped, artefacts, quality, generators from elsewhere."""

import json
import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from seepage.core.errors import ConfigError, DataError, ModelError
from seepage.core.knowledge import InversionKnowledge
from seepage.core.progress import Progress
from seepage.core.records import Records
from seepage.core.spec import Bounds, InputSpec
from seepage.core.vocabulary import Modality
from seepage.models import device
from seepage.models.priors import PCAPrior, Shelf, artefact, own_prior, prior_for, trained, trained_on_private
from seepage.models.priors.base import Decoder, Prior
from seepage.models.priors.gan import GANPrior, train_cgan, train_gan
from seepage.models.priors.gan_nets import Critic, Generator, augmented, follow, grid_of
from seepage.models.priors.gan_training import mirrored_alike
from seepage.models.priors.overlap import chance_of_smaller
from seepage.models.priors.quality import features, frechet, held_out, measured, nearest
from seepage.models.priors.work import Work

SPEC = InputSpec((1, 12, 12))
SMALL = {"steps": 3, "size": 8, "width": 8, "batch": 4}


def pictures(n: int, seed: int = 0, shape: tuple[int, ...] = (1, 12, 12)) -> np.ndarray:
    """Smooth random pictures in [0, 1]."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.random((n, shape[0], 4, 4)).astype(np.float32))
    return nn.functional.interpolate(coarse, size=shape[1:], mode="bilinear").numpy()


def public(n: int = 40, seed: int = 0, shape: tuple[int, ...] = (1, 12, 12)) -> Records:
    return Records(pictures(n, seed, shape), np.arange(n) % 4, source="smooth pictures")


# --- nets


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 12, 12), (3, 28, 28), (1, 32, 32), (3, 23, 46), (1, 64, 64)])
@pytest.mark.parametrize("classes", [0, 3])
def test_the_nets_fit_any_picture(shape: tuple[int, int, int], classes: int) -> None:
    generator, critic = Generator(shape, 8, 8, classes), Critic(shape, 8, classes)
    y = torch.tensor([0, 2, 1]) if classes else None
    x = generator(torch.randn(3, 8), y)
    assert x.shape == (3, *shape)
    assert 0 <= x.min().item() <= x.max().item() <= 1
    assert critic(x, y).shape == (3,)
    assert critic.features(x).shape == (3, critic.features_width)
    again, small = critic.redrawn(critic.maps(x), x)
    assert again.shape == small.shape


@pytest.mark.parametrize("classes", [None, torch.tensor([0, 1, 2, 1])])
def test_the_stages_make_up_the_generator(classes: torch.Tensor | None) -> None:
    generator = Generator((1, 16, 16), 8, 8, 3).eval()
    z = torch.randn(4, 8)
    out = z
    for stage in generator.stages_for(classes):
        out = stage(out)
    torch.testing.assert_close(out, generator(z, classes))


def test_classes_change_what_is_drawn_and_how_it_is_judged() -> None:
    generator, critic = Generator((1, 12, 12), 8, 8, 3).eval(), Critic((1, 12, 12), 8, 3).eval()
    with torch.no_grad():
        generator.begin_norm.gain.copy_(torch.rand_like(generator.begin_norm.gain) + 0.5)
    z, first, second = torch.randn(2, 8), torch.tensor([0, 0]), torch.tensor([1, 1])
    assert not torch.allclose(generator(z, first), generator(z, second))
    x = generator(z)
    assert not torch.allclose(critic(x, first), critic(x, second))


@pytest.mark.parametrize("shape", [(1, 4, 4), (10,), (0, 8, 8)])
def test_what_is_no_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="at least 8 x 8"):
        grid_of(shape)


def test_augmentation_is_the_same_on_every_call_and_differentiable() -> None:
    x = torch.rand(6, 3, 16, 16, requires_grad=True)
    first = augmented(x, torch.Generator().manual_seed(1))
    torch.testing.assert_close(first, augmented(x, torch.Generator().manual_seed(1)))
    assert not torch.allclose(first, augmented(x, torch.Generator().manual_seed(2)))
    (grad,) = torch.autograd.grad(first.sum(), x)
    assert bool(torch.isfinite(grad).all())
    assert float(grad.abs().sum()) > 0


def test_the_running_average_is_one() -> None:
    mean, net = nn.Linear(2, 2), nn.Linear(2, 2)
    before = mean.weight.detach().clone()
    follow(mean, net, 0.75)
    torch.testing.assert_close(mean.weight.detach(), 0.75 * before + 0.25 * net.weight.detach())


# --- training


def test_a_gan_prior_is_a_prior_in_the_bounds_of_its_records() -> None:
    spec = InputSpec((1, 12, 12), Bounds.of(-3.0, 5.0))
    records = replace(public(), x=spec.bounds.from_unit(pictures(40)))
    prior = train_gan(records, spec, 0, Work(), **SMALL)
    assert isinstance(prior, Prior)
    decoder = prior.decoder()
    assert isinstance(decoder, Decoder)
    z = np.random.default_rng(0).standard_normal((5, prior.size)).astype(np.float32)
    x = prior.decode(z)
    assert x.shape == (5, 1, 12, 12)
    assert x.dtype == np.float32
    assert spec.bounds.contain(x)
    assert spec.bounds.contain(prior.sample(3, np.random.default_rng(1)))
    latents = torch.from_numpy(z).requires_grad_()
    out = decoder(latents)
    np.testing.assert_allclose(out.detach().numpy(), x, atol=1e-4)
    staged = torch.from_numpy(z)
    for stage in decoder.stages:
        staged = stage(staged)
    torch.testing.assert_close(staged, out.detach())
    real = decoder.critic(out)
    assert real is not None
    assert real.shape == (5,)
    (grad,) = torch.autograd.grad(real.sum(), latents)
    assert float(grad.abs().sum()) > 0
    pickle.loads(pickle.dumps(prior))


def test_the_generator_learns_the_records_and_encoding_finds_them() -> None:
    records = public(30)
    prior = train_gan(records, SPEC, 0, Work(), steps=120, size=16, width=8, batch=16, rate=2e-3, smooth=0.8)
    assert prior.components is not None
    redrawn = ((prior.decode(prior.encode(records.x)) - records.x) ** 2).mean()
    assert redrawn < 0.25 * records.x.var(axis=0).mean()
    # The projection alone is a start, and descent betters it.
    start = ((prior.decode(prior.encode(records.x, steps=0)) - records.x) ** 2).mean()
    assert redrawn < start < records.x.var(axis=0).mean()


def test_a_conditional_prior_draws_its_classes() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    x = (0.25 + 0.5 * y[:, None, None, None] + 0.05 * rng.standard_normal((40, 1, 12, 12))).clip(0, 1)
    records = Records(x.astype(np.float32), y, class_names=("dark", "light"))
    prior = train_cgan(records, SPEC, 0, Work(), steps=100, size=8, width=8, batch=16, smooth=0.9)
    assert prior.kind == "cgan"
    z = rng.standard_normal((20, 8)).astype(np.float32)
    dark, light = prior.decode(z, np.zeros(20, dtype=int)), prior.decode(z, np.ones(20, dtype=int))
    assert dark.mean() < 0.4 < 0.6 < light.mean()
    drawn = prior.decoder()(torch.from_numpy(z), torch.ones(20, dtype=torch.long))
    np.testing.assert_allclose(drawn.detach().numpy(), light, atol=1e-5)


def test_the_same_seed_gives_the_same_prior_and_another_another() -> None:
    first, again, other = (train_gan(public(), SPEC, seed, Work(), **SMALL) for seed in (3, 3, 4))
    z = np.ones((1, 8), dtype=np.float32)
    np.testing.assert_array_equal(first.decode(z), again.decode(z))
    assert not np.array_equal(first.decode(z), other.decode(z))


class _Killed(Exception):
    """The listener's way to end a training."""


@pytest.mark.parametrize("train", [train_gan, train_cgan])
def test_a_killed_training_goes_on_to_the_same_result(train: Any, tmp_path: Path) -> None:
    options = {**SMALL, "steps": 8}
    whole = train(public(), SPEC, 0, Work(), **options)
    seen: list[float] = []

    def listener(step: Progress) -> None:
        seen.append(step.done)
        if step.state == "moving" and step.done >= 0.6 and len(seen) < 100:
            raise _Killed

    place = tmp_path / "x.part"
    with pytest.raises(_Killed):
        train(public(), SPEC, 0, Work(place, "key", listener), **options)
    assert place.is_file()
    told: list[Progress] = []
    resumed = train(public(), SPEC, 0, Work(place, "key", told.append), **options)
    assert told[0].done >= 0.6
    z = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
    np.testing.assert_array_equal(resumed.decode(z), whole.decode(z))
    unit = torch.from_numpy(public().x[:3])
    torch.testing.assert_close(resumed.decoder().critic(unit), whole.decoder().critic(unit), rtol=0, atol=0)


def test_the_state_of_another_training_or_a_broken_one_is_not_taken_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "x.part"
    place.write_bytes(b"PK\x03\x04 cut short")
    Work(place, "one", every=0.0).run(2, lambda _: None, lambda: {"a": 1}, lambda _: pytest.fail("taken up"))
    assert "starts anew" in caplog.text
    caplog.clear()
    Work(place, "another").run(2, lambda _: None, lambda: {}, lambda _: pytest.fail("taken up"))
    assert "of another training" in caplog.text


def test_a_training_that_comes_apart_is_said() -> None:
    with pytest.raises(ModelError, match=r"came apart at step .*; lower its rate"):
        train_gan(public(), SPEC, 0, Work(), **{**SMALL, "steps": 41, "rate": 0.999, "anchor": float("inf")})


@pytest.mark.parametrize(
    ("change", "options", "error", "words"),
    [
        ({"x": pictures(3), "y": None}, {}, DataError, "at least 4 public records"),
        ({"x": np.ones((9, 1, 12, 12), dtype=np.float32), "y": None}, {}, DataError, "all the same"),
        ({}, {"step": 3}, ConfigError, "did you mean 'steps'"),
        ({}, {"steps": 0}, ConfigError, "steps of a GAN prior is a whole number from 1"),
        ({}, {"rate": 2.0}, ConfigError, r"rate lies in \(0, 1\)"),
    ],
)
def test_bad_input_to_a_training(change: dict[str, Any], options: dict[str, Any], error: type, words: str) -> None:
    records = public()
    if change:
        records = Records(change["x"], change["y"])
    with pytest.raises(error, match=words):
        train_gan(records, SPEC, 0, Work(), **{**SMALL, **options})


def test_tables_and_records_without_classes_are_refused() -> None:
    table = Records(np.random.default_rng(0).random((20, 5)).astype(np.float32), modality=Modality.TABLE)
    with pytest.raises(DataError, match="use the prior 'pca'"):
        train_gan(table, InputSpec((5,), modality=Modality.TABLE), 0, Work(), **SMALL)
    with pytest.raises(DataError, match="classes of their own; use the prior 'gan'"):
        train_cgan(Records(pictures(20)), SPEC, 0, Work(), **SMALL)


def test_mirror_images_are_learned_only_where_they_look_like_records() -> None:
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 1, 12)
    left = (0.6 * ramp + 0.4 * rng.random((60, 1, 12, 1)) * ramp).astype(np.float32) * np.ones((1, 1, 12, 1))
    left = left.astype(np.float32)
    assert not mirrored_alike(left, None, 0)
    both = np.concatenate([left[:30], left[30:, ..., ::-1]])
    assert mirrored_alike(both, None, 0)


def test_device_of_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(device.VARIABLE, "cpu")
    assert device.best_device().type == "cpu"
    monkeypatch.setenv(device.VARIABLE, "tpu")
    with pytest.raises(ConfigError, match="names no device"):
        device.best_device()
    with device.mixed(torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.float32
    assert device.described(torch.device("cpu")).startswith("processor, ")


# --- artefacts and the shelf


@pytest.mark.parametrize("kind", ["pca", "gan", "cgan"])
def test_a_saved_prior_comes_back_as_it_was(kind: str, tmp_path: Path) -> None:
    options = {"components": 5} if kind == "pca" else SMALL
    prior, card = trained(kind, public(), SPEC, 1, **options)
    place = artefact.save(prior, card, tmp_path / "deep" / "faces")
    assert place.name == "faces.safetensors"
    rng = np.random.default_rng(0)
    z = rng.standard_normal((4, prior.size)).astype(np.float32)
    for path in (place, tmp_path / "deep" / "faces", tmp_path / "deep" / "faces.card.json", tmp_path / "deep"):
        again = artefact.load(path, SPEC)
        np.testing.assert_array_equal(again.decode(z), prior.decode(z))
        np.testing.assert_array_equal(again.encode(public().x[:2]), prior.encode(public().x[:2]))
        assert again.kind == kind
    card = artefact.read_card(place)
    assert (card.records, card.seed, card.source) == (40, 1, "smooth pictures")
    assert len(card.rows) == 40
    assert {"frechet", "frechet_real", "diversity", "copies"} <= set(card.facts)
    # Pictures in another range are the same pictures.
    wide = artefact.load(place, InputSpec((1, 12, 12), Bounds.of(0.0, 255.0)))
    np.testing.assert_allclose(wide.decode(z), prior.decode(z) * 255, atol=0.01)


def _saved(folder: Path, **options: Any) -> Path:
    prior, card = trained("gan", public(), SPEC, 0, **{**SMALL, **options})
    return artefact.save(prior, card, folder / "p")


def _card_changed(place: Path, **changes: Any) -> None:
    card = place.with_name("p.card.json")
    card.write_text(json.dumps({**json.loads(card.read_text()), **changes}))


def test_an_artefact_that_is_not_what_it_says_is_refused(tmp_path: Path) -> None:
    place = _saved(tmp_path)
    with pytest.raises(ConfigError, match=r"takes \(image\) \(1, 64, 64\): train one with .*--size 64 --grey"):
        artefact.load(place, InputSpec((1, 64, 64)))
    held = place.read_bytes()
    place.write_bytes(held[:-1] + bytes([held[-1] ^ 1]))
    with pytest.raises(ModelError, match="its SHA-256 is another"):
        artefact.load(place)
    place.write_bytes(held)
    _card_changed(place, kind="gann")
    with pytest.raises(ConfigError, match="did you mean 'gan'"):
        artefact.load(place)
    _card_changed(place, kind="gan", options={"size": 9, "width": 8, "classes": 0, "class_names": []})
    with pytest.raises(ModelError, match="does not hold the nets"):
        artefact.load(place)
    _card_changed(place, mystery=1)
    with pytest.raises(ConfigError, match="is no card of a prior"):
        artefact.load(place)
    with pytest.raises(ConfigError, match="no card of a prior at"):
        artefact.load(tmp_path / "nowhere")
    (tmp_path / "q.card.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds p, q; name the file"):
        artefact.load(tmp_path)


def test_a_prior_that_draws_no_numbers_is_refused() -> None:
    prior = PCAPrior.fit(pictures(20), SPEC, components=3)
    with pytest.raises(ModelError, match="NaN"):
        artefact.check(replace(prior, mean=np.full_like(prior.mean, np.nan)), "p")


def test_a_table_of_another_range_is_refused(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((30, 4)).astype(np.float32)
    spec = InputSpec((4,), Bounds.of(x.min(axis=0), x.max(axis=0)), Modality.TABLE)
    prior, card = trained("pca", Records(x, modality=Modality.TABLE), spec, components=2, mirror=False)
    place = artefact.save(prior, card, tmp_path / "table")
    assert artefact.load(place, spec).size == 2
    with pytest.raises(ConfigError, match="another value range"):
        artefact.load(place, replace(spec, bounds=Bounds.of(0.0, 2.0)))


def _counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often a GAN is trained from now on."""
    from seepage.models.priors import shelf

    calls: list[int] = []

    def counting(*args: Any, **options: Any) -> GANPrior:
        calls.append(1)
        return train_gan(*args, **options)

    monkeypatch.setattr(shelf, "TRAINERS", {**shelf.TRAINERS, "gan": counting})
    monkeypatch.setattr(shelf, "_MEMORY", shelf._Memory())
    return calls


def test_a_shelf_trains_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from seepage.models.priors import shelf

    calls = _counted(monkeypatch)
    for folder in (None, tmp_path):
        calls.clear()
        knowledge = InversionKnowledge(
            public=public(), spec=SPEC, classes=np.arange(2), priors=Shelf(folder=folder, seed=5)
        )
        first = prior_for(knowledge, "gan", **SMALL)
        assert prior_for(knowledge, "gan", **SMALL) is first
        assert len(calls) == 1
        prior_for(knowledge, "gan", **{**SMALL, "steps": 4})
        prior_for(replace(knowledge, public=public(seed=1)), "gan", **SMALL)
        assert len(calls) == 3
    # Another process finds it in the folder.
    monkeypatch.setattr(shelf, "_MEMORY", shelf._Memory())
    calls.clear()
    again = prior_for(knowledge, "gan", **SMALL)
    assert not calls
    z = np.ones((2, 8), dtype=np.float32)
    np.testing.assert_array_equal(again.decode(z), first.decode(z))
    assert again.facts["records"] == 40
    assert not list(tmp_path.glob("*.part"))
    # One that is damaged is trained again.
    for place in tmp_path.glob("*.safetensors"):
        place.write_bytes(b"damaged")
    monkeypatch.setattr(shelf, "_MEMORY", shelf._Memory())
    np.testing.assert_array_equal(prior_for(knowledge, "gan", **SMALL).decode(z), first.decode(z))
    assert len(calls) == 1


def test_the_memory_of_a_shelf_is_bounded() -> None:
    from seepage.models.priors import shelf

    memory = shelf._Memory()
    prior = PCAPrior.fit(pictures(10), SPEC, components=2)
    for i in range(40):
        memory.get(str(i), lambda: prior)
    assert len(memory._held) == shelf._MOST_IN_MEMORY
    assert len(memory._busy) <= shelf._MOST_IN_MEMORY


def test_a_shelf_says_what_it_lacks() -> None:
    with pytest.raises(ConfigError, match="none was brought"):
        Shelf().get("own", public(), SPEC)
    with pytest.raises(ConfigError, match="did you mean 'cgan'"):
        Shelf().get("cgam", public(), SPEC)
    with pytest.raises(ConfigError, match="numbers, texts and truths"):
        Shelf().get("gan", public(), SPEC, steps=np.arange(3))
    pickle.loads(pickle.dumps(Shelf(folder=Path("x"))))


# --- quality


def test_the_frechet_distance_of_gaussians_is_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((20000, 3)) * [1.0, 2.0, 3.0]
    b = rng.standard_normal((20000, 3)) * [2.0, 2.0, 1.0] + [1.0, 0.0, 0.0]
    assert frechet(a, b) == pytest.approx(1 + 1 + 0 + 4, rel=0.05)
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)
    # Correlated: C and 4 C differ by tr C.
    mix = rng.standard_normal((3, 3))
    assert frechet(a @ mix, 2 * (a - a.mean(axis=0)) @ mix + a.mean(axis=0) @ mix) == pytest.approx(
        np.trace(np.cov((a @ mix).T)), rel=1e-6
    )


def test_gabor_features_tell_directions_apart() -> None:
    stripes = np.zeros((1, 1, 32, 32), dtype=np.float32)
    stripes[..., ::4] = stripes[..., 1::4] = 1.0
    both = np.concatenate([stripes, stripes.swapaxes(2, 3)])
    found = features(both, InputSpec((1, 32, 32)))
    assert found.shape == (2, 88)
    upright, lying = found[:, :9].mean(axis=1), found[:, 18:27].mean(axis=1)
    assert upright[0] > 5 * lying[0]
    assert lying[1] > 5 * upright[1]
    # Turned by a right angle, the grid is turned too.
    np.testing.assert_allclose(found[0, :9].reshape(3, 3), found[1, 18:27].reshape(3, 3).T, rtol=1e-3)
    flat = features(np.full((1, 1, 32, 32), 0.7, dtype=np.float32), InputSpec((1, 32, 32)))
    np.testing.assert_allclose(flat[0, :72], 0, atol=1e-3)
    np.testing.assert_allclose(flat[0, 72:], 0.7, atol=1e-5)


def test_nearest_is_about_what_pictures_show() -> None:
    x = pictures(20)
    np.testing.assert_allclose(nearest(0.5 * x + 0.1, x, SPEC), 0, atol=1e-3)
    assert nearest(pictures(5, seed=9), x, SPEC).min() > 0.1


@dataclass(frozen=True)
class Drawer:
    """A prior that draws with replacement from given records."""

    pool: np.ndarray
    spec: InputSpec = SPEC
    kind: str = "own"
    size: int = 1
    noise: float = 0.0

    @property
    def facts(self) -> dict[str, float | str | None]:
        return {}

    def decode(self, z: np.ndarray) -> np.ndarray:
        return self.pool[np.round(np.abs(z[:, 0])).astype(int) % len(self.pool)]

    def encode(self, x: np.ndarray) -> np.ndarray:
        flat, known = x.reshape(len(x), -1), self.pool.reshape(len(self.pool), -1)
        return ((flat[:, None] - known) ** 2).sum(axis=2).argmin(axis=1)[:, None].astype(np.float32)

    def sample(self, n: int, rng: np.random.Generator, limit: float = 2.0) -> np.ndarray:
        return self.pool[rng.integers(len(self.pool), size=n)]

    def decoder(self) -> Any:
        raise NotImplementedError


def test_quality_tells_a_copier_a_collapsed_and_an_honest_prior_apart() -> None:
    records = public(200)
    seen, apart = held_out(records, 0)
    assert apart is not None
    assert len(apart) == 20
    assert not {*seen.ids} & {*apart.ids}
    honest = measured(Drawer(pictures(500, seed=7)), seen, apart, 0)
    copier = measured(Drawer(seen.x), seen, apart, 0)
    collapsed = measured(Drawer(seen.x[:1]), seen, apart, 0)
    blank = measured(Drawer(np.random.default_rng(0).random((50, 1, 12, 12)).astype(np.float32)), seen, apart, 0)
    assert honest["copies"] < 0.2
    assert copier["copies"] == 1.0
    assert "near copies" in str(copier["warning"])
    assert honest["warning"] is None
    assert honest["diversity"] == pytest.approx(1, abs=0.15)
    assert collapsed["diversity"] == pytest.approx(0, abs=1e-3)
    assert "collapsed" in str(collapsed["warning"])
    assert honest["frechet"] == pytest.approx(honest["frechet_real"], rel=0.35)
    assert blank["frechet"] > 3 * honest["frechet"]
    assert measured(Drawer(seen.x), seen, None, 0)["copies"] is None


def test_few_records_are_all_trained_on() -> None:
    seen, apart = held_out(public(12), 0)
    assert apart is None
    assert len(seen) == 12


# --- a generator from elsewhere


def tanh_net(z: torch.Tensor) -> torch.Tensor:
    weights = torch.sin(torch.arange(8 * 144).float()).reshape(8, 144)
    return torch.tanh(z @ weights).reshape(-1, 1, 12, 12)


def test_a_generator_from_elsewhere_is_a_prior() -> None:
    spec = InputSpec((1, 12, 12), Bounds.of(0.0, 255.0))
    prior = own_prior(tanh_net, 8, spec, range=(-1, 1))
    assert isinstance(prior, Prior)
    z = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
    wanted = (tanh_net(torch.from_numpy(z)).numpy() + 1) * 127.5
    np.testing.assert_allclose(prior.decode(z), wanted, atol=0.01)
    np.testing.assert_allclose(prior.decoder()(torch.from_numpy(z)).numpy(), wanted, atol=0.01)
    near = prior.decode(prior.encode(prior.decode(z)))
    far = prior.sample(3, np.random.default_rng(1))
    assert ((near - wanted) ** 2).mean() < 0.2 * ((far - wanted) ** 2).mean()
    named = own_prior(f"{__name__}:tanh_net", 8, spec, range=(-1, 1))
    np.testing.assert_array_equal(named.decode(z), prior.decode(z))


def test_a_generator_of_another_size_is_brought_to_the_records() -> None:
    deep = nn.Sequential(nn.ConvTranspose2d(5, 3, 16), nn.Sigmoid())
    prior = own_prior(deep, (5, 1, 1), SPEC, resize=True)
    assert prior.size == 5
    assert prior.sample(2, np.random.default_rng(0)).shape == (2, 1, 12, 12)


def test_a_function_without_gradients_serves_attacks_without_weights_alone() -> None:
    prior = own_prior(lambda z: tanh_net(z).numpy() if not z.requires_grad else tanh_net(z.detach()), 8, SPEC, (-1, 1))
    assert prior.encode(pictures(2)).shape == (2, 8)
    with pytest.raises(ConfigError, match="gives no gradients"):
        prior.decoder()


@pytest.mark.parametrize(
    ("generator", "size", "more", "error", "words"),
    [
        (tanh_net, 8, {}, ConfigError, r"say range=\(-1, 1\)"),
        (lambda z: 127 * (tanh_net(z) + 1), 8, {}, ConfigError, r"say range=\(0, 255\)"),
        (lambda z: 900 * tanh_net(z), 8, {}, ConfigError, "say the range it draws in"),
        (lambda z: (tanh_net(z) + 1) / 2, 8, {"range": (0, 255)}, ConfigError, "next to nothing"),
        (tanh_net, 9, {}, ModelError, "failed on latents of shape"),
        (tanh_net, 0, {}, ConfigError, "how many numbers a latent has"),
        (lambda z: tanh_net(z).permute(0, 2, 3, 1), 8, {"range": (-1, 1)}, ConfigError, "channels first"),
        (lambda z: tanh_net(z)[..., :10], 8, {"range": (-1, 1)}, ConfigError, "resize=True"),
        (lambda z: tanh_net(z) * np.nan, 8, {}, ModelError, "NaN"),
        (lambda z: torch.rand(len(z), 1, 12, 12), 8, {}, ConfigError, "another picture each time"),
        (lambda z: tanh_net(torch.ones_like(z)), 8, {"range": (-1, 1)}, ConfigError, "same picture for every latent"),
        (lambda z: tanh_net(z)[:1], 8, {"range": (-1, 1)}, ConfigError, "one each was wanted"),
        (lambda z: "x", 8, {}, ModelError, "a tensor or an array"),
        (nn.Linear, 8, {}, ConfigError, "give an instance"),
        ("nothing", 8, {}, ConfigError, "'package.module:name'"),
        ("no_such_module:x", 8, {}, ConfigError, "cannot be imported"),
        ("torch.nn:Identitty", 8, {}, ConfigError, "did you mean 'Identity'"),
        (tanh_net, 8, {"range": (1, -1)}, ConfigError, "least, greatest"),
    ],
)
def test_a_generator_that_does_not_fit_says_what_to_do(
    generator: Any, size: int, more: dict[str, Any], error: type, words: str
) -> None:
    with pytest.raises(error, match=words):
        own_prior(generator, size, SPEC, **more)


# --- was it trained on private records?


def test_the_rank_test_is_a_test() -> None:
    """Under no difference its chance is uniform; a clear difference within groups is seen through group effects."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(10), 8)
    marked = np.tile(np.arange(8) < 4, 10)
    chances = []
    for _ in range(30):
        p = chance_of_smaller(rng.standard_normal(80) + groups, marked, groups, rng)
        assert p is not None
        chances.append(p)
    assert 0.3 < np.mean(chances) < 0.7
    assert np.mean(np.asarray(chances) < 0.05) <= 0.15
    nearer = chance_of_smaller(rng.standard_normal(80) + 5 * groups - marked, marked, groups, rng)
    assert nearer is not None
    assert nearer < 0.01
    assert chance_of_smaller(np.arange(4.0), np.array([True, True, False, False]), np.array([0, 0, 1, 1]), rng) is None


def _people(seed: int, count: int = 12, each: int = 10) -> tuple[Records, Records]:
    """Members and non-members of the same classes: pictures near their class's own."""
    rng = np.random.default_rng(seed)
    faces = pictures(count, seed)
    y = np.repeat(np.arange(count), each)
    x = (faces[y] + 0.3 * pictures(len(y), seed + 100) - 0.15).clip(0, 1).astype(np.float32)
    member = np.tile(np.arange(each) < each // 2, count)
    del rng
    return Records(x[member], y[member]), Records(x[~member], y[~member])


def test_a_prior_trained_on_private_records_is_found_and_an_honest_one_is_not() -> None:
    members, nonmembers = _people(1)
    others, _ = _people(50)
    guilty, guilty_card = trained("pca", members, SPEC, components=50, mirror=False)
    honest, honest_card = trained("pca", others, SPEC, components=50, mirror=False)
    # By the card; by how well members are redrawn, without a card; an honest prior by neither.
    listed = trained_on_private(guilty, members, nonmembers, guilty_card)
    assert listed.exact == len(members)
    assert "card lists 60" in str(listed.warning)
    silent = trained_on_private(guilty, members, nonmembers)
    assert silent.exact is None
    assert silent.p_redrawn is not None
    assert silent.p_redrawn < 0.01
    assert str(silent.warning).startswith("THE PRIOR WAS PROBABLY TRAINED ON PRIVATE RECORDS")
    clean = trained_on_private(honest, members, nonmembers, honest_card)
    assert (clean.exact, clean.near) == (0, 0)
    assert clean.warning is None
    # Nothing to compare with: the first looks remain.
    alone = trained_on_private(guilty, members, None, guilty_card)
    assert alone.p is None
    assert alone.suspected


def test_a_prior_that_copies_members_is_found_by_its_draws() -> None:
    members, nonmembers = _people(2)
    found = trained_on_private(Drawer(members.x), members, nonmembers)
    assert found.near == len(members)
    assert found.p_draws is not None
    assert found.p_draws < 0.01


def test_components_of_many_large_records_are_those_of_the_whole_decomposition(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above a size the greatest components alone are computed; they span the same space and are as strong."""
    rng = np.random.default_rng(0)
    planes = rng.normal(size=(6, 1, 12, 12))
    x = 0.5 + 0.02 * np.einsum("nk,kchw->nchw", rng.normal(size=(300, 6)) * np.arange(6, 0, -1), planes)
    x = np.clip(x + 0.001 * rng.normal(size=x.shape), 0, 1).astype(np.float32)
    whole = PCAPrior.fit(x, InputSpec((1, 12, 12)), components=6, mirror=False)
    monkeypatch.setattr("seepage.models.priors.pca._LARGE", 50)
    few = PCAPrior.fit(x, InputSpec((1, 12, 12)), components=6, mirror=False)
    np.testing.assert_allclose(few.basis, whole.basis, atol=2e-3 * np.abs(whole.basis).max())
    np.testing.assert_allclose(few.encode(x), whole.encode(x), atol=2e-2)
