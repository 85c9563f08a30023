"""Remote victims: what is sent, what is read, and how a server in trouble is treated."""

import json
import logging
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from random import Random

import numpy as np
import pytest

from fixtures_http import Reply, Server
from fixtures_victims import TABLE, table, thirds
from seepage.core.errors import AccessDenied, ConfigError, EndpointError, ModelError
from seepage.core.spec import Bounds, InputSpec
from seepage.core.target import Target
from seepage.core.victim import Model
from seepage.core.vocabulary import Access, Modality
from seepage.targets.patience import Patience, retry_after
from seepage.targets.remote import HttpModel

X, _ = table(10)
P = thirds(X)
QUICK = {"timeout": 5.0, "backoff": 0.01, "patience": 20.0}
DECLARED = {"classes": 3, "answers": "scores", **QUICK}


def scores(request, _):
    return Reply({"predictions": thirds(np.array(request.body["inputs"])).tolist()})


def scripted(*replies):
    """The replies one after the other, then honest answers."""

    def play(request, number):
        return replies[number] if number < len(replies) else scores(request, number)

    return play


def refused(play, **options):
    """The message with which asking the server `play` ends."""
    with (
        Server(play) as server,
        pytest.raises(EndpointError) as caught,
        HttpModel(server.url, TABLE, **{**DECLARED, **options}) as victim,
    ):
        victim.predict(X[:2])
    return str(caught.value)


# ---- what is sent and read


def test_a_remote_model_is_a_victim():
    with Server(scores) as server, HttpModel(server.url, TABLE, **QUICK) as victim:
        assert isinstance(victim, Model)
        assert victim.classes == 3
        assert victim.offers == {Access.SCORES}
        assert victim.fingerprint is None
        assert len(server.requests) == 1
        assert np.allclose(victim.predict(X), P, atol=1e-6)
        assert victim.predict(X[:0]).shape == (0, 3)
        assert Target(victim, {Access.LABELS}).labels(X).shape == (10,)
        with pytest.raises(AccessDenied, match="no logits"):
            victim.logits(X)


def test_nothing_is_sent_before_the_first_query_when_all_is_declared():
    with Server(scores) as server, HttpModel(server.url, TABLE, **DECLARED) as victim:
        assert victim.classes == 3
        assert server.requests == []
        victim.predict(X)
        assert victim.traffic == {"requests": 1, "retries": 0, "seconds_waited": 0.0}


@pytest.mark.parametrize(
    ("request_body", "read"),
    [
        ({"inputs": "$records"}, lambda body: body["inputs"]),
        ({"instances": "$records", "signature_name": "serve"}, lambda body: body["instances"]),
        ("$records", lambda body: body),
        ([{"x": {"deep": "$records"}}, 1], lambda body: body[0]["x"]["deep"]),
        ({"columns": ["a"], "rows": "$named_records"}, lambda body: [list(row.values()) for row in body["rows"]]),
    ],
)
def test_records_go_where_the_template_says(request_body, read):
    def play(request, _):
        return Reply({"predictions": thirds(np.array(read(request.body))).tolist()})

    with Server(play) as server, HttpModel(server.url, TABLE, request=request_body, batch=4, **DECLARED) as victim:
        assert np.allclose(victim.predict(X), P, atol=1e-6)
        assert [len(read(r.body)) for r in server.requests] == [4, 4, 2]
        assert server.requests[0].headers["content-type"] == "application/json"
        if "rows" in request_body:
            assert set(server.requests[0].body["rows"][0]) == set("abcd")


@pytest.mark.parametrize("placeholder", ["$record", "$named"])
@pytest.mark.parametrize("wrapped", [True, False])
def test_one_record_at_a_time(placeholder, wrapped):
    def play(request, _):
        record = request.body["x"]
        assert isinstance(record, dict) == (placeholder == "$named")
        row = thirds(np.array([list(record.values()) if isinstance(record, dict) else record]))[0].tolist()
        return Reply({"scores": [row] if wrapped else row})

    options = {"request": {"x": placeholder}, "response": "scores"}
    with Server(play) as server, HttpModel(server.url, TABLE, **options, **DECLARED) as victim:
        assert np.allclose(victim.predict(X), P, atol=1e-6)
        assert len(server.requests) == len(X)


