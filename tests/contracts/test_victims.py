"""The victims of known leakage leak what their closed forms say."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax
from scipy.stats import kstest, mannwhitneyu, norm

from seepage.core.errors import AccessDenied, ConfigError
from seepage.core.records import Records
from seepage.core.secrets import Judge
from seepage.core.spec import InputSpec
from seepage.core.target import Target
from seepage.core.victim import GivesEmbeddings, GivesLogits, GivesWeights, Model
from seepage.core.vocabulary import Access, Modality
from seepage.testing.cases import class_means, inversion_case, membership_case, smooth_pictures
from seepage.testing.judges import TemplateJudge
from seepage.testing.recording import RecordingModel, recording
from seepage.testing.victims import ConstantVictim, GaussianMembershipVictim, TemplateVictim


def templates(n: int = 6, seed: int = 0) -> np.ndarray:
    return smooth_pictures(n, np.random.default_rng(seed))


def table(n: int, seed: int, columns: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).random((n, columns)).astype(np.float32)


class TestTemplates:
    @pytest.mark.parametrize("seed", range(3))
    def test_the_likeliest_input_of_a_class_is_its_template(self, seed: int) -> None:
        """Half a percent of the least distance away at the most, and there where the closed form says."""
        given = templates(seed=seed)
        victim = TemplateVictim(given)
        network = victim.differentiable()
        apart = np.sqrt(np.square(given[:, None] - given[None]).sum(axis=(2, 3, 4)))
        least = apart[apart > 0].min()
        for c in range(len(given)):

            def cost(flat: np.ndarray, c: int = c) -> tuple[float, np.ndarray]:
                x = torch.tensor(flat.reshape(1, *given.shape[1:]), requires_grad=True)
                loss = torch.nn.functional.cross_entropy(network(x), torch.tensor([c]))
                (slope,) = torch.autograd.grad(loss, x)
                return loss.item(), slope.numpy().ravel().astype(np.float64)

            # The loss is tiny at the end: without a tolerance on it the search goes on to the maximum.
            stop = {"ftol": 0, "gtol": 1e-10}
            found = minimize(cost, np.full(given[0].size, 0.5), jac=True, method="L-BFGS-B", options=stop).x
            assert np.linalg.norm(found - given[c].ravel()) < 0.005 * least
            away = np.linalg.norm(victim.likeliest(c).ravel() - given[c].ravel())
            assert np.linalg.norm(found - victim.likeliest(c).ravel()) < 0.02 * away

    def test_numpy_and_torch_say_the_same(self) -> None:
        victim = TemplateVictim(templates(), labels=np.array([0, 0, 1, 1, 2, 2]))
        x = np.random.default_rng(1).random((5, 1, 12, 12))
        np.testing.assert_allclose(victim.differentiable()(torch.from_numpy(x)).detach().numpy(), victim.logits(x))
        np.testing.assert_allclose(np.log(victim.predict(x)), log_softmax(victim.logits(x), axis=1))

    def test_many_templates_a_class_memorise(self) -> None:
        x, y = table(80, 0), np.random.default_rng(0).integers(3, size=80)
        y[:3] = [0, 1, 2]
        victim = TemplateVictim(x, y, InputSpec((6,), modality=Modality.TABLE))
        assert (victim.predict(x).argmax(axis=1) == y).all()
        np.testing.assert_allclose(victim.embeddings(x).diagonal(), 0, atol=1e-7)

    @pytest.mark.parametrize("wrong", [{"width": 0.0}, {"power": -1.0}, {"labels": np.array([0, 1, 2, 3, 5, 5])}])
    def test_impossible_ones_are_refused(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ConfigError):
            TemplateVictim(templates(), **wrong)

    def test_the_closed_form_is_of_one_template_a_class(self) -> None:
        with pytest.raises(ConfigError, match="one template a class"):
            TemplateVictim(templates(), labels=np.array([0, 0, 1, 1, 2, 2])).likeliest(0)

    def test_two_classes_in_one_place_are_refused(self) -> None:
        with pytest.raises(ConfigError, match="should be positive"):
            TemplateVictim(templates()[[0, 0, 1]])


class TestGaussianMembership:
    @pytest.mark.parametrize("mu", [0.0, 0.5, 1.0, 2.0])
    def test_auc_and_roc_of_the_loss_attack(self, mu: float) -> None:
        n = 20000
        x = table(2 * n, seed=int(mu * 10))
        victim = GaussianMembershipVictim(Records(x[:n], modality=Modality.TABLE), mu, classes=3)
        rows = np.arange(2 * n)
        loss = -np.log(victim.predict(x)[rows, victim.rule(x)])
        found = mannwhitneyu(-loss[:n], -loss[n:]).statistic / n**2
        # The greatest standard error of an AUC over n and n is sqrt(1 / (4 n)); three of them.
        assert abs(found - norm.cdf(mu / np.sqrt(2))) < 3 / np.sqrt(4 * n)
        assert victim.auc == pytest.approx(norm.cdf(mu / np.sqrt(2)))
        for rate in (0.01, 0.1):
            share = float((loss[:n] < np.quantile(loss[n:], rate)).mean())
            assert abs(share - victim.true_positive_rate(rate)) < 5 * np.sqrt(1 / (4 * n))

    def test_latents_are_normal_and_their_seed_counts(self) -> None:
        x = table(3000, 1)
        none = Records(x[:0], modality=Modality.TABLE)
        one, other = GaussianMembershipVictim(none, 1.0), GaussianMembershipVictim(none, 1.0, seed=1)
        assert kstest(one.latent(x), "norm").pvalue > 0.01
        assert abs(np.corrcoef(one.latent(x), other.latent(x))[0, 1]) < 0.06
        np.testing.assert_array_equal(one.latent(x[::-1]), one.latent(x)[::-1])

    def test_labels_give_nothing_away(self) -> None:
        case = membership_case(0, mu=3.0)
        labels = Target(case.victim, {Access.LABELS}).labels(case.knowledge.candidates.x)  # type: ignore[attr-defined]
        assert (labels == case.secret.candidates.labels()).all()  # type: ignore[attr-defined]

    def test_scores_are_a_distribution(self) -> None:
        victim = GaussianMembershipVictim(Records(table(5, 0), modality=Modality.TABLE), 1.0, classes=4)
        scores = victim.predict(table(50, 2))
        np.testing.assert_allclose(scores.sum(axis=1), 1)
        assert (scores > 0).all()

    @pytest.mark.parametrize(("mu", "classes"), [(-1.0, 2), (1.0, 1), (1.0, 7)])
    def test_impossible_ones_are_refused(self, mu: float, classes: int) -> None:
        with pytest.raises(ConfigError, match="a shift of zero or more"):
            GaussianMembershipVictim(Records(table(5, 0), modality=Modality.TABLE), mu, classes=classes)


class TestConstant:
    def test_it_says_one_thing(self) -> None:
        victim = ConstantVictim([0.2, 0.3, 0.5], InputSpec((1, 2, 2)))
        x = np.random.default_rng(0).random((4, 1, 2, 2)).astype(np.float32)
        np.testing.assert_allclose(victim.predict(x), [[0.2, 0.3, 0.5]] * 4)
        np.testing.assert_allclose(np.exp(victim.logits(x)), victim.predict(x))
        asked = torch.from_numpy(x).requires_grad_(True)
        out = victim.differentiable()(asked)
        np.testing.assert_allclose(out.detach().softmax(1).numpy(), victim.predict(x), rtol=1e-6)
        out[:, 0].sum().backward()
        assert asked.grad is not None
        assert (asked.grad == 0).all()

    @pytest.mark.parametrize("prior", [[0.5, 0.6], [1.0, 0.0]])
    def test_what_is_no_prior_is_refused(self, prior: list[float]) -> None:
        with pytest.raises(ConfigError, match="sum to one"):
            ConstantVictim(prior, InputSpec((1, 2, 2)))


class TestRecording:
    def test_every_question_counts_once(self) -> None:
        victim = recording(TemplateVictim(templates()))
        assert isinstance(victim, RecordingModel)
        x = templates(4, seed=9)
        victim.predict(x)
        victim.logits(x[:2])
        victim.embeddings(x[:1])
        for _ in range(2):
            victim.differentiable()(torch.from_numpy(x[:3]))
        assert dict(victim.asked) == {"predict": 4, "logits": 2, "embeddings": 1, "weights": 6}
        assert victim.total == 13

    def test_a_network_handed_out_twice_is_not_counted_twice(self) -> None:
        class Lends(TemplateVictim):
            module = TemplateVictim(templates()).differentiable()

            def differentiable(self) -> Any:
                return self.module

        victim = recording(Lends(templates()))
        assert isinstance(victim, RecordingModel)
        first, second = victim.differentiable(), victim.differentiable()
        assert first is second
        second(torch.from_numpy(templates(5)))
        assert victim.total == 5

    def test_it_agrees_with_the_meter(self) -> None:
        victim = recording(TemplateVictim(templates()))
        assert victim is not None
        target = Target(victim, {Access.WEIGHTS})
        target.weights()(torch.from_numpy(templates(3)))
        target.labels(templates(2))
        assert victim.total == target.queries == 5

    def test_it_has_the_methods_of_what_is_inside_and_no_others(self) -> None:
        plain = recording(membership_case(0).victim)
        assert isinstance(plain, Model)
        assert isinstance(plain, GivesLogits)
        assert not isinstance(plain, GivesEmbeddings)
        assert not isinstance(plain, GivesWeights)
        with pytest.raises(AccessDenied):
            Target(plain, {Access.WEIGHTS})


class TestSmallCases:
    def test_the_judge_knows_the_templates(self) -> None:
        given = templates()
        judge = TemplateJudge(given)
        assert isinstance(judge, Judge)
        said = judge.predict(given)
        np.testing.assert_array_equal(said.argmax(axis=1), np.arange(6))
        assert said.diagonal().min() > 0.99
        assert judge.facts == {"accuracy": 1.0}
        np.testing.assert_allclose(judge.predict(given[:1]), said[:1])

    def test_cases_are_the_same_from_one_seed_and_others_from_another(self) -> None:
        for factory in (inversion_case, membership_case):
            one, again, other = factory(0), factory(0), factory(1)
            assert one.knowledge.public is not None
            assert again.knowledge.public is not None
            assert other.knowledge.public is not None
            assert one.knowledge.public.digest() == again.knowledge.public.digest()
            assert one.knowledge.public.digest() != other.knowledge.public.digest()

    def test_the_twin_never_saw_the_private_things(self) -> None:
        case = inversion_case(0)
        assert isinstance(case.null, TemplateVictim)
        assert isinstance(case.victim, TemplateVictim)
        gap = np.abs(case.null.templates[:, None] - case.victim.templates[None]).max(axis=(2, 3, 4))
        assert gap.min() > 0.1
        twin, member = membership_case(0).null, membership_case(0)
        assert isinstance(twin, GaussianMembershipVictim)
        assert not twin.is_member(member.secret.candidates.x).any()  # type: ignore[attr-defined]

    def test_class_means_are_the_means(self) -> None:
        case = inversion_case(2)
        assert case.training is not None
        records = case.training.recipe.data
        means = np.stack([records.of_class(c).x.mean(axis=0) for c in range(6)])
        np.testing.assert_array_equal(class_means(records, 0).templates, means)
