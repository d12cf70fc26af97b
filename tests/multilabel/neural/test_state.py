import json

import numpy as np
import pytest
from torch import nn

from evenhand.multilabel.datasets import make_long_tail
from evenhand.multilabel.estimator import CuriosityGameClassifier
from evenhand.multilabel.model_io import Model, load_model, save_model
from evenhand.multilabel.neural.encoders import DenseLayers, OwnEncoder, SparseBag
from evenhand.multilabel.neural.estimator import NeuralGameClassifier
from evenhand.multilabel.storage import FolderError
from evenhand.multilabel.text_views import TextViews

DATA = make_long_tail(150, 12, 60, seed=0)
DENSE = DATA.X.toarray()
OWN = OwnEncoder(nn.Linear(60, 5), 5)


def fit(X=DATA.X, encoders=None, **options):
    return NeuralGameClassifier(encoders, **{"epochs": 1, "device": "cpu"} | options).fit(X, DATA.Y)


@pytest.mark.parametrize(
    ("X", "encoders", "options"),
    [
        (DATA.X, None, {}),
        (DENSE, DenseLayers((6,), 0.2), {"decoder": "macro_f1", "space": "logit"}),
        ([DATA.X, DENSE], {"view1": SparseBag(4, (3,))}, {}),
        (DATA.X, SparseBag(4), {"shared_encoder": False, "partition": "random"}),
        (DATA.X, SparseBag(4), {"rarity_reward": np.float64(0.7), "random_state": np.int64(3)}),
    ],
)
def test_the_model_predicts_the_same_to_the_bit(tmp_path, X, encoders, options):
    model = fit(X, encoders, **options)
    save_model(Model(model), tmp_path / "model")
    loaded = load_model(tmp_path / "model").classifier
    assert loaded.get_params() == model.get_params() | {"device": None}
    assert np.array_equal(model.predict_proba(X), loaded.predict_proba(X))
    for decoder in model.decoders_:
        assert (model.predict(X, decoder) != loaded.predict(X, decoder)).sum() == 0
    assert loaded.history_ == model.history_
    assert np.array_equal(loaded.held_out_f1_, model.held_out_f1_)
    again = loaded.set_params(device="cpu").fit(X, DATA.Y)
    assert np.array_equal(again.predict_proba(X), model.predict_proba(X))


def test_a_users_module_must_be_given_again(tmp_path):
    model = fit(DENSE, OWN)
    save_model(Model(model), tmp_path / "model")
    with pytest.raises(
        FolderError, match="an encoder of the user's own, which is not saved; give load_model"
    ):
        load_model(tmp_path / "model")
    with pytest.raises(FolderError, match=r"and with \{'dim': 5, 'size': None\}, in encoders"):
        load_model(tmp_path / "model", OwnEncoder(nn.Linear(60, 4), 4))
    with pytest.raises(FolderError, match="lazy layers; give it with their shapes"):
        load_model(tmp_path / "model", OwnEncoder(nn.LazyLinear(5), 5))
    with pytest.raises(FolderError, match="weight' should be float32 of shape"):
        load_model(tmp_path / "model", OwnEncoder(nn.Linear(61, 5), 5))
    loaded = load_model(tmp_path / "model", OwnEncoder(nn.Linear(60, 5), 5)).classifier
    assert np.array_equal(model.predict_proba(DENSE), loaded.predict_proba(DENSE))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "model"
    save_model(Model(fit([DATA.X, DENSE], {"view1": SparseBag(4), "view2": DenseLayers((4,))})), folder)
    return (folder / "model.json").read_text(), folder


