"""The command line on small files: every command, every format, and what goes wrong."""

import csv
import json
import re
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from scipy import sparse
from typer.testing import CliRunner

from evenhand import __version__
from evenhand.cli import app
from evenhand.multilabel.datasets import DatasetUnavailable, make_long_tail
from evenhand.multilabel.estimator import CuriosityGameClassifier
from evenhand.multilabel.extreme.estimator import ExtremeGameClassifier
from evenhand.multilabel.model_io import Model, load_model, save_model
from evenhand.multilabel.text_views import TextViews

DATA = make_long_tail(240, 12, 80, labels_per_instance=2.0, seed=0)
WORDS = [" ".join(f"w{column}" for column in DATA.X[[row]].indices) for row in range(DATA.n_instances)]
TRAIN, TEST = np.arange(160), np.arange(160, 240)
NEURAL = ("--method", "neural")
COMMANDS = ("train", "evaluate", "predict", "inspect", "demo")


def run(*arguments, code=0, **options):
    result = CliRunner().invoke(app, ["multilabel", *map(str, arguments)], **options)
    assert result.exit_code == code, result.output
    return result


def flat(result):
    """What was said on the error stream, as one line."""
    return " ".join(result.stderr.split())


def lines_of(output):
    return [json.loads(line) for line in output.splitlines()]


def table(rows, *, tags="tags"):
    return pl.DataFrame(
        {
            "name": [f"item{row}" for row in rows],
            "text": [WORDS[row] for row in rows],
            "title": [f"title w{row % 7}" for row in rows],
            tags: [DATA.tags(row) for row in rows],
        }
    )


def svm_lines(rows, one=0):
    for row in rows:
        x = DATA.X[[row]]
        labels = ",".join(map(str, DATA.Y[[row]].indices))
        yield f"{labels} " + " ".join(f"{c + one}:{v:g}" for c, v in zip(x.indices, x.data))


def write_tables(folder):
    for name, rows in (("train", TRAIN), ("test", TEST)):
        frame = table(rows)
        flat = frame.with_columns(pl.col("tags").list.join(","))
        flat.write_csv(folder / f"{name}.csv")
        flat.write_csv(folder / f"{name}.tsv", separator="\t")
        frame.write_parquet(folder / f"{name}.parquet")
        frame.write_ndjson(folder / f"{name}.jsonl")


def write_features(folder):
    names = "".join(f'<label name="{name}"/>' for name in DATA.label_names)
    for name, rows in (("train", TRAIN), ("test", TEST)):
        body = "\n".join(svm_lines(rows)) + "\n"
        (folder / f"{name}.txt").write_text(f"{len(rows)} 80 12\n{body}")
        (folder / f"{name}.svm").write_text("\n".join(svm_lines(rows, one=1)) + "\n")
        sparse.save_npz(folder / f"{name}.npz", DATA.X[rows])
        sparse.save_npz(folder / f"{name}-y.npz", DATA.Y[rows])
        (folder / f"{name}.xml").write_text(f"<labels>{names}</labels>")
        header = [f"@attribute f{c} numeric" for c in range(80)]
        header += [f"@attribute {label} {{0,1}}" for label in DATA.label_names]
        dense = np.hstack([DATA.X[rows].toarray(), DATA.Y[rows].toarray()])
        data = [",".join(f"{value:g}" for value in row) for row in dense]
        (folder / f"{name}.arff").write_text("\n".join(["@relation r", *header, "@data", *data]) + "\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("shell")
    write_tables(path)
    write_features(path)
    run("train", path / "train.csv", "--out", path / "model", "--id", "name")
    return path


def test_version():
    assert CliRunner().invoke(app, ["--version"]).output == f"evenhand {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command):
    output = run(command, "--help").output
    assert re.search(r"Examples?:", output)
    assert f"evenhand multilabel {command}" in output.split("Example")[1]


def test_help_is_quick_to_load():
    code = "import sys, evenhand.cli; print([m for m in ('torch', 'sklearn', 'polars') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("ending", "options", "y"),
    [
        ("csv", (), ()),
        ("tsv", (), ()),
        ("parquet", ("--id", "name", "--group", "name"), ()),
        ("jsonl", ("--text", "title", "--text", "text", "--views", "words"), ()),
        ("txt", (), ()),
        ("svm", ("--one-based",), ()),
        ("arff", (), ()),
        ("npz", (), ("--y-path",)),
    ],
)
def test_every_format(folder, tmp_path, ending, options, y):
    train, test, model = folder / f"train.{ending}", folder / f"test.{ending}", tmp_path / "model"
    files = [(*y, folder / f"{name}-y.npz") if y else () for name in ("train", "test")]
    shown = run("train", train, "--out", model, *options, *files[0]).stdout
    assert "160" in shown
    assert "evaluate" in shown
    figures = tmp_path / "figures.json"
    shown = run("evaluate", model, test, "--json", figures, *files[1]).stdout
    assert "PSP@k" in shown
    assert "tail" in shown
    assert json.loads(figures.read_text())["precision_at"]["1"] > 0.5  # a guess gets 0.3
    answers = lines_of(run("predict", model, test, "--top-k", 2).stdout)
    assert [len(answer["labels"]) for answer in answers] == [2] * 80
    hits = [answer["labels"][0] in set(names(ending, row)) for answer, row in zip(answers, TEST)]
    assert np.mean(hits) == pytest.approx(json.loads(figures.read_text())["precision_at"]["1"])
    assert not list(tmp_path.glob("*.partial"))


