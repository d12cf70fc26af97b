"""Calls of the shell that cannot be right: exit code 2, one line that says what to mend, no traceback."""

import gzip
import json
import re
import shutil

import pytest
from typer.testing import CliRunner

from evenhand import gzipped
from evenhand.cli import app
from evenhand.multilabel.datasets import make_long_tail
from evenhand.multilabel.estimator import CuriosityGameClassifier
from evenhand.multilabel.model_io import Model, load_model, save_model
from evenhand.multilabel.neural.encoders import SparseBag
from evenhand.multilabel.neural.estimator import NeuralGameClassifier
from evenhand.multilabel.text_views import TextViews

DATA = make_long_tail(60, 8, 30, labels_per_instance=2.0, seed=0)
TEXTS = [" ".join(f"w{column}" for column in DATA.X[[row]].indices) for row in range(60)]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model of texts, one of features and a neural one; and a table."""
    folder = tmp_path_factory.mktemp("models")
    text_views = TextViews(("words",))
    game = CuriosityGameClassifier(tolerance=0.3, n_folds=2)
    save_model(Model(game.fit(text_views.fit_transform(TEXTS), DATA.Y), text_views), folder / "texts")
    save_model(
        Model(CuriosityGameClassifier(tolerance=0.3, n_folds=2).fit(DATA.X, DATA.Y)), folder / "features"
    )
    network = NeuralGameClassifier(SparseBag(4), epochs=1, device="cpu").fit(DATA.X, DATA.Y)
    save_model(Model(network), folder / "neural")
    rows = "".join(f'{text},"{",".join(DATA.tags(row))}"\n' for row, text in enumerate(TEXTS))
    (folder / "good.csv").write_text(f"text,tags\n{rows}")
    (folder / "good.txt").write_text("2 30 8\n0,1 1:1 2:1\n1 3:1\n")
    return folder


@pytest.fixture
def folder(models, tmp_path):
    shutil.copytree(models, tmp_path / "here")
    return tmp_path / "here"


def call(*arguments, group="multilabel", **options):
    return CliRunner().invoke(app, [group, *map(str, arguments)], **options)


def check(result, message):
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    error = result.stderr.splitlines()[-1]
    assert re.search(message, error), result.stderr
    assert error.startswith("error: ")
    assert len(error) < 2000
    return result.stderr.splitlines()


# --- train -----------------------------------------------------------------------------------------------

CSV = "text,tags\n" + "".join(f"word{n % 3} text,tag{n % 2}\n" for n in range(6))


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("a.csv", b"", (), r"a\.csv: the file is empty"),
        ("a.csv", CSV.replace("text,tags", "a,b"), (), r"a\.csv: no column 'text'; the columns are 'a', 'b'"),
        ("a.csv", CSV + "one,two,three\n", (), r"a\.csv:8: 3 fields, the header has 2"),
        ("a.csv", CSV.encode() + b"\xe9,a\n", (), r"a\.csv:8: not UTF-8 text"),
        ("a.csv", CSV.encode("utf-16"), (), r"a\.csv:1: not UTF-8 text but UTF-16; convert the file"),
        ("a.csv", "text,tags\nx,\ny,\n", (), r"a\.csv: no row has a tag in column 'tags'"),
        ("a.csv", CSV, ("--text", "none"), r"a\.csv: no column 'none'"),
        ("a.csv", CSV, ("--tags", "none"), r"a\.csv: no column 'none'"),
        ("a.csv", CSV, ("--group", "none"), r"a\.csv: no column 'none'"),
        ("a.csv", CSV, ("--separator", ""), r"separator is empty"),
        ("a.csv", CSV, ("--zero-based",), r"read_table has no option 'zero_based'"),
        ("a.csv", CSV, ("--views", "letters"), r"there is no view 'letters'; views may hold words"),
        ("a.csv", CSV, ("--views", "words,words"), r"views must be a list of different names"),
        ("a.csv", CSV, ("--views", ","), r"there is no view ''|different names"),
        ("a.csv", CSV, ("--min-df", 0), r"min_df must be a whole number from 1"),
        ("a.csv", CSV, ("--min-df", 99), r"min_df|in enough texts|no term"),
        ("a.csv", CSV, ("--C", "nan"), r"C must be a finite number above 0, not nan"),
        ("a.csv", CSV, ("--C", "1e400"), r"C must be a finite number above 0, not inf"),
        ("a.csv", CSV, ("--C", "0"), r"C must be a finite number above 0, not 0"),
        ("a.csv", CSV, ("--rarity-reward", "-1"), r"rarity_reward must be a finite number of at least 0"),
        ("a.csv", CSV, ("--own-share", "2"), r"own_share must lie between 0 and 1"),
        ("a.csv", CSV, ("--rounds", "-1"), r"rounds must be a whole number of at least 0"),
        ("a.csv", CSV, ("--folds", "1"), r"error: --folds is 1; take at least 2, or 0"),
        ("a.csv", CSV, ("--seed", "-1"), r"error: --seed must be a whole number of at least 0"),
        ("a.csv", CSV, ("--seed", 2**32), r"error: --seed must be .* at most 4294967295"),
        ("a.csv", CSV, ("--jobs", "0"), r"error: --jobs must be a whole number, -1 for all cores"),
        ("a.csv", CSV, ("--group", "tags"), r"error: --folds is 3, but there are only 2 groups of instances"),
        ("a.csv", CSV, ("--method", "trees", "--rounds", "1"), r"label trees have no --rounds; leave it out"),
        ("a.csv", CSV, ("--method", "trees", "--folds", "2"), r"label trees have no --folds; leave it out"),
        ("a.csv", CSV, ("--method", "neural", "--folds", "2"), r"neural players have no --folds; leave it"),
        ("a.csv", CSV, ("--method", "neural", "--seed", "-1"), r"error: --seed must be a whole number"),
        (
            "a.csv",
            CSV,
            ("--method", "neural", "--jobs", "0"),
            r"error: --jobs must be a whole number, -1 for all",
        ),
        ("a.csv", CSV, ("--method", "trees", "--decoder", "macro_f1"), r"decoder is 'macro_f1'; choose one"),
        ("a.txt", b"1 2 2\n5 1:1\n", (), r"a\.txt:2: label id 5 is too large; the highest allowed is 1"),
        ("a.txt", b"1 2 2147483647\n0 1:1\n", (), r"a\.txt:1: 2147483647 labels; more than 16,777,216"),
        ("a.txt", b"1 2 2\n0 1:1\n", ("--label-names", "none"), r"none: No such file"),
        ("a.txt", b"1 2 2\n0 1:1\n", ("--views", "words"), r"holds features, not texts; leave --views out"),
        ("a.txt", b"2 2 2\n 1:1\n 0:1\n", (), r"Y has no positive at all; there is nothing to learn"),
        ("a.txt", b"1 2 2\n0 1:1\n", (), r"one instance|n_samples=1|1 sample"),
        ("a.svm", "0 1:1\n\n1 1:1\n", (), r"a\.svm:2: blank line"),
        ("a.arff", "@data\n", (), r"a\.arff: no a\.xml beside it to name the labels; give xml="),
        ("a.arff", "@data\n", ("--xml", "none"), r"none: No such file"),
        ("a.npz", b"PK", ("--y-path", "none"), r"a\.npz: not a sound \.npz matrix"),
        ("a.npz", b"PK", (), r"read_npz needs the option 'y_path'"),
        ("a.parquet", b"PAR1", (), r"a\.parquet: not a sound Parquet file"),
        ("a.docx", b"x", (), r"no reader for the ending '\.docx'; there are"),
        ("a", b"x", (), r"no reader for the ending ''; there are"),
    ],
)
def test_train(write, tmp_path, name, content, options, message):
    path = write(name, content)
    check(call("train", path, "--out", tmp_path / "model", *options), message)
    assert not (tmp_path / "model").exists()


def test_train_on_a_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(gzipped, "FREE_BYTES", 1 << 20)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(CSV.encode() + b"x" * (1 << 22)))
    result = call("train", tmp_path / "a.csv.gz", "--out", tmp_path / "model")
    check(result, r"a\.csv\.gz: unpacks to more than [\d,]+ bytes.*unpack it with gunzip")


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("good.csv/model", r"good\.csv: (File exists|Not a directory)"),
        ("good.csv", r"good\.csv exists and is no model"),
        ("texts", r"texts exists; give another --out, or --overwrite"),
        (".", r"exists and is no model"),
    ],
)
def test_places_for_a_model(folder, out, message):
    check(call("train", folder / "good.csv", "--out", folder / out, "--views", "words"), message)


def test_usage_errors_end_in_code_2_without_a_traceback():
    for arguments in (
        (),
        ("train",),
        ("train", "a.csv", "--no-such"),
        ("evaluate", "m", "d", "--decoder", "x"),
    ):
        result = call(*arguments)
        assert result.exit_code == 2
        assert "Traceback" not in result.output


# --- models ----------------------------------------------------------------------------------------------


def damage(model, **fields):
    document = json.loads((model / "model.json").read_text())
    document["state"].update(fields)
    (model / "model.json").write_text(json.dumps(document))


BROKEN = {
    "none": (shutil.rmtree, r"texts is no folder; an evenhand model is a folder with model\.json"),
    "no_json": (lambda m: (m / "model.json").unlink(), r"model\.json is missing"),
    "bomb": (lambda m: (m / "model.json").write_text("[" * 100_000), r"model\.json is no sound JSON"),
    "not_json": (lambda m: (m / "model.json").write_bytes(b"\xff"), r"model\.json is no sound JSON"),
    "arrays": (lambda m: next(m.glob("arrays-*")).write_bytes(b""), r"was changed or damaged"),
    "no_arrays": (lambda m: next(m.glob("arrays-*")).unlink(), r"is missing"),
    "state": (lambda m: damage(m, classifier=[]), r"'classifier' should be of type dict|belongs nowhere"),
    "reading_list": (lambda m: damage(m, notes={"reading": "[1]"}), r"note 'reading' is damaged: \[1\]"),
    "reading_bomb": (
        lambda m: damage(m, notes={"reading": "[" * 99_999}),
        r"note 'reading' is no sound JSON",
    ),
    "reading_path": (lambda m: damage(m, notes={"reading": '{"path": "/x"}'}), r"note 'reading' is damaged"),
    "reading_text": (lambda m: damage(m, notes={"reading": '{"text": 5}'}), r"note 'reading' is damaged"),
    "reading_tags": (lambda m: damage(m, notes={"reading": '{"tags": ["x"]}'}), r"note 'reading' is damaged"),
}


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        (command, fault)
        for command in ("evaluate", "predict", "inspect")
        for fault in BROKEN
        if command != "inspect" or not fault.startswith("reading")  # it reads no data
    ],
)
def test_broken_models(folder, command, fault):
    change, message = BROKEN[fault]
    change(folder / "texts")
    check(call(command, folder / "texts", *([folder / "good.csv"] if command != "inspect" else [])), message)


# --- evaluate and predict --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("texts", "none.csv"), r"none\.csv: No such file"),
        (("texts", "good.txt"), r"X is features, but the model was trained on texts"),
        (("features", "good.csv"), r"X is texts, but the model was trained on features"),
        (("texts", "good.csv", "--k", ""), r"--k is ''; write whole numbers from 1"),
        (("texts", "good.csv", "--k", "1,,3"), r"--k is '1,,3'; write whole numbers from 1"),
        (("texts", "good.csv", "--k", "1.5"), r"--k is '1\.5'; write whole numbers from 1"),
        (("texts", "good.csv", "--k", "-1"), r"--k is '-1'; write whole numbers from 1"),
        (("texts", "good.csv", "--propensity-a", "nan"), r"a and b must be positive numbers, not a=nan"),
        (("texts", "good.csv", "--propensity-b", "-1"), r"a and b must be positive numbers"),
        (("texts", "good.csv", "--tags", "none"), r"no column 'none'"),
        (("texts", "good.csv", "--json", "none/a.json"), r"No such file or directory"),
        (("texts", "good.csv", "--labels", "none/a.csv"), r"No such file or directory"),
    ],
)
def test_evaluate(folder, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    check(call("evaluate", *arguments), message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("texts", "none.csv"), r"none\.csv: No such file"),
        (("texts", "good.csv", "--top-k", "0"), r"--top-k is 0; it must be at least 1"),
        (("texts", "good.csv", "--top-k", "-5"), r"--top-k is -5"),
        (("texts", "good.csv", "--top-k", "2", "--decoder", "micro"), r"two ways to choose labels; give one"),
        (("texts", "good.csv", "--id", "none"), r"no column 'none'"),
        (
            ("texts", "good.csv", "--format", "csv", "--separator", ""),
            r"choose another one, or --format jsonl",
        ),
        (
            ("texts", "good.csv", "--separator", ";"),
            r"--separator stands between labels in CSV; leave it out",
        ),
        (("texts", "good.csv", "--out", "none/a.jsonl"), r"No such file or directory"),
        (("texts", "good.csv", "--text", "text", "--text", "tags"), r"2 columns, but 1 were fitted"),
        (("features", "-"), r"the model was trained on features, not on texts; give a file"),
    ],
)
def test_predict(folder, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    check(call("predict", *arguments), message)


def test_instances_that_are_too_many_to_decide_on_together(folder):
    model = load_model(folder / "texts")
    model.classifier.set_params(max_dense_bytes=4 * 8 * 59)
    save_model(model, folder / "texts")
    message = r"--decoder macro_f1 looks at 60 instances together, .*give another --decoder, or fewer inst"
    check(call("predict", folder / "texts", folder / "good.csv", "--decoder", "macro_f1"), message)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (b"", r"standard input is empty; send one text a line"),
        (b"caf\xe9\n", r"standard input: not UTF-8 text .*; convert it"),
        (b'{"text": "a"}\n' + b"[" * 100_000 + b"\n", r"standard input:2: not sound JSON"),
        (b'{"text": ' + b"9" * 5000 + b"}", r"standard input:1: not sound JSON"),
        (b'{"text": NaN}', r"standard input:1: field 'text' is NaN, not a text"),
        (b'{"text": ["a"]}', r"standard input:1: field 'text' is \[\"a\"\], not a text"),
        (b'{"text": "a", "text": "b"}', r"standard input:1: .*'text' stands twice"),
        (b"{}", r"standard input:1: no field 'text'"),
        (b'{"text": "a"}\nplain text\n', r"standard input:2: not sound JSON"),
    ],
)
def test_what_is_sent(folder, sent, message):
    check(call("predict", folder / "texts", input=sent), message)


def test_odd_texts_are_answered(folder):
    sent = "plain\n\0\n\u2028\n" + "w1 " * 100_000 + "\n\U0001f600"
    result = call("predict", folder / "texts", "--top-k", 10**15, input=sent)
    assert result.exit_code == 0, result.output
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [len(answer["labels"]) for answer in answers] == [8] * 5


@pytest.mark.parametrize("hardest", ["-1", "-999999999999"])
def test_inspect(folder, hardest):
    check(call("inspect", folder / "texts", "--hardest", hardest), r"--hardest is -\d+")


# --- grpo ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none.jsonl",), r"none\.jsonl: No such file"),
        (("bad.jsonl",), r"bad\.jsonl:1: not one JSON object a line"),
        (("odd.jsonl",), r"odd\.jsonl: column 'answer': no usable answer in problem 2 \('\?\?\?'\)"),
        (("good.csv",), r"good\.csv: not \.jsonl"),
        (("reasoning_gym:none",), r"reasoning-gym"),
        (("tasks.jsonl", "--samples", "0"), r"--samples is 0; give at least 1"),
        (("tasks.jsonl", "--temperature", "nan"), r"--temperature must be a number from 0"),
        (("tasks.jsonl", "--top-p", "nan"), r"--top-p above 0 and at most 1"),
        (("tasks.jsonl", "--k", "1,99"), r"--k is '1,99'; write numbers from 1 to the \d+ answers"),
        (("tasks.jsonl", "--out", "none/a.jsonl"), r"there is no folder none"),
        (("tasks.jsonl", "--prompt", "none"), r"tasks\.jsonl:1: no field 'none'"),
        (("tasks.jsonl", "--kind", "gsm8k"), r"tasks\.jsonl:1: no field 'question'"),
    ],
)
def test_grpo_evaluate(folder, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    (folder / "tasks.jsonl").write_text('{"prompt": "1+1?", "answer": "2"}\n')
    (folder / "odd.jsonl").write_text('{"prompt": "1+1?", "answer": "2"}\n{"prompt": "!", "answer": "???"}\n')
    (folder / "bad.jsonl").write_text("[" * 100_000)
    check(call("evaluate", "no-model", *arguments, group="grpo"), message)
    assert not list(folder.glob("*.part"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("compare", "none.jsonl", "bad.jsonl"), r"none\.jsonl: No such file"),
        (("compare", "bad.jsonl", "bad.jsonl"), r"bad\.jsonl:1: not a JSON object"),
        (("score", "bad.jsonl"), r"bad\.jsonl:1: not a JSON object"),
    ],
)
def test_grpo_files(folder, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    (folder / "bad.jsonl").write_text("[" * 100_000)
    check(call(*arguments, group="grpo"), message)