def set_to(value, *path):
    def change(state):
        for key in path[:-1]:
            state = state[key]
        state[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_to({}, "params"), None),
        (set_to(1, "params", "strange"), "this release of evenhand knows no estimator parameter strange"),
        (set_to(-1, "params", "batch_size"), "batch_size must be a whole number"),
        (
            set_to(["view1", "view3"], "encoder_views"),
            "an encoder reads the view 'view3', which there is not",
        ),
        (set_to(["view2", "view1"], "encoder_views"), "which its encoder does not read"),
        (set_to(["view1"], "encoder_views"), "the players, encoders and views do not fit together"),
        (set_to([0, 2], "encoder_of"), "a player reads an encoder that there is not"),
        (set_to([0, True], "encoder_of"), "a player reads an encoder that there is not"),
        (set_to(59, "encoders", 0, "options", "n_features"), r"should be float32 of shape \(59, 4\)"),
        (set_to(59, "views", "view1"), "reads 60 features, but the view has 59"),
        (set_to(5, "encoders", 0, "options", "dim"), "should be float32 of shape"),
        (set_to("Other", "encoders", 0, "kind"), "there is no encoder 'Other'"),
        (set_to({}, "encoders", 0, "options"), "the options of the encoder BagEncoder are damaged"),
        (set_to("Other", "recipes", "by_view", "view1", "kind"), "there is no recipe 'Other'"),
        (set_to({"view1": 60}, "views"), "the views and their kinds are not of the same names"),
        (set_to([1], "history"), "the history is damaged"),
        (set_to({}, "decoders", "micro"), "state is of kind None"),
        (set_to("x", "calibration", "pull"), "pull"),
        (set_to(None, "n_train"), "the field 'n_train' should be of type int"),
    ],
)
def test_what_is_damaged_is_named(saved, change, message):
    text, folder = saved
    document = json.loads(text)
    change(document["state"]["classifier"])
    (folder / "model.json").write_text(json.dumps(document))
    if message is None:  # options that are missing have their defaults
        load_model(folder)
        return
    with pytest.raises(FolderError, match=message):
        load_model(folder)


def test_a_folder_that_is_not_there_is_told_of_before_the_encoders(tmp_path):
    with pytest.raises(FolderError, match="none is no folder; an evenhand model is a folder with"):
        load_model(tmp_path / "none", SparseBag(4))


def test_encoders_are_for_neural_players_alone(tmp_path):
    classifier = CuriosityGameClassifier().fit(DATA.X, DATA.Y)
    save_model(Model(classifier), tmp_path / "model")
    with pytest.raises(ValueError, match="has no neural players; leave encoders out"):
        load_model(tmp_path / "model", SparseBag(4))


def test_views_of_texts_are_saved_with_the_players(tmp_path):
    texts = [" ".join(f"w{column}" for column in DATA.X[[row]].indices) for row in range(150)]
    front = TextViews(("words",))
    model = Model(fit(front.fit_transform(texts)), front, {"data": "made up"})
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert (loaded.kind, loaded.notes) == ("neural", {"data": "made up"})
    p = model.classifier.predict_proba(model.views(texts))
    assert np.array_equal(loaded.classifier.predict_proba(loaded.views(texts)), p)


def test_another_folder_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FolderError, match="is not written over"):
        save_model(Model(fit()), tmp_path)
    with pytest.raises(FolderError, match=r"model.json is missing"):
        load_model(tmp_path)


def test_text_models_need_their_folder_no_more(tmp_path):
    """Also that the whole of a tiny text model goes through fit, save and load."""
    pytest.importorskip("transformers", reason="transformers is not installed (evenhand[text])")
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    from evenhand.multilabel.neural.encoders import PretrainedText

    words = ["[PAD]", "[UNK]", *(f"w{i}" for i in range(60))]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    source = tmp_path / "bert"
    config = transformers.BertConfig(
        vocab_size=62, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    transformers.BertModel(config).save_pretrained(source)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(source)
    texts = [" ".join(f"w{column}" for column in DATA.X[[row]].indices) for row in range(150)]
    model = fit(texts, PretrainedText(str(source), max_length=16), encoder_learning_rate=1e-4)
    save_model(Model(model), tmp_path / "model")
    source.rename(tmp_path / "elsewhere")
    loaded = load_model(tmp_path / "model").classifier
    assert np.array_equal(model.predict_proba(texts), loaded.predict_proba(texts))
    with pytest.raises(ValueError, match="is no text encoder that is on this machine"):
        loaded.fit(texts, DATA.Y)