def names(ending, row):
    by_name = ending not in ("txt", "svm", "npz")
    return DATA.tags(row) if by_name else map(str, DATA.Y[[row]].indices)


def test_train_takes_options_to_the_model(folder, tmp_path):
    run(
        "train", folder / "train.csv", "--out", tmp_path / "m", "--views", "words,characters",
        "--rounds", 1, "--rarity-reward", 0.5, "--payoff", "log_likelihood", "--C", 2, "--folds", 2,
        "--decoder", "per_label", "--seed", 7, "--jobs", 1,
    )  # fmt: skip
    model = load_model(tmp_path / "m")
    params = model.classifier.get_params()
    expected = {"rounds": 1, "rarity_reward": 0.5, "payoff": "log_likelihood", "C": 2.0, "n_folds": 2}
    assert {name: params[name] for name in expected} == expected
    assert (params["decoder"], params["random_state"], params["n_jobs"]) == ("per_label", 7, 1)
    assert tuple(model.classifier.views_) == ("words", "characters")
    assert list(model.classifier.classes_) == sorted(DATA.label_names)


def test_same_seed_same_answers(folder, tmp_path):
    run("train", folder / "train.csv", "--out", tmp_path / "again", "--id", "name")
    first, again = (
        run("predict", model, folder / "test.csv").stdout for model in (folder / "model", tmp_path / "again")
    )
    assert first == again


def test_train_replaces_only_when_told(folder, tmp_path):
    out = tmp_path / "m"
    run("train", folder / "train.csv", "--out", out)
    assert "--overwrite" in run("train", folder / "train.csv", "--out", out, code=2).stderr
    run("train", folder / "train.csv", "--out", out, "--overwrite", "--views", "words")
    assert list(load_model(out).classifier.views_) == ["words"]
    (tmp_path / "other").mkdir()
    message = run("train", folder / "train.csv", "--out", tmp_path / "other", "--overwrite", code=2).stderr
    assert "no model" in message


def test_an_interrupted_training_is_taken_up(folder, tmp_path, monkeypatch):
    out = tmp_path / "m"
    fit = CuriosityGameClassifier._learn_decisions

    def stop(self, *args):
        raise KeyboardInterrupt

    monkeypatch.setattr(CuriosityGameClassifier, "_learn_decisions", stop)
    stopped = run("train", folder / "train.csv", "--out", out, "--id", "name", code=130)
    assert "takes the training up again" in " ".join(stopped.stderr.split())
    assert (tmp_path / "m.partial").is_dir()
    assert not out.exists()
    monkeypatch.setattr(CuriosityGameClassifier, "_learn_decisions", fit)
    run("train", folder / "train.csv", "--out", out, "--id", "name")
    assert not (tmp_path / "m.partial").exists()
    answers = [run("predict", m, folder / "test.csv").stdout for m in (out, folder / "model")]
    assert answers[0] == answers[1]