@pytest.mark.parametrize("flatten", [True, False])
def test_pictures_are_sent_prepared_and_exact(flatten):
    spec = InputSpec((3, 2, 2), Bounds.of(0.0, 255.0), mean=(10.0,), std=(20.0,), layout="hwc")
    x = np.random.default_rng(0).uniform(0, 255, (2, 3, 2, 2)).astype(np.float32)

    with Server(lambda r, _: Reply({"predictions": [[0.5, 0.5]] * 2})) as server:
        with HttpModel(server.url, spec, 2, answers="scores", flatten=flatten) as victim:
            victim.predict(x)
        sent = np.array(server.requests[0].body["inputs"])
    expected = spec.prepare(x).astype(np.float64)
    assert np.array_equal(sent, expected.reshape(2, -1) if flatten else expected)


@pytest.mark.parametrize(
    ("response", "wrap"),
    [
        ("", lambda p: p),
        ("predictions", lambda p: {"predictions": p, "model": "m"}),
        ("outputs.0.data", lambda p: {"outputs": [{"data": p}, {}]}),
        ("results.-1", lambda p: {"results": [None, p]}),
        ("predictions.*.probabilities", lambda p: {"predictions": [{"probabilities": row} for row in p]}),
    ],
)
def test_answers_are_found_where_the_path_says(response, wrap):
    def play(request, _):
        return Reply(wrap(thirds(np.array(request.body["inputs"])).tolist()))

    with Server(play) as server, HttpModel(server.url, TABLE, response=response, **DECLARED) as victim:
        assert np.allclose(victim.predict(X), P, atol=1e-6)


NAMES = ["cat", "dog", "emu"]


def as_pairs(row):
    order = np.argsort(-row)
    return [{"label": NAMES[i], "score": float(row[i])} for i in order]


@pytest.mark.parametrize(
    ("form", "options"),
    [
        (as_pairs, {}),
        (lambda row: dict(zip(NAMES, row.tolist(), strict=True)), {}),
        (
            lambda row: [{"name": n, "p": float(p)} for n, p in zip(NAMES, row, strict=True)],
            {"label_key": "name", "score_key": "p"},
        ),
        (lambda row: [{"label": i, "score": float(p)} for i, p in enumerate(row)], {}),
    ],
)
def test_labelled_scores_are_put_in_the_order_of_the_data(form, options):
    def play(request, _):
        return Reply({"predictions": [form(row) for row in thirds(np.array(request.body["inputs"]))]})

    with Server(play) as server, HttpModel(server.url, TABLE, class_names=NAMES, **options, **QUICK) as victim:
        assert victim.offers == {Access.SCORES}
        assert np.allclose(victim.predict(X), P, atol=1e-6)
    with (
        Server(play) as server,
        HttpModel(server.url, TABLE, class_names=["emu", "cat", "dog"], **options, **QUICK) as victim,
    ):
        named = "cat" in json.dumps(form(P[0]))
        assert np.allclose(victim.predict(X), P[:, [2, 0, 1]] if named else P, atol=1e-6)


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("k", [1, 2])
def test_the_likeliest_classes_alone_are_offered_as_top_k(declared, k):
    def play(request, _):
        rows = [as_pairs(row)[:k] for row in thirds(np.array(request.body["inputs"]))]
        return Reply({"predictions": [row[0] for row in rows] if k == 1 else rows})

    with Server(play) as server:
        answers = "top_k" if declared else "auto"
        with HttpModel(server.url, TABLE, class_names=NAMES, answers=answers, **QUICK) as victim:
            rows = victim.predict(X)
            assert victim.offers == {Access.TOP_K}
            with pytest.raises(AccessDenied):
                Target(victim, {Access.SCORES})
            classes, top = Target(victim, {Access.TOP_K}).top_k(X, k)
    best = np.sort(P, axis=1)[:, ::-1][:, :k]
    assert np.allclose(top, best, atol=1e-6)
    assert np.allclose(rows.sum(axis=1), best.sum(axis=1), atol=1e-6)
    assert classes.shape == (10, k)


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("form", [str, int, lambda i: NAMES[i], lambda i: {"label": NAMES[i], "id": i}, lambda i: [i]])
def test_labels_give_one_hot_rows_and_no_more(declared, form):
    def play(request, _):
        return Reply({"predictions": [form(int(i)) for i in thirds(np.array(request.body["inputs"])).argmax(1)]})

    named = {"class_names": NAMES} if form(0) not in ("0", 0, [0]) else {"classes": 3}
    if not declared and not isinstance(form(0), (str, int)):
        named["answers"] = "labels"
    with Server(play) as server:
        options = {"answers": "labels", **named} if declared else named
        with HttpModel(server.url, TABLE, **options, **QUICK) as victim:
            assert victim.offers == {Access.LABELS}
            assert np.array_equal(victim.predict(X), np.eye(3)[P.argmax(axis=1)])


