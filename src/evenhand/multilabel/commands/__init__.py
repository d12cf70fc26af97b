"""The sub-commands `evenhand multilabel ...`: options and help; the work is done by the modules beside.

Those import torch, scikit-learn and polars, so each is imported when its command runs: `--help` stays quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="CD-GTMLL: a multi-label classifier that does not forget the rare labels.",
)

_Decoder = Literal["micro", "macro", "per_label", "macro_f1"]

_Data = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        show_default=False,
        help=".csv, .tsv, .jsonl or .parquet (text and tags), .txt (XMC), .svm, .arff (+ .xml) or .npz"
        " (+ --y-path); all but Parquet and .npz also gzipped.",
    ),
]
_Model = Annotated[Path, typer.Argument(metavar="MODEL", show_default=False, help="Folder of the model.")]
_Texts = Annotated[
    list[str] | None,
    typer.Option("--text", metavar="COL", help="Text column of a table; repeat for several. (default: text)"),
]
_Tags = Annotated[
    str | None,
    typer.Option("--tags", metavar="COL", help="Column of tags: lists, or strings. (default: tags)"),
]
_Separator = Annotated[
    str | None, typer.Option("--separator", metavar="TEXT", help="Between the tags of a string. (default: ,)")
]
_Id = Annotated[str | None, typer.Option("--id", metavar="COL", help="Column that names the instances.")]
_Y = Annotated[
    Path | None, typer.Option("--y-path", metavar="FILE", help="The labels that belong to .npz data.")
]
_LabelNames = Annotated[
    Path | None,
    typer.Option("--label-names", metavar="FILE", help="Label names, one a line (.txt, .svm, .npz)."),
]
_Xml = Annotated[
    Path | None, typer.Option("--xml", metavar="FILE", help="Names the label columns of .arff data.")
]
_ZeroBased = Annotated[
    bool | None,
    typer.Option(
        "--zero-based/--one-based", help="Where the feature ids of .svm data start.", show_default=False
    ),
]


@app.command(
    epilog="Example:\n\nevenhand multilabel train train.csv --text title --text body --tags tags --out model"
)
def train(
    data: _Data,
    out: Annotated[
        Path, typer.Option("--out", metavar="MODEL", help="Folder for the model.", show_default=False)
    ],
    text: _Texts = None,
    tags: _Tags = None,
    separator: _Separator = None,
    id: _Id = None,
    group: Annotated[
        str | None,
        typer.Option(metavar="COL", help="Rows with one value here share a fold: versions of a text, say."),
    ] = None,
    y_path: _Y = None,
    label_names: _LabelNames = None,
    xml: _Xml = None,
    zero_based: _ZeroBased = None,
    views: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Views of texts: words, word_pairs, characters, embedding."
            " (default: words,word_pairs,characters, and words for label trees)",
        ),
    ] = None,
    embedding_model: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER", help="Encoder for the view embedding, in Hugging Face's form. (default: MiniLM)"
        ),
    ] = None,
    players: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Who plays: views, VIEW:neighbours for a vote of nearest neighbours, VIEW:neural for a small"
            " network, as in words,embedding,embedding:neighbours. (default: one linear player a view)",
        ),
    ] = None,
    min_df: Annotated[int, typer.Option(help="A term counts from this many texts on.")] = 2,
    method: Annotated[
        Literal["auto", "game", "trees", "neural"],
        typer.Option(
            help="trees: label trees, for tens to hundreds of thousands of labels. neural: neural players."
            " auto: trees where instances x labels are more than 268 million, else the convex game."
        ),
    ] = "auto",
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Neural players fine-tune this text encoder, in Hugging Face's form, instead of --views.",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(help="Neural players: at most so many. (default: 30)", show_default=False),
    ] = None,
    rarity_reward: Annotated[
        float | None,
        typer.Option(
            help="α: reward for rare labels. (default: 3, and 1 for neural players)", show_default=False
        ),
    ] = None,
    disagreement_reward: Annotated[
        float | None,
        typer.Option(
            help="β: reward where players disagree; from the first of --rounds on."
            " (default: 1, and 0 for label trees)",
            show_default=False,
        ),
    ] = None,
    own_share: Annotated[
        float | None,
        typer.Option(
            help="η: share of the payoff for a player's own score, in --rounds or of neural players; 0: all"
            " the team's. (default: 1, and 0 for neural players)",
            show_default=False,
        ),
    ] = None,
    payoff: Annotated[
        Literal["squared_hinge", "log_likelihood"] | None,
        typer.Option(help="(default: squared_hinge)", show_default=False),
    ] = None,
    c: Annotated[
        float | None,
        typer.Option(
            "--C", help="Strength of the losses against the L2 prior. (default: 0.3)", show_default=False
        ),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(help="Rounds of best response after the first. (default: 0)", show_default=False),
    ] = None,
    folds: Annotated[
        int | None, typer.Option(help="Folds of the cross-fitting. (default: 3)", show_default=False)
    ] = None,
    decoder: Annotated[_Decoder, typer.Option(help="How the model decides on labels by default.")] = "micro",
    seed: Annotated[int, typer.Option(help="The same seed gives the same model.")] = 0,
    jobs: Annotated[int, typer.Option(help="Threads; -1 for all cores.")] = -1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the model in --out.")] = False,
) -> None:
    """Train a model on DATA.

    A training that was interrupted is taken up again by the same command.
    """
    from evenhand.multilabel.commands.train import parse_players, train_model

    reading = {
        "text": text, "tags": tags, "separator": separator, "id": id, "group": group,
        "y_path": y_path, "label_names": label_names, "xml": xml, "zero_based": zero_based,
    }  # fmt: skip
    options = {
        "rarity_reward": rarity_reward, "disagreement_reward": disagreement_reward, "own_share": own_share,
        "payoff": payoff, "C": c, "players": parse_players(players),
        "rounds": rounds, "n_folds": folds, "decoder": decoder, "random_state": seed, "n_jobs": jobs,
    }  # fmt: skip
    texts = {"views": views, "embedding_model": embedding_model, "min_df": min_df}
    neural = {"encoder": encoder, "epochs": epochs}
    train_model(
        data, out, reading, options, method=method, texts=texts, neural=neural, overwrite=overwrite
    )  # fmt: skip


@app.command(epilog="Example:\n\nevenhand multilabel evaluate model test.csv --labels labels.csv")
def evaluate(
    model: _Model,
    data: _Data,
    text: _Texts = None,
    tags: _Tags = None,
    separator: _Separator = None,
    id: _Id = None,
    y_path: _Y = None,
    label_names: _LabelNames = None,
    xml: _Xml = None,
    zero_based: _ZeroBased = None,
    decoder: Annotated[
        _Decoder | None, typer.Option(help="Instead of the model's own.", show_default=False)
    ] = None,
    k: Annotated[str, typer.Option("--k", metavar="LIST", help="Ranks at which rankings are cut.")] = "1,3,5",
    propensity_a: Annotated[float, typer.Option(help="A of the propensities.")] = 0.55,
    propensity_b: Annotated[float, typer.Option(help="B of the propensities.")] = 1.5,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all figures there.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", metavar="FILE.csv", help="Write the figures of each label there."),
    ] = None,
) -> None:
    """Measure MODEL on DATA: rankings and label sets, by label frequency.

    Columns of tables are named as in training unless given. Labels that the model does not know are counted
    as missed.
    """
    from evenhand.multilabel.commands.evaluate import evaluate_model

    reading = {
        "text": text, "tags": tags, "separator": separator, "id": id,
        "y_path": y_path, "label_names": label_names, "xml": xml, "zero_based": zero_based,
    }  # fmt: skip
    evaluate_model(
        model, data, reading, decoder=decoder, ks=k, a=propensity_a, b=propensity_b,
        json_file=json, labels_file=labels,
    )  # fmt: skip


@app.command(
    epilog="Examples:\n\nevenhand multilabel predict model new.csv --top-k 3 --out tags.jsonl\n\n"
    "echo 'a small editor' | evenhand multilabel predict model --decoder per_label"
)
def predict(
    model: _Model,
    data: Annotated[
        str,
        typer.Argument(
            metavar="[DATA]",
            help="A file as in training, but tags are not needed; or - for texts from the standard input:"
            " one a line, or JSON lines (where the first line starts with {) with the text columns.",
        ),
    ] = "-",
    text: _Texts = None,
    id: _Id = None,
    xml: _Xml = None,
    zero_based: _ZeroBased = None,
    top_k: Annotated[
        int | None,
        typer.Option(help="The most probable labels of each instance. (default: 5)", show_default=False),
    ] = None,
    decoder: Annotated[
        _Decoder | None,
        typer.Option(
            help="Label sets instead of --top-k. macro_f1 weighs all instances against each other, so it"
            " answers when it has read them all.",
            show_default=False,
        ),
    ] = None,
    format: Annotated[Literal["jsonl", "csv"], typer.Option(help="Form of the output.")] = "jsonl",
    separator: Annotated[
        str | None,
        typer.Option("--separator", metavar="TEXT", help="Between labels in CSV. (default: ,)"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Instead of the standard output.")
    ] = None,
) -> None:
    """Predict labels with their probabilities, most probable first.

    One line an instance: {"id": ..., "labels": [...], "probabilities": [...]}, or CSV with these columns.
    """
    from evenhand.multilabel.commands.predict import predict_labels

    reading = {"text": text, "id": id, "xml": xml, "zero_based": zero_based}
    predict_labels(
        model, data, reading, top_k=top_k, decoder=decoder, form=format, separator=separator, out=out
    )


@app.command(epilog="Example:\n\nevenhand multilabel inspect model --hardest 20")
def inspect(
    model: _Model,
    hardest: Annotated[int, typer.Option(help="How many of the hardest labels to show.")] = 10,
) -> None:
    """Show a model: its players, who speaks for which labels, its rounds and its hardest labels."""
    from evenhand.multilabel.commands.inspect import inspect_model

    inspect_model(model, hardest)


@app.command(epilog="Example:\n\nevenhand multilabel demo --out demo-model")
def demo(
    out: Annotated[Path, typer.Option("--out", metavar="MODEL", help="Folder for the model.")] = Path(
        "demo-model"
    ),
    seed: Annotated[int, typer.Option(help="Of the split and the training.")] = 0,
    jobs: Annotated[int, typer.Option(help="Threads and processes; -1 for all cores.")] = -1,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Use made-up data even where Debian's index can be had.")
    ] = False,
    instances: Annotated[int, typer.Option(hidden=True, help="Size of the made-up data.")] = 5000,
) -> None:
    """Tag Debian's packages by the game and by plain one-vs-rest, side by side.

    The tags come from the machine's own package index, fetched through apt on the first call (16 MB). Where
    there is no apt or no network, made-up data take their place.
    """
    from evenhand.multilabel.commands.demo import run_demo

    run_demo(out, seed=seed, n_jobs=jobs, synthetic=synthetic, n_instances=instances)