def test_label_trees_from_training_to_answers(folder, tmp_path):
    out = tmp_path / "trees"
    run("train", folder / "train.csv", "--out", out, "--id", "name", "--method", "trees")
    assert not (tmp_path / "trees.partial").exists()
    classifier = load_model(out).classifier
    assert isinstance(classifier, ExtremeGameClassifier)
    assert list(classifier.views_) == ["words"]
    run("evaluate", out, folder / "test.csv", "--json", tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text())["f1"]["micro"] > 0.4
    answers = lines_of(run("predict", out, folder / "test.csv", "--top-k", 2).stdout)
    assert all(len(answer["labels"]) == 2 for answer in answers)
    sets = lines_of(run("predict", out, folder / "test.csv", "--decoder", "micro").stdout)
    assert len(sets) == len(answers)
    assert "label tree" in run("inspect", out).stdout
    assert "no decoder 'macro_f1'" in flat(
        run("predict", out, folder / "test.csv", "--decoder", "macro_f1", code=2)
    )
    message = flat(
        run("train", folder / "train.csv", "--out", tmp_path / "n", "--method", "trees", "--folds", 2, code=2)
    )
    assert "label trees have no --folds" in message


def test_a_training_that_diverges_ends_in_one_line(folder, tmp_path, monkeypatch):
    def diverges(*_, **__):
        raise FloatingPointError("the potential is nan; take a lower learning_rate")

    monkeypatch.setattr("evenhand.multilabel.commands.train.fit_model", diverges)
    shown = run("train", folder / "train.csv", "--out", tmp_path / "n", "--id", "name", code=2)
    assert "take a lower learning_rate" in flat(shown)


def test_an_id_on_the_standard_input_is_a_text_or_a_whole_number(folder):
    for key in (None, [1], True, 1.5):
        sent = json.dumps({"text": WORDS[0], "key": key})
        shown = run("predict", folder / "model", "-", "--id", "key", input=sent, code=2)
        assert "not a text or a whole number" in flat(shown)


def test_neural_players_refuse_groups(folder, tmp_path):
    options = ("--out", tmp_path / "n", "--method", "neural", "--group", "name")
    assert "know no groups" in flat(run("train", folder / "train.csv", *options, code=2))


def test_a_test_file_is_counted_as_the_training_file_was(tmp_path):
    """Its rows lack feature 0; read by itself it would be taken to count from 1."""
    rows = [f"{row % 2} {row % 2}:1 2:0.5\n" for row in range(40)]
    (tmp_path / "train.svm").write_text("".join(rows))
    (tmp_path / "test.svm").write_text("1 1:1 2:0.5\n" * 3)
    run("train", tmp_path / "train.svm", "--out", tmp_path / "model")
    for line in lines_of(run("predict", tmp_path / "model", tmp_path / "test.svm", "--top-k", 1).stdout):
        assert line["labels"] == ["1"]