def test_logits_are_offered_as_logits():
    def play(request, _):
        return Reply({"predictions": (4 * np.array(request.body["inputs"])[:, :3]).tolist()})

    with Server(play) as server, HttpModel(server.url, TABLE, outputs="logits", **QUICK) as victim:
        assert victim.offers == {Access.LOGITS}
        assert np.allclose(victim.logits(X), 4 * X[:, :3])
        assert np.allclose(victim.predict(X).sum(axis=1), 1)


@pytest.mark.parametrize("nested", [True, False])
def test_one_number_is_the_score_of_class_one(nested):
    def play(request, _):
        p = np.array(request.body["inputs"])[:, :1]
        return Reply({"predictions": p.tolist() if nested else p[:, 0].tolist()})

    with Server(play) as server, HttpModel(server.url, TABLE, **QUICK) as victim:
        assert victim.classes == 2
        assert np.allclose(victim.predict(X)[:, 1], X[:, 0])


def test_rounded_scores_come_back_as_they_were_answered():
    def play(request, _):
        return Reply({"predictions": np.round(thirds(np.array(request.body["inputs"])), 2).tolist()})

    with Server(play) as server, HttpModel(server.url, TABLE, sum_tolerance=0.02, **QUICK) as victim:
        assert np.array_equal(victim.predict(X), np.round(P.astype(np.float64), 2))


# ---- Open Inference Protocol


class Oip:
    """A server of the protocol with one model."""

    def __init__(self, outputs, inputs=None, path="/v2/models/faces"):
        self.outputs = outputs
        self.inputs = [{"name": "pixels", "datatype": "FP32", "shape": [-1, 4]}] if inputs is None else inputs
        self.path = path
        self.sizes = []

    def __call__(self, request, _):
        if request.method == "GET" and request.path == self.path:
            return Reply({"name": "faces", "inputs": self.inputs, "outputs": []})
        if request.method != "POST" or request.path != f"{self.path}/infer":
            return Reply({"error": "unknown model"}, status=404)
        (tensor,) = request.body["inputs"]
        assert tensor["name"] == (self.inputs[0]["name"] if self.inputs else tensor["name"])
        data = np.array(tensor["data"])
        assert data.ndim == 1
        self.sizes.append(tensor["shape"][0])
        x = data.reshape(tensor["shape"]).reshape(tensor["shape"][0], -1)
        made = {name: make(x) for name, make in self.outputs.items()}
        wanted = [output["name"] for output in request.body.get("outputs", [])] or list(made)
        return Reply({"model_name": "faces", "outputs": [{"name": n, **made[n]} for n in wanted]})


def tensor(kind, values, nested=False):
    values = np.asarray(values)
    return {
        "datatype": kind,
        "shape": list(values.shape),
        "data": values.tolist() if nested else values.reshape(-1).tolist(),
    }


def oip_scores(x):
    return tensor("FP32", thirds(x))


def oip_labels(x):
    return tensor("INT64", thirds(x).argmax(axis=1))


@pytest.mark.parametrize(
    ("suffix", "options", "path"),
    [
        ("", {"model": "faces"}, "/v2/models/faces"),
        ("/", {"model": "faces", "version": "2"}, "/v2/models/faces/versions/2"),
        ("/v2", {"model": "faces"}, "/v2/models/faces"),
        ("/v2/models/faces", {}, "/v2/models/faces"),
        ("/proxy/v2/models/faces/infer", {}, "/proxy/v2/models/faces"),
        ("/v2/models/faces/versions/1/infer", {}, "/v2/models/faces/versions/1"),
    ],
)
def test_the_protocol_is_spoken_at_every_form_of_address(suffix, options, path):
    oip = Oip({"label": oip_labels, "probabilities": oip_scores}, path=path)
    with Server(oip) as server:
        with HttpModel(server.url + suffix, TABLE, format="oip-v2", batch=4, **options, **QUICK) as victim:
            assert victim.classes == 3
            assert victim.offers == {Access.SCORES}
            assert np.allclose(victim.predict(X), P, atol=1e-6)
        assert [r.method for r in server.requests] == ["GET"] + ["POST"] * 4


