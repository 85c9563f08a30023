"""The report of audits of updates: captions that fit, the ladder in words, dots of dB, nothing private by accident."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

import seepage
from seepage.cli.summary import left_out_lines
from seepage.core.record import AuditRecord, LeftOut
from seepage.core.spec import InputSpec
from seepage.core.vocabulary import Leak
from seepage.models.client_nets import client_net
from seepage.models.federated import ClientNet, LocalTraining
from seepage.report import write_html, write_markdown
from seepage.report.updates import decibels, ladder, update_views
from seepage.testing.cases import smooth_pictures

SPEC = InputSpec((1, 8, 8))


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> AuditRecord:
    rng = np.random.default_rng(0)
    net = client_net("relu-mlp", SPEC.shape, 4, 0, hidden=120)
    x, y = smooth_pictures(3, rng, 8), np.array([0, 2, 3])
    update = ClientNet(net, SPEC, 4).round(x, y, LocalTraining(), rng)
    others = smooth_pictures(20, rng, 8), np.arange(20) % 4
    return seepage.audit_update(
        net,
        dict(update.tensors),
        input=SPEC,
        batch=(x, y),
        nonmembers=others,
        public=others[0],
        attacks="linear-layer",
        out=tmp_path_factory.mktemp("runs"),
    )


def test_the_page_speaks_of_updates(scored: AuditRecord) -> None:
    for show in (False, True):
        page = write_html(Path(scored.folder or ""), show_records=show).read_text()
        assert "Can it work?" in page
        assert "another batch&#x27;s update" in page
        assert "null model" not in page.lower()
        assert "the judge" not in page.lower()
        # Pictures only when they were asked for.
        assert ("other update</figcaption>" in page or ">other update" in page) is show
        assert ('class="shot' in page) is show


def test_the_text_has_the_same_sections(scored: AuditRecord) -> None:
    text = write_markdown(Path(scored.folder or "")).read_text()
    for heading in ("## Can it work?", "### ", "## Record by record"):
        assert heading in text
    assert "Threat model: B" in text
    assert "from the update of other records, median" in text


def test_the_ladder_is_told_in_words(scored: AuditRecord) -> None:
    (finding,) = scored.findings
    told = dict(ladder(finding))
    assert told["Told"] == "how many records the client has (3)"
    assert told["Guessed"] == "nothing"
    assert "the batch's statistics" in told["Not needed, or not known"]


def test_a_value_with_a_comma_stays_whole(scored: AuditRecord) -> None:
    facts = {"assumptions_known": "batch 3, prior faces, public, mode train"}
    (finding,) = scored.findings
    told = dict(ladder(finding.model_copy(update={"facts": facts})))
    assert told["Told"] == (
        "how many records the client has (3); what such records look like (faces), public; "
        "how batch normalisation computed (train)"
    )


def test_every_record_is_a_dot(scored: AuditRecord) -> None:
    ours, other = np.array([12.0, 33.0, 190.0]), np.array([9.0, 9.1])
    drawn = decibels("d", "t", [("from the update", ours, True), ("from another update", other, False)])
    tree = ElementTree.fromstring(drawn)
    marks = [e for e in tree.iter() if e.tag.endswith("path")]
    assert len(marks) == 5
    assert "33.0 dB" in drawn
    assert "3 records, median 33 dB" in drawn
    # What lies beyond the axis is drawn at its end, and said as it is.
    assert "190.0 dB" in drawn
    (view,) = update_views(scored, {scored.findings[0].id: {"psnr_db": ours}})
    assert view.dots is not None


def test_reasons_shared_by_many_are_said_once() -> None:
    minutes = "it takes minutes: ask for '{}' by name"
    left = [LeftOut(attack=name, leak=Leak.GRADIENT, reason=minutes.format(name)) for name in ("one", "two")]
    left.append(LeftOut(attack="three", leak=Leak.GRADIENT, reason="another reason"))
    assert left_out_lines(left) == [
        "left out: one, two: it takes minutes: ask for it by name",
        "left out: three: another reason",
    ]