def test_label_trees_are_taken_where_all_scores_would_not_fit(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("evenhand.multilabel.commands.train._MOST_BYTES", 0)
    run("train", folder / "train.txt", "--out", tmp_path / "m")
    assert isinstance(load_model(tmp_path / "m").classifier, ExtremeGameClassifier)


def test_an_embedding_takes_part_from_training_to_answers(folder, tmp_path, tiny_bert, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    out = tmp_path / "m"
    run(
        "train", folder / "train.csv", "--out", out, "--id", "name", "--views", "words,embedding",
        "--embedding-model", tiny_bert, "--players", "words,embedding,embedding:neighbours",
    )  # fmt: skip
    players = load_model(out).classifier.team_.players
    assert [(player.view, player.kind) for player in players] == [
        ("words", "linear"),
        ("embedding", "linear"),
        ("embedding", "neighbours"),
    ]
    run("evaluate", out, folder / "test.csv", "--json", tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text())["f1"]["micro"] > 0.4
    answers = lines_of(run("predict", out, "--top-k", 2, input="w1 w2\nweb server\n").stdout)
    assert [len(answer["labels"]) for answer in answers] == [2, 2]


@pytest.mark.parametrize("how", [(), ("--views", "words,characters"), ("--encoder", "tiny_bert")])
def test_neural_players_from_training_to_answers(folder, tmp_path, request, how):
    out = tmp_path / "m"
    if "tiny_bert" in how:
        how = ("--encoder", request.getfixturevalue("tiny_bert"))
    options = ("--method", "neural", "--epochs", 3, *how)
    shown = run("train", folder / "train.csv", "--out", out, "--id", "name", *options).stdout
    assert "Epochs, on held-out instances" in shown
    assert not (tmp_path / "m.partial").exists()
    classifier = load_model(out).classifier
    assert classifier.epochs == 3
    assert classifier.rarity_reward == 1.0
    run("evaluate", out, folder / "test.csv", "--json", tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text())["n_instances"] == 80
    answers = lines_of(run("predict", out, "--decoder", "micro", input="w1 w2\nw3\n").stdout)
    assert len(answers) == 2
    shown = run("inspect", out).stdout
    assert "Hardest labels: lowest F1 on held-out instances" in shown
    assert "labels owned" in shown


@pytest.mark.parametrize(("jobs", "threads"), [(2, [2]), (-1, [])])
def test_neural_players_take_as_many_threads_as_they_are_given(folder, tmp_path, monkeypatch, jobs, threads):
    taken = []
    monkeypatch.setattr("torch.set_num_threads", taken.append)
    options = ("--method", "neural", "--epochs", 1, "--jobs", jobs)
    run("train", folder / "train.txt", "--out", tmp_path / "m", *options)
    assert taken == threads


def test_neural_players_read_features_too(folder, tmp_path):
    run("train", folder / "train.txt", "--out", tmp_path / "m", "--method", "neural", "--epochs", 2)
    run("evaluate", tmp_path / "m", folder / "test.txt")
    assert list(load_model(tmp_path / "m").classifier.views_.values()) == [80]


def test_evaluate_writes_all_and_each_label(folder, tmp_path):
    run(
        "evaluate", folder / "model", folder / "test.csv", "--decoder", "macro_f1", "--k", "1,2",
        "--propensity-a", 0.5, "--propensity-b", 0.4, "--json", tmp_path / "f.json",
        "--labels", tmp_path / "l.csv",
    )  # fmt: skip
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["decoder"] == "macro_f1"
    assert list(figures["psp_at"]) == ["1", "2"]
    labels = pl.read_csv(tmp_path / "l.csv")
    assert labels["label"].to_list() == sorted(DATA.label_names)
    order = [DATA.label_names.index(name) for name in labels["label"]]
    assert labels["test"].to_list() == DATA.take(TEST).label_counts()[order].tolist()
    assert figures["f1"]["macro"] == pytest.approx(labels["f1"].mean())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.json", "l.csv"]


def test_unknown_labels_count_as_missed(folder, tmp_path):
    frame = table(TEST).with_columns(pl.lit(["not_seen"]).alias("more"))
    frame = frame.with_columns(pl.concat_list("tags", "more").alias("tags"))
    frame.write_parquet(tmp_path / "test.parquet")
    run("evaluate", folder / "model", folder / "test.parquet", "--json", tmp_path / "known.json")
    shown = run("evaluate", folder / "model", tmp_path / "test.parquet", "--json", tmp_path / "all.json")
    assert "does not know 1 labels" in shown.stderr
    assert "80 positives" in shown.stderr
    known, all_labels = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("known", "all"))
    assert all_labels["unknown_labels"] == 1
    assert all_labels["n_labels"] == known["n_labels"] + 1
    assert all_labels["precision_at"] == known["precision_at"]
    assert all_labels["recall_at"]["5"] < known["recall_at"]["5"]
    assert all_labels["f1"]["macro"] == pytest.approx(known["f1"]["macro"] * 12 / 13)


@pytest.mark.parametrize("decoder", ["micro", "macro_f1"])
def test_where_all_scores_would_not_fit(folder, tmp_path, monkeypatch, decoder):
    # Fewer labels than candidates: the figures must be those of all scores.
    evaluate = ("evaluate", folder / "model", folder / "test.csv", "--decoder", decoder, "--json")
    run(*evaluate, tmp_path / "a.json")
    monkeypatch.setattr("evenhand.multilabel.commands.evaluate._DENSE_BYTES", 0)
    monkeypatch.setattr("evenhand.multilabel.commands.evaluate._ROWS", 7)
    shown = run(*evaluate, tmp_path / "b.json")
    assert "100 most probable" in shown.stderr
    a, b = (json.loads((tmp_path / f"{name}.json").read_text()) for name in "ab")
    assert a["psp_at"] == pytest.approx(b["psp_at"])
    assert a["f1"] == pytest.approx(b["f1"])


def test_predict_without_tags(folder, tmp_path):
    table(TEST).drop("tags").with_columns(pl.col("name").str.to_uppercase()).write_csv(tmp_path / "new.csv")
    answers = lines_of(run("predict", folder / "model", tmp_path / "new.csv", "--id", "name").stdout)
    assert [answer["id"] for answer in answers] == [f"ITEM{row}" for row in TEST]
    p = np.array([answer["probabilities"] for answer in answers])
    assert p.shape == (80, 5)
    assert (np.diff(p) <= 0).all()


@pytest.mark.parametrize("decoder", ["micro", "macro", "per_label", "macro_f1"])
def test_predict_label_sets(folder, monkeypatch, decoder):
    monkeypatch.setattr("evenhand.multilabel.commands.predict._ROWS", 7)  # several batches
    answers = lines_of(run("predict", folder / "model", folder / "test.csv", "--decoder", decoder).stdout)
    model = load_model(folder / "model")
    texts = np.array([[WORDS[row]] for row in TEST], dtype=object)
    sets = model.classifier.label_sets(model.classifier.predict(model.views(texts), decoder))
    assert [sorted(answer["labels"]) for answer in answers] == [sorted(labels) for labels in sets]


def test_csv_round_trip(folder, tmp_path):
    out = tmp_path / "answers.csv"
    run(
        "predict",
        folder / "model",
        folder / "test.csv",
        "--format",
        "csv",
        "--decoder",
        "micro",
        "--out",
        out,
    )
    expected = lines_of(run("predict", folder / "model", folder / "test.csv", "--decoder", "micro").stdout)
    rows = list(csv.DictReader(out.open(newline="")))
    assert len(rows) == 80
    for row, answer in zip(rows, expected):
        assert row["id"] == answer["id"]
        assert [label for label in row["labels"].split(",") if label] == answer["labels"]
        assert list(map(float, row["probabilities"].split())) == answer["probabilities"]
    assert list(tmp_path.iterdir()) == [out]


def test_stdin_lines_and_json_lines(folder):
    texts = [WORDS[0], "", WORDS[1]]
    answers = lines_of(run("predict", folder / "model", input="\n".join(texts)).stdout)
    assert [answer["id"] for answer in answers] == ["0", "1", "2"]
    sent = [json.dumps({"text": text, "key": f"k{n}"}) for n, text in enumerate(texts)]
    again = lines_of(
        run("predict", folder / "model", "-", "--id", "key", input="\n".join(sent) + "\n").stdout
    )
    assert [answer["id"] for answer in again] == ["k0", "k1", "k2"]
    assert [answer["labels"] for answer in again] == [answer["labels"] for answer in answers]


def test_stdin_of_several_columns(folder, tmp_path):
    columns = ("--text", "title", "--text", "text")
    run("train", folder / "train.csv", "--out", tmp_path / "m", "--views", "words", *columns)
    row = json.dumps({"text": WORDS[160], "title": "title w6"})
    from_stdin = lines_of(run("predict", tmp_path / "m", input=row).stdout)[0]
    assert (
        from_stdin["labels"]
        == lines_of(run("predict", tmp_path / "m", folder / "test.csv").stdout)[0]["labels"]
    )
    assert "send JSON lines" in run("predict", tmp_path / "m", input="a text", code=2).stderr


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ("", "standard input is empty"),
        ('{"text": "a"}\n{"text"', "standard input:2: not sound JSON"),
        ('{"text": "a"}\n\n', "standard input:2: not sound JSON"),
        ('{"text": "a"}\n[1]', "standard input:2: not a JSON object"),
        ('{"txt": "a"}', "standard input:1: no field 'text'; the fields are 'txt'"),
        ('{"text": 3}', "standard input:1: field 'text' is 3, not a text"),
    ],
)
def test_bad_stdin(folder, sent, message):
    stderr = run("predict", folder / "model", input=sent, code=2).stderr
    assert message in stderr
    assert "error:" in stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "{}/no.csv", "--out", "{}/x"), "no.csv: No such file"),
        (("train", "{}/train.docx", "--out", "{}/x"), "no reader for the ending '.docx'"),
        (("train", "{}/train.csv", "--out", "{}/x", "--text", "body"), "no column 'body'; the columns are"),
        (("train", "{}/train.txt", "--out", "{}/x", "--text", "body"), "has no option 'text'"),
        (("train", "{}/train.txt", "--out", "{}/x", "--views", "words"), "leave --views out"),
        (("train", "{}/train.csv", "--out", "{}/x", "--views", "word"), "there is no view 'word'"),
        (("train", "{}/train.csv", "--out", "{}/x", "--players", "embedding"), "name it in --views too"),
        (("train", "{}/train.csv", "--out", "{}/x", "--players", "words:dense"), "is of kind 'dense'"),
        (("train", "{}/train.csv", "--out", "{}/x", "--embedding-model", "m"), "add that to --views"),
        (("train", "{}/train.txt", "--out", "{}/x", "--embedding-model", "m"), "--embedding-model out"),
        (("train", "{}/train.csv", "--out", "{}/x", "--epochs", "3"), "give --method neural"),
        (("train", "{}/train.csv", "--out", "{}/x", *NEURAL, "--C", "1"), "neural players have no --C"),
        (("train", "{}/train.csv", "--out", "{}/x", *NEURAL, "--encoder", "no"), "neither a folder nor"),
        (("train", "{}/train.csv", "--out", "{}/x", "--C", "-1"), "C must be a finite number above 0"),
        (("train", "{}/train.npz", "--out", "{}/x"), "needs the option 'y_path'"),
        (("evaluate", "{}/none", "{}/test.csv"), "none"),
        (("evaluate", "{}/model", "{}/test.txt"), "X is features, but the model was trained on texts"),
        (("evaluate", "{}/model", "{}/test.csv", "--k", "0"), "--k is '0'"),
        (("predict", "{}/model", "{}/test.csv", "--top-k", "0"), "--top-k is 0"),
        (("predict", "{}/model", "{}/test.csv", "--top-k", "2", "--decoder", "micro"), "give one"),
        (("predict", "{}/model", "{}/test.csv", "--format", "csv", "--separator", "l"), "choose another one"),
        (("inspect", "{}/train.csv"), "train.csv"),
        (("inspect", "{}/model", "--hardest", "-1"), "--hardest is -1"),
    ],
)
def test_bad_calls_end_in_one_line_and_code_2(folder, arguments, message):
    result = run(*(argument.format(folder) for argument in arguments), code=2)
    assert message in result.stderr
    assert re.fullmatch(r"\s*error: .*\n", result.stderr)
    assert not list(folder.glob("x*"))