def test_nested_data_and_a_named_output_are_read():
    oip = Oip({"a": lambda x: tensor("FP32", x), "b": lambda x: tensor("FP64", thirds(x), nested=True)})
    with Server(oip) as server:
        with HttpModel(server.url, TABLE, format="oip-v2", model="faces", output="b", **QUICK) as victim:
            assert np.allclose(victim.predict(X), P, atol=1e-6)
        assert server.requests[-1].body["outputs"] == [{"name": "b"}]


def test_labels_of_the_protocol_are_labels():
    with (
        Server(Oip({"predict": oip_labels})) as server,
        HttpModel(server.url, TABLE, 3, format="oip-v2", model="faces", **QUICK) as victim,
    ):
        assert victim.offers == {Access.LABELS}
        assert np.array_equal(victim.predict(X), np.eye(3)[P.argmax(axis=1)])
    with Server(Oip({"p": oip_scores, "l": oip_labels})) as server:
        options = {"format": "oip-v2", "model": "faces", "answers": "labels"}
        with HttpModel(server.url, TABLE, 3, **options, **QUICK) as victim:
            assert np.array_equal(victim.predict(X), np.eye(3)[P.argmax(axis=1)])
    names = Oip({"l": lambda x: tensor("BYTES", np.array(NAMES)[thirds(x).argmax(axis=1)])})
    with (
        Server(names) as server,
        HttpModel(server.url, TABLE, class_names=NAMES, format="oip-v2", model="faces", **QUICK) as victim,
    ):
        assert np.array_equal(victim.predict(X), np.eye(3)[P.argmax(axis=1)])


def test_a_fixed_batch_and_a_flat_input_are_kept():
    spec = InputSpec((1, 2, 2))
    oip = Oip({"p": oip_scores}, inputs=[{"name": "x", "datatype": "FP32", "shape": [1, 4]}])
    with Server(oip) as server, HttpModel(server.url, spec, format="oip-v2", model="faces", **QUICK) as victim:
        assert np.allclose(victim.predict(X.reshape(10, 1, 2, 2)), P, atol=1e-6)
        assert set(oip.sizes) == {1}
        assert server.requests[-1].body["inputs"][0]["shape"] == [1, 4]


def test_whole_number_inputs_get_rounded_values():
    spec = InputSpec((4,), Bounds.of(0.0, 255.0), Modality.TABLE)
    oip = Oip(
        {"p": lambda x: tensor("FP32", np.tile([0.5, 0.5], (len(x), 1)))},
        inputs=[{"name": "x", "datatype": "UINT8", "shape": [-1, 4]}],
    )
    with Server(oip) as server, HttpModel(server.url, spec, format="oip-v2", model="faces", **QUICK) as victim:
        victim.predict(np.array([[0.4, 254.6, 3.0, 7.0]], dtype=np.float32))
        assert server.requests[-1].body["inputs"][0]["data"] == [0, 255, 3, 7]
        assert server.requests[-1].body["inputs"][0]["datatype"] == "UINT8"


def test_a_server_that_describes_nothing_is_asked_with_what_is_declared():
    oip = Oip({"p": oip_scores}, inputs=[])
    with Server(oip) as server, HttpModel(server.url, TABLE, format="oip-v2", model="faces", **QUICK) as victim:
        assert np.allclose(victim.predict(X), P, atol=1e-6)
        assert server.requests[-1].body["inputs"][0]["name"] == "input-0"

    def silent(request, number):
        return Reply({"error": "no metadata"}, status=404) if request.method == "GET" else oip(request, number)

    options = {"format": "oip-v2", "model": "faces", **QUICK}
    with Server(silent) as server, HttpModel(server.url, TABLE, input_name="x", **options) as victim:
        assert np.allclose(victim.predict(X), P, atol=1e-6)
    with Server(silent) as server, pytest.raises(EndpointError, match=r"no metadata.*input_name="):
        HttpModel(server.url, TABLE, **options)


@pytest.mark.parametrize(
    ("oip", "options", "message"),
    [
        (
            Oip({"p": oip_scores}, inputs=[{"name": "a", "shape": [-1, 4]}, {"name": "b", "shape": [-1]}]),
            {},
            "'a', 'b'",
        ),
        (Oip({"p": oip_scores}, inputs=[{"name": "a", "shape": [-1, 5]}]), {}, r"shape \(5\).*\(4,\)"),
        (Oip({"p": oip_scores}, inputs=[{"name": "a", "datatype": "BYTES", "shape": [-1, 4]}]), {}, "takes BYTES"),
        (Oip({"p": oip_scores}), {"input_name": "z"}, "there is no 'z'"),
        (Oip({"l": oip_labels}), {"answers": "scores"}, "scores were wanted, and the endpoint answered 'l' INT64"),
        (Oip({"l": oip_labels}), {}, "give class_names"),
        (Oip({"p": lambda x: tensor("FP32", thirds(x)[:1])}), {}, "one row for each of 2 records"),
        (Oip({"p": lambda x: {**oip_scores(x), "shape": [2, 4]}}), {}, "one row for each of 2 records"),
        (Oip({"p": lambda x: {**oip_scores(x), "data": None}}), {}, "one row for each of 2 records"),
        (Oip({"p": lambda x: tensor("FP32", 2 * thirds(x))}), {}, "sums to 2"),
        (lambda r, _: Reply({"inputs": []} if r.method == "GET" else {"predictions": []}), {}, "holds 'outputs'"),
    ],
)
def test_what_is_not_the_protocol_is_refused(oip, options, message):
    with Server(oip) as server, pytest.raises(ModelError, match=message):
        HttpModel(server.url, TABLE, format="oip-v2", model="faces", **options, **QUICK)


def test_the_protocol_needs_a_model():
    with pytest.raises(ConfigError, match="give model="):
        HttpModel("http://h", TABLE, format="oip-v2")


# ---- a server in trouble


def test_too_many_requests_are_waited_out_as_long_as_the_server_says():
    play = scripted(Reply({"error": "slow down"}, 429, {"Retry-After": "1"}), Reply(b"", 503))
    with Server(play) as server, HttpModel(server.url, TABLE, **DECLARED) as victim:
        begun = time.monotonic()
        assert np.allclose(victim.predict(X), P, atol=1e-6)
        took = time.monotonic() - begun
        traffic = victim.traffic
    assert took >= 1.0
    assert traffic["requests"] == 3
    assert traffic["retries"] == 2
    assert 1.0 <= traffic["seconds_waited"] <= took


def test_a_date_to_come_back_at_is_honoured(monkeypatch):
    waits = []
    monkeypatch.setattr("seepage.targets.http.sleep", waits.append)
    then = format_datetime(datetime.now(UTC) + timedelta(seconds=7), usegmt=True)
    with (
        Server(scripted(Reply(b"", 503, {"Retry-After": then}))) as server,
        HttpModel(server.url, TABLE, **DECLARED) as victim,
    ):
        victim.predict(X)
    assert len(waits) == 1
    assert 5 <= waits[0] <= 7


def test_a_server_that_asks_for_more_than_patience_is_left_at_once():
    begun = time.monotonic()
    message = refused(lambda r, _: Reply(b"", 429, {"Retry-After": "3600"}), patience=2.0)
    assert time.monotonic() - begun < 1
    assert "asks to wait 3600 s" in message
    assert "patience = 2 s" in message


def test_patience_ends_when_a_server_only_says_zero(monkeypatch):
    waits = []
    monkeypatch.setattr("seepage.targets.http.sleep", waits.append)
    message = refused(lambda r, _: Reply(b"", 429, {"Retry-After": "0"}), backoff=0.5, patience=20.0)
    assert "429 (too many requests)" in message
    assert 4 <= len(waits) <= 8
    assert sum(waits) <= 20
    assert waits == sorted(waits)


def test_waits_double_and_stay_within_patience():
    patience = Patience(100.0, 1.0, Random(0))
    waits = [patience.wait() for _ in range(5)]
    for i, wait in enumerate(waits):
        assert 2**i / 2 <= wait <= 2**i
    assert patience.left == pytest.approx(100 - sum(waits))
    assert patience.wait(1e6) is None
    assert patience.wait(2.0) == 2.0
    longest = Patience(1e9, 1.0, Random(0))
    assert max(longest.wait() for _ in range(30)) <= 30


def test_retry_after_is_read_in_both_forms():
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert retry_after("120", now) == 120
    assert retry_after("Fri, 02 Jan 2026 03:05:05 GMT", now) == 60
    assert retry_after("Fri, 02 Jan 2026 03:05:05 -0000", now) == 60
    assert retry_after("Thu, 01 Jan 2026 00:00:00 GMT", now) == 0
    for nothing in (None, "", "soon", "-5", "1.5e3x"):
        assert retry_after(nothing, now) is None