def test_a_broken_row_is_named(tmp_path):
    (tmp_path / "bad.txt").write_text("2 3 2\n0 0:1\n1 5:1\n")
    stderr = run("train", tmp_path / "bad.txt", "--out", tmp_path / "m", code=2).stderr
    assert "bad.txt:3: feature id 5 is too large" in stderr


def test_what_is_our_fault_keeps_its_traceback(folder, monkeypatch):
    monkeypatch.setattr("evenhand.multilabel.commands.inspect.load_model", lambda folder: 1 / 0)
    assert isinstance(
        CliRunner().invoke(app, ["multilabel", "inspect", str(folder / "model")]).exception, ZeroDivisionError
    )


@pytest.mark.slow
def test_a_reader_that_has_seen_enough(folder):
    code = "from evenhand.cli import main; main()"
    arguments = ["multilabel", "predict", str(folder / "model"), str(folder / "test.csv")]
    command = [sys.executable, "-c", code, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        stderr = process.stderr.read().decode()
    assert "Traceback" not in stderr
    assert "error" not in stderr


def test_warnings_are_one_line(folder, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("".join(f"l{n}\n" for n in range(20)))
    (tmp_path / "t.svm").write_text("\n".join(svm_lines(TRAIN)) + "\n")
    shown = run("train", tmp_path / "t.svm", "--label-names", names, "--out", tmp_path / "m")
    assert "warning: 8 of 20 labels have no positive" in shown.stderr


def test_inspect_shows_players_shares_and_the_hardest(folder):
    shown = run("inspect", folder / "model", "--hardest", 2).stdout
    model = load_model(folder / "model")
    for player in model.classifier.team_.players:
        assert player.view in shown
        assert f"{player.weights.nnz:,}" in shown
    f1, counts = model.classifier.held_out_f1_, model.classifier.label_counts_
    hardest = sorted(range(len(f1)), key=lambda label: (f1[label], -counts[label]))
    assert f"{model.classifier.classes_[hardest[0]]} " in shown.split("Hardest")[1]
    assert f"{model.classifier.classes_[hardest[2]]} " not in shown.split("Hardest")[1]
    shares = re.findall(r"^ *(words|word_pairs|characters) +([\d.– ]+)$", shown, re.MULTILINE)
    numbers = [
        [float(cell) for cell in row.split() if cell != "–"] for _, row in shares if len(row.split()) == 10
    ]
    assert np.sum(numbers, axis=0) == pytest.approx(100, abs=0.2)


def test_a_model_from_python_is_taken(folder, tmp_path):
    text_views = TextViews(("words",))
    texts = [WORDS[row] for row in TRAIN]
    classifier = CuriosityGameClassifier().fit(text_views.fit_transform(texts), DATA.Y[TRAIN])
    save_model(Model(classifier, text_views), tmp_path / "m")
    assert lines_of(run("predict", tmp_path / "m", input=WORDS[0]).stdout)[0]["labels"][0].isdecimal()
    run("inspect", tmp_path / "m")


def test_demo_on_made_up_data(tmp_path, monkeypatch):
    def refuse():
        raise DatasetUnavailable("no network here")

    small = ("--instances", 300, "--jobs", 1, "--out", tmp_path / "m")
    shown = run("demo", "--synthetic", *small)
    for part in ("P@1", "PSP@5", "Rare-F1", "head", "middle", "tail", "one-vs-rest", "drawn at random"):
        assert part in shown.stdout
    assert load_model(tmp_path / "m").classifier.n_train_ == pytest.approx(240, abs=5)
    assert "Training one-vs-rest" in shown.stderr
    monkeypatch.setattr("evenhand.multilabel.commands.demo.debian_tags", refuse)
    shown = run("demo", *small, "--seed", 1)  # its model takes the place of the first
    assert "no network here" in shown.stderr
    assert "Made-up data" in shown.stderr
    assert load_model(tmp_path / "m").classifier.random_state == 1


def test_demo_on_texts_by_source(tmp_path, monkeypatch):
    monkeypatch.setattr("evenhand.multilabel.commands.demo.debian_tags", debian_like)
    shown = run("demo", "--jobs", 1, "--out", tmp_path / "m").stdout
    assert "predict" in shown
    answers = run(
        "predict", tmp_path / "m", input=json.dumps({"name": "w1", "short": "w2", "long": ""})
    ).stdout
    assert len(lines_of(answers)) == 1


def debian_like():
    from dataclasses import replace

    texts = [[f"item{row}", WORDS[row], WORDS[row]] for row in range(DATA.n_instances)]
    groups = np.array([f"s{row // 2}" for row in range(DATA.n_instances)])
    X = np.array(texts, dtype=object)
    return replace(DATA, X=X, feature_names=("name", "short", "long"), groups=groups)


def test_demo_keeps_away_from_other_folders(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert "no model" in run("demo", "--synthetic", "--out", tmp_path, code=2).stderr


def test_files_appear_when_they_are_complete(tmp_path):
    from evenhand.files import replacing

    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_half():
        with replacing(path) as file:
            file.write("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