@pytest.mark.parametrize("status", [500, 502, 504])
def test_a_failing_server_is_tried_again_a_few_times(status):
    bad = Reply({"error": "worker died"}, status)
    with Server(scripted(bad, bad)) as server, HttpModel(server.url, TABLE, retries=2, **DECLARED) as victim:
        assert np.allclose(victim.predict(X), P, atol=1e-6)
        assert victim.traffic["retries"] == 2
    message = refused(lambda r, _: bad, retries=2)
    assert f"answered {status}" in message
    assert "worker died" in message
    assert "tried 3 times" in message


def test_a_long_complaint_is_cut_to_200_characters():
    message = refused(lambda r, _: Reply(b"x" * 5000, 500), retries=0)
    assert "x" * 200 in message
    assert "x" * 201 not in message


def test_a_slow_server_is_given_up_in_time():
    begun = time.monotonic()
    message = refused(lambda r, _: Reply({}, delay=1.0), timeout=0.2, retries=1)
    assert time.monotonic() - begun < 2
    assert "no answer within timeout = 0.2 s" in message
    assert "tried 2 times" in message


def test_a_server_that_was_slow_once_is_asked_again():
    with (
        Server(scripted(Reply({}, delay=0.6))) as server,
        HttpModel(server.url, TABLE, **{**DECLARED, "timeout": 0.3}) as victim,
    ):
        assert np.allclose(victim.predict(X), P, atol=1e-6)


def test_an_answer_that_trickles_in_is_given_up_in_time():
    listener = socket.create_server(("127.0.0.1", 0))

    def trickle():
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n")
            for _ in range(20):
                try:
                    connection.sendall(b" ")
                except OSError:
                    return
                time.sleep(0.1)

    thread = threading.Thread(target=trickle)
    with listener:
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        begun = time.monotonic()
        with (
            HttpModel(url, TABLE, **{**DECLARED, "timeout": 0.3, "retries": 0}) as victim,
            pytest.raises(EndpointError, match="no answer within timeout"),
        ):
            victim.predict(X)
        assert time.monotonic() - begun < 1.5
        thread.join()


def test_a_server_that_is_not_there_is_named():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with (
        HttpModel(f"http://127.0.0.1:{port}/v1", TABLE, **{**DECLARED, "retries": 1}) as victim,
        pytest.raises(EndpointError, match=rf"http://127\.0\.0\.1:{port}/v1 does not answer.*tried 2 times") as caught,
    ):
        victim.predict(X)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply(b"<!doctype html><title>Sign in</title>", kind="text/html"), "an HTML page instead of JSON.*Sign in"),
        (Reply(b"<html>", kind="application/json"), "an HTML page instead of JSON"),
        (Reply(b"{'a': 1}"), "something else instead of JSON"),
        (Reply(b""), "an empty answer"),
        (Reply({"error": "no such model"}, 404), "answered 404.*no such model.*check the URL"),
        (Reply({"detail": "field required"}, 422), "answered 422.*field required.*request's shape"),
        (Reply(b"", 413), "lower batch"),
        (Reply({"message": "bad key"}, 401), "answered 401.*check the key.*env:NAME"),
        (Reply({"message": "bad key"}, 403), "answered 403.*check the key"),
        (Reply({"outputs": []}), "no 'predictions' at the top.*known: outputs.*response="),
        (Reply({"prediction": []}), "did you mean 'prediction'"),
        (Reply([1, 2]), "no 'predictions' at the top: a list of 2 is there"),
        (Reply({"predictions": [[0.5, 0.5]]}), "2 records were sent and at 'predictions' came a list of 1"),
        (Reply({"predictions": "cat"}), "came a str"),
        (Reply({"predictions": [[0.5, 0.5], [0.2, 0.8]]}), "2 scores a record for 3 classes"),
        (Reply({"predictions": [[0.2, 0.3, 0.5], [1.0]]}), "different numbers of scores"),
        (
            Reply({"predictions": [[1, 2, 3], [0.2, 0.3, 0.5]]}),
            'sums to 6 instead of 1.*outputs="logits".*answers="labels"',
        ),
        (Reply({"predictions": [[1.5, -0.5, 0.0], [0.2, 0.3, 0.5]]}), "negative"),
        (Reply(b'{"predictions": [[NaN, 0.5, 0.5], [0.2, 0.3, 0.5]]}'), "NaN or infinite"),
        (Reply(b'{"predictions": [[1e999, 0.5, 0.5], [0.2, 0.3, 0.5]]}'), "NaN or infinite"),
        (Reply({"predictions": [[None, 0.5, 0.5], [0.2, 0.3, 0.5]]}), "NaN or infinite"),
        (Reply(b'{"predictions": [[1' + b"0" * 400 + b", 0, 0], [0, 0, 1]]}"), "should be a list of numbers"),
        (Reply({"predictions": [["a", "b", "c"], [1, 0, 0]]}), "should be a list of numbers"),
        (Reply({"predictions": [[True, False, False], [1, 0, 0]]}), "should be a list of numbers"),
        (Reply({"predictions": [{"label": "cat", "score": "high"}] * 2}), "a score should be a number"),
        (Reply({"predictions": [[{"label": 0, "score": 0.9}]] * 2}), '1 of 3 classes.*answers="top_k"'),
        (Reply({"predictions": [[{"label": 0, "score": 0.5}] * 2] * 2}), "a class twice"),
        (Reply({"predictions": ["cat", "dog"]}), "should be a list of numbers"),
    ],
)
def test_unusable_answers_are_refused_in_one_message(reply, message):
    with (
        Server(lambda r, _: reply) as server,
        HttpModel(server.url, TABLE, retries=0, **DECLARED) as victim,
        pytest.raises(ModelError, match=message) as caught,
    ):
        victim.predict(X[:2])
    assert "\n" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)


@pytest.mark.parametrize(
    ("predictions", "options", "message"),
    [
        ([[0.5, 0.5]] * 2, {"classes": 3}, "tells 2 classes apart, but 3 were declared"),
        (["cat", "dog"], {}, "give class_names"),
        ([[{"label": "cat", "score": 0.5}]] * 2, {}, "give class_names"),
        (["cat", "cow"], {"class_names": NAMES}, "the label 'cow'"),
        ([3, 0], {"classes": 3}, "class numbers are 0 to 2"),
        ([[0.4, 0.4]] * 2, {}, "sums to 0.8"),
        ([[{"label": "cat", "score": -0.5}]] * 2, {"class_names": NAMES}, "no probabilities"),
        ([{"cat": 0.9, "dog": 0.9}] * 2, {"class_names": NAMES}, "no probabilities"),
    ],
)
def test_a_first_answer_that_makes_no_victim_is_refused_and_the_connection_closed(predictions, options, message):
    with Server(lambda r, _: Reply({"predictions": predictions})) as server, pytest.raises(ModelError, match=message):
        HttpModel(server.url, TABLE, **options, **QUICK)


def test_labels_declared_and_scores_answered_are_told_apart():
    message = refused(lambda r, _: Reply({"predictions": [[0.5, 0.2, 0.3]] * 2}), answers="labels")
    assert "is it scores?" in message


# ---- redirects, keys, and closing


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_within_the_host_are_followed(status):
    def play(request, number):
        if request.path == "/v1":
            return Reply(b"", status, {"Location": "/v1/"})
        return scores(request, number)

    with Server(play) as server, HttpModel(f"{server.url}/v1", TABLE, **DECLARED) as victim:
        assert np.allclose(victim.predict(X), P, atol=1e-6)
        victim.predict(X)
        paths = [request.path for request in server.requests]
        assert all(request.method == "POST" for request in server.requests)
    assert paths == (["/v1", "/v1/", "/v1/"] if status in (301, 308) else ["/v1", "/v1/"] * 2)


@pytest.mark.parametrize("location", ["http://evil.example/steal", "//evil.example/steal", "http://127.0.0.1:1/x"])
def test_redirects_to_another_host_are_not_followed(monkeypatch, location):
    monkeypatch.setenv("SEEPAGE_KEY", "s3cret")
    play = scripted(Reply(b"", 307, {"Location": location}))
    message = refused(play, headers={"Authorization": "Bearer env:SEEPAGE_KEY"})
    assert "to another host, which is not followed" in message
    assert "s3cret" not in message


def test_a_circle_of_redirects_ends():
    assert "more than 5 times" in refused(lambda r, _: Reply(b"", 307, {"Location": "/again"}))


def test_keys_come_from_the_environment_and_are_never_repeated(monkeypatch, caplog):
    monkeypatch.setenv("SEEPAGE_KEY", "s3cret-value")

    def play(request, number):
        if request.headers.get("x-api-key") != "s3cret-value":
            return Reply({"error": "no key"}, 401)
        if number < 1:
            return Reply({"error": "your key s3cret-value is over its quota"}, 500)
        return scores(request, number)

    caplog.set_level(logging.DEBUG)
    headers = {"X-Api-Key": "env:SEEPAGE_KEY", "X-Project": "audit", "Authorization": "Bearer env:SEEPAGE_KEY"}
    with Server(play) as server, HttpModel(server.url, TABLE, headers=headers, **DECLARED) as victim:
        assert np.allclose(victim.predict(X), P, atol=1e-6)
        assert server.requests[0].headers["authorization"] == "Bearer s3cret-value"
        assert server.requests[0].headers["x-project"] == "audit"
        assert server.requests[0].headers["user-agent"].startswith("seepage/")
        assert "s3cret" not in repr(victim) + json.dumps(victim.traffic)
    assert "s3cret-value" not in caplog.text
    assert "your key *** is over its quota" in caplog.text
    message = refused(lambda r, _: Reply({"error": "bad s3cret-value"}, 403), headers=headers)
    assert "s3cret" not in message
    assert "***" in message


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("http://h", {"headers": {"Authorization": "Bearer abc"}}, "must not lie in an audit file.*env:NAME"),
        ("http://h", {"headers": {"X-API-KEY": "abc"}}, "must not lie in an audit file"),
        ("http://h", {"headers": {"Cookie": "abc"}}, "must not lie in an audit file"),
        ("http://h", {"headers": {"X-Key": "env:SEEPAGE_NOT_SET"}}, "SEEPAGE_NOT_SET, which is not set"),
        ("http://user:pw@h", {}, "must not hold a password"),
        ("http://h/p?api_key=abc", {}, "'api_key' looks like a secret"),
        ("ftp://h", {}, "https://host/path was wanted"),
        ("h/v1", {}, "https://host/path was wanted"),
        ("http://h:port", {}, "https://host/path was wanted"),
        ("http://[::1", {}, "https://host/path was wanted"),
        ("http://h", {"format": "jsn"}, "did you mean 'json'"),
        ("http://h", {"answers": "label"}, "did you mean 'labels'"),
        ("http://h", {"outputs": "logit"}, "did you mean 'logits'"),
        ("http://h", {"method": "GET"}, "method is one of POST, PUT"),
        ("http://h", {"outputs": "logits", "answers": "labels"}, 'goes with answers="scores"'),
        ("http://h", {"timeout": 0.0}, "timeout is a number above zero"),
        ("http://h", {"patience": float("nan")}, "patience is a number above zero"),
        ("http://h", {"retries": -1}, "retries is zero or more"),
        ("http://h", {"batch": 0}, "batch is a number above zero"),
        ("http://h", {"request": {"x": "$recods"}}, "unknown placeholder '\\$recods': did you mean '\\$records'"),
        ("http://h", {"request": {"x": 1}}, "one placeholder.*it holds none"),
        ("http://h", {"request": {"x": "$record", "y": "$records"}}, "it holds \\$record, \\$records"),
        ("http://h", {"classes": 2, "class_names": NAMES}, "2 classes were declared, with 3"),
    ],
)
def test_options_that_cannot_be_used_are_named_before_anything_is_sent(url, options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        HttpModel(url, TABLE, **{"classes": 3, "answers": "scores", **options})
    assert "abc" not in str(caught.value)
    assert "pw" not in str(caught.value)


def test_names_of_features_are_needed_to_send_them():
    spec = InputSpec((4,), modality=Modality.TABLE)
    with pytest.raises(ConfigError, match="give the input's features"):
        HttpModel("http://h", spec, 3, answers="scores", request={"x": "$named"})


def test_a_closed_victim_says_so():
    with Server(scores) as server:
        with HttpModel(server.url, TABLE, **DECLARED) as victim:
            victim.predict(X)
        with pytest.raises(EndpointError, match="closed"):
            victim.predict(X)
        victim.close()


def test_a_victim_that_is_forgotten_closes_its_connections():
    with Server(scores) as server:
        victim = HttpModel(server.url, TABLE, **DECLARED)
        victim.predict(X)
        client = victim._endpoint._client
        del victim
        assert client.is_closed
